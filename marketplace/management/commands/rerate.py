"""`manage.py rerate owner/model@1 2026-10 --price ...`: what a draft price would have brought in a past month."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.models import Account
from billing.money import to_decimal_string
from billing.periods import month_of
from billing.rerating import Sum, rerate
from marketplace.price_forms import PriceForm


class Command(BaseCommand):
    """Charges a month's calls again at a draft price. Nothing is written."""

    help = "Tell what a draft price would have brought in a past month, in all and by customer. Nothing is written."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("sku", help="owner/model@version")
        parser.add_argument("month", help="such as 2026-10, UTC")
        parser.add_argument("--scheme", default="flat", choices=("flat", "graduated", "volume", "package"))
        parser.add_argument("--price", default="", help="of a unit, or of a package, in currency units")
        parser.add_argument("--package-units", type=int)
        parser.add_argument("--tiers", default="", help="such as '1000 0.002, * 0.001': last unit, price of a unit, fee")
        parser.add_argument("--free-units", type=int)
        parser.add_argument("--trial-units", type=int)
        parser.add_argument("--minimum", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        """Rate and print."""
        try:
            since = datetime.strptime(options["month"], "%Y-%m").replace(tzinfo=UTC)
        except ValueError:
            message = f"{options['month']!r} is no month: write it as 2026-10."
            raise CommandError(message) from None
        fields = {name: options[name] for name in ("scheme", "package_units", "free_units", "trial_units", "minimum")}
        form = PriceForm({**fields, "unit_price": options["price"], "tiers": options["tiers"].replace(",", "\n")})
        if not form.is_valid():
            raise CommandError(form.errors.as_text())
        found = rerate({options["sku"]: form.cleaned_data["shape"]}, since=since, until=month_of(since)[1])
        names = Account.objects.in_bulk(list(found.by_account))
        for account_id, each in sorted(found.by_account.items(), key=lambda pair: -abs(pair[1].difference)):
            self.stdout.write(f"{names[account_id].name}: {_line(each)}")
        self.stdout.write(f"total: {_line(found.total)}")


def _line(each: Sum) -> str:
    sign = "+" if each.difference >= 0 else ""
    return f"{to_decimal_string(each.was)} would be {to_decimal_string(each.would_be)} ({sign}{to_decimal_string(each.difference)})"
