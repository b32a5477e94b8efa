"""Typed settings from the environment; a bad value stops the start and names its variable."""

import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured


def env_str(name: str, *, default: str) -> str:
    """Return the variable's text, or the default where it is unset or empty."""
    return os.environ.get(name) or default


def env_bool(name: str, *, default: bool) -> bool:
    """Return 1/true/yes/on as True and 0/false/no/off as False."""
    text = os.environ.get(name, "").strip().lower()
    if not text:
        return default
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    message = f"{name}={text!r} is neither yes (1, true, yes, on) nor no (0, false, no, off)."
    raise ImproperlyConfigured(message)


def env_choice(name: str, *, default: str, choices: tuple[str, ...]) -> str:
    """Return the variable, which must be one of the choices."""
    text = os.environ.get(name, "").strip() or default
    if text not in choices:
        message = f"{name}={text!r} is none of {', '.join(choices)}."
        raise ImproperlyConfigured(message)
    return text


def env_int(name: str, *, default: int, minimum: int, maximum: int = 2**63 - 1) -> int:
    """Return the variable as an integer within [minimum, maximum]."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        message = f"{name}={text!r} is not an integer."
        raise ImproperlyConfigured(message) from None
    if not minimum <= value <= maximum:
        message = f"{name}={value} is outside {minimum}..{maximum}."
        raise ImproperlyConfigured(message)
    return value


def check_payments(*, payments: str, host: str, site_url: str, webhook_secret: str) -> None:
    """Stop the start where money would be made up, or paid and never heard of."""
    if payments == "fake" and not (_is_loopback(host) and _is_loopback(urlsplit(site_url).hostname or "")):
        message = "STRIPE=fake gives credit for nothing: it is for HOST and SITE_URL on this machine only. Set STRIPE_API_KEY instead."
        raise ImproperlyConfigured(message)
    if payments == "stripe" and not webhook_secret:
        message = "STRIPE_API_KEY needs STRIPE_WEBHOOK_SECRET, or no payment would be heard of: docs/stripe.md says where it is."
        raise ImproperlyConfigured(message)


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "127.0.0.1", "::1"}


def env_list(name: str, *, default: tuple[str, ...] = ()) -> list[str]:
    """Return a comma-separated variable as its non-empty, stripped parts."""
    text = os.environ.get(name, "")
    return [part.strip() for part in text.split(",") if part.strip()] or list(default)


def env_pairs(name: str, *, keys: tuple[str, ...]) -> dict[str, str]:
    """Return a comma-separated variable of `key=value` parts, each key one of those given and each value once."""
    pairs: dict[str, str] = {}
    for part in env_list(name):
        key, _, value = (text.strip() for text in part.partition("="))
        if key not in keys or key in pairs or not value or value in pairs.values():
            message = f"{name}: {part!r} is not KEY=VALUE with one of {', '.join(keys)} and a value of its own."
            raise ImproperlyConfigured(message)
        pairs[key] = value
    return pairs


def env_secret(name: str, *, file: Path) -> str:
    """Return the variable, or a random secret kept in `file` (mode 0600) from its first use on.

    A lost file means lost secrets: it belongs in the backup beside the database.
    """
    if value := os.environ.get(name):
        return value
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        pass
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(secrets.token_urlsafe(48))
    try:
        os.link(fresh, file)  # Fails if another process was first: then its secret is the one.
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return file.read_text().strip()
