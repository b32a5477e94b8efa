"""Clean up after processes that died: leases go back, charges in doubt are refunded (promise 5)."""

import logging
from datetime import timedelta
from uuid import UUID

from django.db import Error, connection, transaction
from django.db.models.functions import Now

from billing.models import GatewayProcess, Lease, UsageEvent
from billing.refunding import paying_budgets, refund_events
from billing.sql import lock_budgets

log = logging.getLogger(__name__)


def reclaim_dead_processes(*, dead_after_s: float = 10.0) -> int:
    """Reclaim every process whose heartbeat is older than that; return how many were.

    By the database's clock, so that machines need not agree on the time. Safe to run twice, or
    at the same time as itself: the first to mark a process has it.
    """
    dead = GatewayProcess.objects.filter(reclaimed_at__isnull=True, heartbeat_at__lt=Now() - timedelta(seconds=dead_after_s))
    reclaimed = 0
    for process_id in dead.values_list("pk", flat=True):
        try:
            reclaimed += reclaim_process(process_id, dead_after_s=dead_after_s)
        except Error as error:  # The next sweep tries again; the others need not wait for it.
            log.warning("The process %s could not be reclaimed: %s", process_id, error)
    return reclaimed


@transaction.atomic
def reclaim_process(
    process_id: UUID, *, delivered_seq: int | None = None, dead_after_s: float | None = None, is_closing: bool = False
) -> bool:
    """Fence a process and undo what it left; return whether it was there to be reclaimed.

    Its leases go back to their budgets. Its charges beyond what it had delivered are refunded,
    unless the reply is stored and can be asked for again.

    Args:
        process_id: The process.
        delivered_seq: What it had delivered, where it tells so itself; else as its row says.
        dead_after_s: Only if its heartbeat is still older than this; None: in any case.
        is_closing: It ends in good order.
    """
    found = GatewayProcess.objects.filter(pk=process_id, reclaimed_at__isnull=True)
    if dead_after_s is not None:
        found = found.filter(heartbeat_at__lt=Now() - timedelta(seconds=dead_after_s))
    # From this UPDATE on its commits wait for us, and then find themselves fenced.
    if not found.update(reclaimed_at=Now(), **({"closed_at": Now()} if is_closing else {})):
        return False
    process = GatewayProcess.objects.get(pk=process_id)
    if delivered_seq is not None and delivered_seq > process.delivered_seq:
        process.delivered_seq = delivered_seq
        process.save(update_fields=["delivered_seq"])
    doubtful = list(UsageEvent.objects.filter(process=process, seq__gt=process.delivered_seq, replayable=False, refund__isnull=True))
    _return_leases(process, doubtful)
    refunded = refund_events(doubtful, reason="Its delivery is in doubt: the process ended.", by="system")
    if not is_closing or refunded:
        log.warning("The process %s was reclaimed; %d charges were refunded.", process_id, refunded)
    return True


def _return_leases(process: GatewayProcess, doubtful: list[UsageEvent]) -> None:
    leases = list(Lease.objects.filter(process=process).order_by("budget_id"))
    budget_ids = {lease.budget_id for lease in leases}
    budget_ids.update(budget_id for event in doubtful for budget_id in paying_budgets(event))
    with connection.cursor() as cursor:
        lock_budgets(cursor, sorted(budget_ids))  # Those of the refunds, too: all in one order.
        for lease in leases:
            cursor.execute(
                "UPDATE billing_budget SET leased_nanos = leased_nanos - %s WHERE id = %s", [lease.amount_nanos, lease.budget_id]
            )
    Lease.objects.filter(process=process).delete()
