"""Who collects the money: Stripe, a fake of it, or nobody.

`provider()` is what the rest of billing asks; which it is, the settings say. Tests may put
another in its place with `use`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import cast

from django.conf import settings

from billing.providers.base import Provider
from billing.providers.offline import OfflineProvider

_instead: list[Provider] = []


def provider() -> Provider:
    """Return who collects the money."""
    return _instead[-1] if _instead else _configured()


def collects_money() -> bool:
    """Whether anybody does; if not, top-ups are refused and pages do not offer them."""
    return provider().name != "offline"


@contextmanager
def use(other: Provider) -> Iterator[None]:
    """Have another provider answer for as long as the block runs."""
    _instead.append(other)
    try:
        yield
    finally:
        _instead.remove(other)


@cache
def _configured() -> Provider:
    if settings.PAYMENTS == "offline":
        return cast("Provider", OfflineProvider())
    # Imported here: the library takes 0.2 s and 30 MB, which an offline site need not spend.
    from billing.providers.stripe import StripeProvider  # noqa: PLC0415

    return StripeProvider(
        api_key=settings.STRIPE_API_KEY,
        webhook_secret=settings.STRIPE_WEBHOOK_SECRET,
        connect_webhook_secret=settings.STRIPE_CONNECT_WEBHOOK_SECRET,
        thin_webhook_secret=settings.STRIPE_THIN_WEBHOOK_SECRET,
        timeout_s=settings.STRIPE_TIMEOUT_S,
        base_url=settings.STRIPE_FAKE_URL,
        name=settings.PAYMENTS,
    )
