"""Examine the versions that wait: the row decides who does it, so that a crash costs a version half a minute and nothing else."""

import logging
import time
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from inference.gate.examine import Examination, examine
from inference.gate.limits import GateLimits
from inference.gate.report import Report, failed
from marketplace.models import ModelVersion
from marketplace.publishing import note_examination

log = logging.getLogger(__name__)

# A claim lasts so long, and is renewed three times as often: after a crash another takes over that soon.
CLAIM: Final = timedelta(seconds=30)
_RENEW_S: Final = 10.0
# Tries that may be cut off, by a crash of ours or of the machine, before the model itself is suspected.
MAX_ATTEMPTS: Final = 3


class _ClaimLost(Exception):
    """Another one took over: this one was too slow to say that it is alive."""


def waiting_versions() -> QuerySet[ModelVersion]:
    """Return the versions that somebody should examine now, the oldest first."""
    abandoned = Q(state=ModelVersion.State.VALIDATING, claimed_until__lt=timezone.now())
    return ModelVersion.objects.filter(Q(state=ModelVersion.State.DRAFT) | abandoned).order_by("created_at")


def examine_waiting() -> int:
    """Examine versions until none waits; return how many were. May run in several processes at a time."""
    examined = 0
    while (version := claim_version()) is not None:
        try:
            _examine(version)
        except _ClaimLost:
            log.warning("The claim on version %s was lost to another process", version.pk)
        examined += 1
    return examined


def claim_version() -> ModelVersion | None:
    """Take the version that waits longest; None where none does.

    One conditional UPDATE per try: of two processes that see the same row, one changes it. Its
    number of attempts is the token that all later writes name.
    """
    for version in waiting_versions().values("pk", "attempts")[:10]:
        claimed = waiting_versions().filter(pk=version["pk"], attempts=version["attempts"])
        until = timezone.now() + CLAIM
        if claimed.update(state=ModelVersion.State.VALIDATING, claimed_until=until, attempts=F("attempts") + 1):
            return ModelVersion.objects.select_related("model__owner").get(pk=version["pk"])
    return None


def _examine(version: ModelVersion) -> None:
    if version.attempts > MAX_ATTEMPTS:
        detail = (
            f"The examination was cut off {MAX_ATTEMPTS} times, so it is not tried again. Send the version anew if the site was at fault."
        )
        _record(version, Examination(Report(checks=[failed("survival", detail)])))
        return
    examination = examine(
        settings.ARTIFACTS_DIR / version.folder,
        int8_tolerance=version.int8_tolerance,
        limits=GateLimits(wall_s=settings.GATE_TIMEOUT_S),
        on_tick=_Heartbeat(version).beat,
    )
    _record(version, examination)


class _Heartbeat:
    """Renews a claim every ten seconds, asked about every second."""

    def __init__(self, version: ModelVersion) -> None:
        self._version = version
        self._renewed = time.monotonic()

    def beat(self) -> None:
        """Renew if it is time.

        Raises:
            _ClaimLost: another process has the version now.
        """
        if time.monotonic() - self._renewed < _RENEW_S:
            return
        self._renewed = time.monotonic()
        if not _held(self._version).update(claimed_until=timezone.now() + CLAIM):
            raise _ClaimLost


def _held(version: ModelVersion) -> QuerySet[ModelVersion]:
    return ModelVersion.objects.filter(pk=version.pk, state=ModelVersion.State.VALIDATING, attempts=version.attempts)


@transaction.atomic
def _record(version: ModelVersion, examination: Examination) -> None:
    """Write down the result, if the version is still ours."""
    if _held(version).select_for_update().first() is None:
        raise _ClaimLost
    note_examination(version, examination)
