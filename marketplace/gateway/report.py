"""Tell the operator's front page how this process does: its pages may be answered by another one."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.utils import timezone

from inference.engine import EngineStats
from marketplace.metrics import CallCounts
from marketplace.models import GatewayReport


class Report(NamedTuple):
    """A process and its figures, all of them since its start."""

    process_id: UUID
    figures: dict[str, Any]


class WriteReports:
    """Replaces each process's report."""

    def write(self, items: Sequence[Report]) -> list[Any]:
        """Write inside the committer's transaction."""
        now = timezone.now()
        GatewayReport.objects.bulk_create(
            [GatewayReport(process_id=item.process_id, reported_at=now, figures=item.figures) for item in items],
            update_conflicts=True,
            unique_fields=["process"],
            update_fields=["reported_at", "figures"],
        )
        return [None] * len(items)


REPORTS = WriteReports()


def make_figures(calls: CallCounts, engine: EngineStats, *, log_dropped: int) -> dict[str, Any]:
    """Return what the front page shows of a process."""
    outcomes: Counter[str] = Counter()
    for _, _, outcome, count in calls.outcomes:
        outcomes[outcome] += count
    return {
        "queue_rows": engine.queue_rows,
        "ready_workers": engine.ready_workers,
        "restarts": engine.restarts,
        "provider": engine.provider,
        "cpu_workers": engine.cpu_workers,
        "batches": engine.batches,
        "rows": engine.rows,
        "tokens": engine.tokens,
        "padded_tokens": engine.padded_tokens,
        "outcomes": dict(outcomes),
        "refused": dict(calls.refused),
        "log_dropped": log_dropped,
    }
