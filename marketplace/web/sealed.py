"""Key secrets that wait in a session to be shown, sealed: a session lies in the database, signed but readable."""

import base64
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


def seal(text: str) -> str:
    """Return ASCII text that tells nothing without `SECRET_KEY`, which is not in the database."""
    return _box().encrypt(text.encode()).decode("ascii")


def unseal(sealed: str) -> str:
    """Return what was sealed; empty if it was by another `SECRET_KEY`, or not by us: it is then as good as lost."""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken:
        return ""


def _box() -> MultiFernet:
    # Former keys still open, as they do for the session around it.
    return MultiFernet([Fernet(_derive(secret)) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


@lru_cache(maxsize=8)
def _derive(secret: str) -> bytes:
    """Return this purpose's own key (HKDF, RFC 5869): what signs cookies must not also encrypt."""
    derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"farebox session secrets").derive(secret.encode())
    return base64.urlsafe_b64encode(derived)
