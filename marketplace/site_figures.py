"""The figures of the whole site that its database tells, for /metrics: the same whichever process is asked."""

from collections.abc import Mapping

from django.utils import timezone

from billing import books
from marketplace import audit


def read_site_figures() -> Mapping[str, tuple[str, float]]:
    """Return name -> help and value. What nobody has found out yet is left out: it must not read 0. Blocks on I/O."""
    figures: dict[str, tuple[str, float]] = {}
    now = timezone.now()
    run = books.find_last_run()
    if run is not None:
        age_s = (now - run.hour).total_seconds()
        figures["farebox_books_difference_nanos"] = "By how much balances differ from their facts; must read 0", run.difference_nanos
        figures["farebox_books_age_seconds"] = "Since the hour of the last check of the books", age_s
    check = audit.find_last_check()
    if check is not None:
        broken = float(check.broken_sequence is not None)
        figures["farebox_audit_chain_broken"] = "1 if the audit chain did not hold at its last check; must read 0", broken
    return figures
