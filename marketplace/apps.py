"""The marketplace as a Django application."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MarketplaceConfig(AppConfig):
    """Names the application, and makes Celery's app the current one."""

    name = "marketplace"
    verbose_name = _("Marketplace")

    def ready(self) -> None:
        """Import the Celery app, so that `shared_task`s sent from anywhere use its broker."""
        from marketplace import celery, checks  # noqa: F401, PLC0415 (settings must be ready first)
