"""Secrets that must be read back, sealed: the database holds them, but not what opens them.

Key secrets that wait in a session to be shown once, and what webhooks are signed with.
"""

import base64
from functools import lru_cache
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

SESSIONS: Final = "session secrets"


def seal(text: str, *, purpose: str = SESSIONS) -> str:
    """Return ASCII text that tells nothing without `SECRET_KEY`, which is not in the database."""
    return _box(purpose).encrypt(text.encode()).decode("ascii")


def unseal(sealed: str, *, purpose: str = SESSIONS) -> str:
    """Return what was sealed for that purpose; empty if it was by another `SECRET_KEY`, or not by us: it is then as good as lost."""
    try:
        return _box(purpose).decrypt(sealed.encode()).decode()
    except InvalidToken:
        return ""


def _box(purpose: str) -> MultiFernet:
    # Former keys still open, as they do for the session around it.
    return MultiFernet([Fernet(_derive(secret, purpose)) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


@lru_cache(maxsize=16)
def _derive(secret: str, purpose: str) -> bytes:
    """Return a purpose's own key (HKDF, RFC 5869): what signs cookies must not also encrypt."""
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"farebox {purpose}".encode()).derive(secret.encode())
    return base64.urlsafe_b64encode(derived)
