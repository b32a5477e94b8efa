"""How a webhook shows that it is ours: Standard Webhooks' symmetric signatures. Pure.

Source: Standard Webhooks, "Signature scheme": HMAC-SHA-256 over `id.timestamp.body`, the key being the
decoded part of the secret behind `whsec_`.
"""

import base64
import hmac
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

_PREFIX: Final = "whsec_"
# The standard allows 24 to 64.
_SECRET_BYTES: Final = 24


def mint_secret() -> str:
    """Return a new secret: `whsec_` and 24 random bytes in base64."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return one signature, `v1,` and base64.

    Args:
        secret: `whsec_...`.
        message_id: The same at every attempt.
        timestamp: Unix seconds of this attempt.
        body: Exactly as sent.
    """
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = b"%b.%d.%b" % (message_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, sha256)).decode()


def signature_headers(secrets_: Sequence[str], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the three headers; while a secret rotates, with a signature by each."""
    signatures = [sign(secret, message_id=message_id, timestamp=timestamp, body=body) for secret in secrets_]
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": " ".join(signatures)}
