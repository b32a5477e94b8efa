"""What each gateway process tells of itself, for the operator's front page."""

from django.db import models

from billing.models import GatewayProcess


class GatewayReport(models.Model):
    """A process's last word on its engine and its calls: one row for each, replaced every few seconds."""

    process = models.OneToOneField(GatewayProcess, models.CASCADE, primary_key=True, related_name="+")
    reported_at = models.DateTimeField()
    figures = models.JSONField()  # As `gateway/report.py` makes them.

    def __str__(self) -> str:
        return f"{self.process_id}"
