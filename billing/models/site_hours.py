"""What an hour came to on the whole site: what pages over months read instead of every account's sums."""

from django.db import models


class SiteHour(models.Model):
    """An hour of all accounts of one currency. Derived: deleted, it is summed up again."""

    hour = models.DateTimeField()  # Its first moment, UTC.
    currency = models.CharField(max_length=3)
    events = models.BigIntegerField(default=0)  # Live calls made in it, less what was refunded of them.
    charge_nanos = models.BigIntegerField(default=0)  # Likewise.
    share_nanos = models.BigIntegerField(default=0)  # What was posted to providers in it, of whatever hour's calls.

    class Meta:
        constraints = [models.UniqueConstraint(fields=["hour", "currency"], name="site_hour_once")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H:00} {self.currency}"
