"""`manage.py pay_providers`: send providers of models what they are owed now, outside of the weekly run."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from billing.models import PayoutAccount
from billing.money import render_cents
from billing.payable import payable_of
from billing.payout_runs import pay_providers
from billing.payouts import find_obstacle


class Command(BaseCommand):
    """Makes the payouts that are due, or tells which would be made."""

    help = "Send every provider of models what it can be sent now. Running it twice sends nothing twice."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("--dry-run", action="store_true", help="tell what could be sent, and to whom; send nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Send, or tell."""
        now = timezone.now()
        if options["dry_run"]:
            for payee in PayoutAccount.objects.select_related("account").order_by("pk"):
                for payable in payable_of(payee.account, now=now):
                    why = find_obstacle(payee)
                    amount = render_cents(payable.cents)
                    self.stdout.write(f"{payee.account.name}: {amount} {payable.currency}{f' ({why}: nothing is sent)' if why else ''}")
            return
        for payout in pay_providers(now=now, by="manage.py pay_providers"):
            amount = render_cents(payout.amount_cents)
            self.stdout.write(f"{payout.account.name}: {amount} {payout.currency} is being sent")
