"""The text of an API key: minting, checking its form without any I/O, and its stored digest.

`fb_{sk|rk|mk}_{live|test}_{32 base62}{6 base62 CRC-32}`: secret scanners find it by pattern,
and a mistyped key is told so before anything is looked up.
"""

import hmac
import secrets
import string
import zlib
from typing import Final

from django.conf import settings

from marketplace.errors import KeyMalformed, KeyMissing, KeyMistyped
from marketplace.models import ApiKey

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ALPHABET_SET: Final = frozenset(_ALPHABET)
_RANDOM_LENGTH: Final = 32  # 190 bits.
_CHECKSUM_LENGTH: Final = 6  # 62**6 > 2**32.
_PREFIXES: Final = {f"fb_{kind}_{mode}_": (ApiKey.Kind(kind), mode == "live") for kind in ApiKey.Kind.values for mode in ("live", "test")}
_PREFIX_LENGTH: Final = 11
SECRET_LENGTH: Final = _PREFIX_LENGTH + _RANDOM_LENGTH + _CHECKSUM_LENGTH
_PEPPER: Final = settings.KEY_PEPPER.encode()


def checksum(text: str) -> str:
    """Return the CRC-32 of ASCII text as six base62 digits."""
    value, digits = zlib.crc32(text.encode("ascii")), ""
    for _ in range(_CHECKSUM_LENGTH):
        value, digit = divmod(value, 62)
        digits = _ALPHABET[digit] + digits
    return digits


def mint_secret(kind: ApiKey.Kind, *, livemode: bool) -> str:
    """Return a fresh key's text."""
    body = f"fb_{kind.value}_{'live' if livemode else 'test'}_" + "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM_LENGTH))
    return body + checksum(body)


def bearer_secret(header: str | None) -> str:
    """Return the key inside an Authorization header; its form is not checked yet.

    Raises:
        KeyMissing: there is no such header.
        KeyMalformed: it is not `Bearer <key>`.
    """
    if not header:
        raise KeyMissing
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise KeyMalformed
    return secret.strip()


def check_form(secret: str) -> None:
    """Check a key's pattern and checksum, without any I/O.

    Raises:
        KeyMalformed: this is not one of our keys at all.
        KeyMistyped: it looks like one, but its checksum is wrong.
    """
    if len(secret) != SECRET_LENGTH or secret[:_PREFIX_LENGTH] not in _PREFIXES or not _ALPHABET_SET.issuperset(secret[_PREFIX_LENGTH:]):
        raise KeyMalformed
    if checksum(secret[:-_CHECKSUM_LENGTH]) != secret[-_CHECKSUM_LENGTH:]:
        raise KeyMistyped


def digest(secret: str) -> str:
    """Return the hexadecimal HMAC-SHA-256 that a key is stored and found under.

    A unique index finds it, so nothing compares digests byte by byte in our code. No slow
    hash: the secret has 190 random bits (OWASP ASVS 6.5.2).
    """
    return hmac.digest(_PEPPER, secret.encode("ascii"), "sha256").hex()
