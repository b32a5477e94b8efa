"""When Celery beat runs what, and how tasks reach its workers: read by the settings."""

from pathlib import Path
from typing import Any, Final

# Seconds between runs. Each task may run twice or late: the database decides, not the clock.
BEAT_SCHEDULE: Final[dict[str, Any]] = {
    "reclaim-dead-processes": {"task": "billing.tasks.reclaim_dead_processes", "schedule": 5.0, "options": {"expires": 5}},
    # Asked for each minute, done once an hour: a site that was just started is not unchecked until the next.
    "check-books": {"task": "marketplace.tasks.check_books", "schedule": 60.0, "options": {"expires": 60}},
    "check-audit": {"task": "marketplace.tasks.check_audit", "schedule": 60.0, "options": {"expires": 60}},
    "rederive-invoices": {"task": "billing.tasks.rederive_invoices", "schedule": 86_400.0, "options": {"expires": 3600}},
    "check-receipts": {"task": "billing.tasks.check_receipts", "schedule": 86_400.0, "options": {"expires": 3600}},
    "post-usage": {"task": "billing.tasks.post_usage", "schedule": 300.0, "options": {"expires": 300}},
    "post-all-usage": {"task": "billing.tasks.post_all_usage", "schedule": 86_400.0, "options": {"expires": 3600}},
    "expire-credit": {"task": "billing.tasks.expire_credit", "schedule": 30.0, "options": {"expires": 30}},
    "close-periods": {"task": "billing.tasks.close_periods", "schedule": 900.0, "options": {"expires": 600}},
    "run-predictions": {"task": "marketplace.tasks.run_predictions", "schedule": 5.0, "options": {"expires": 5}},
    "deliver-webhooks": {"task": "marketplace.tasks.deliver_webhooks", "schedule": 5.0, "options": {"expires": 5}},
    "examine-versions": {"task": "marketplace.tasks.examine_versions", "schedule": 5.0, "options": {"expires": 5}},
    "sweep-payments": {"task": "billing.tasks.sweep_payments", "schedule": 3.0, "options": {"expires": 3}},
    "catch-up-payments": {"task": "billing.tasks.catch_up_payments", "schedule": 300.0, "options": {"expires": 300}},
    # Asked for often, done once a week or month, and once a day.
    "pay-providers": {"task": "billing.tasks.pay_providers", "schedule": 600.0, "options": {"expires": 600}},
    "check-payouts": {"task": "billing.tasks.check_payouts", "schedule": 900.0, "options": {"expires": 900}},
    "feed-meters": {"task": "billing.tasks.feed_meters", "schedule": 300.0, "options": {"expires": 300}},
    "check-meters": {"task": "billing.tasks.check_meters", "schedule": 900.0, "options": {"expires": 900}},
    "dun": {"task": "billing.tasks.dun", "schedule": 60.0, "options": {"expires": 60}},
    "renew-plans": {"task": "marketplace.tasks.renew_plans", "schedule": 60.0, "options": {"expires": 60}},
    "look-for-notices": {"task": "marketplace.tasks.look_for_notices", "schedule": 60.0, "options": {"expires": 60}},
    "send-notices": {"task": "marketplace.tasks.send_notices", "schedule": 30.0, "options": {"expires": 30}},
    "prune": {"task": "marketplace.tasks.prune", "schedule": 3600.0, "options": {"expires": 600}},
}


def broker_options(url: str, *, folder: Path) -> dict[str, Any]:
    """Return the options of Celery's broker: of the embedded one, the folders that tasks pass through."""
    if not url.startswith("filesystem://"):
        return {"visibility_timeout": 3600}  # Seconds; longer than the longest task.
    return {
        "data_folder_in": str(folder / "queue"),
        "data_folder_out": str(folder / "queue"),
        "control_folder": str(folder / "control"),
        "processed_folder": str(folder / "processed"),
        "store_processed": False,
    }
