"""What an organization that publishes models does about being paid, on the record; and what the operator does."""

from collections.abc import Sequence
from contextlib import suppress

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing import connecting, payout_runs, sending
from billing.errors import ProviderRefused, ProviderUnavailable
from billing.models import Payout, PayoutAccount
from marketplace import audit
from marketplace.models import Organization, User


def set_up_payouts(organization: Organization, *, country: str, by: User) -> str | None:
    """Have the organization made an account at the payment provider; return the address of the page on which it is filled in.

    None where the provider did not answer in time: it is asked again by itself, and the page can be had later.

    Raises:
        PaymentsOff: this site pays nobody. Nothing was started.
        ProviderRefused: no account can be made, or there is no page; the reason is shown on the page of payouts.
        ValueError: the country is not one of PAYOUT_COUNTRIES. Nothing was started.
    """
    if country not in settings.PAYOUT_COUNTRIES:
        message = "Providers in this country are not paid here."
        raise ValueError(message)
    with transaction.atomic():
        payee, row = connecting.start_onboarding(organization.account, country=country)
        if row is not None:
            audit.record(organization, action="payouts.set_up", target=organization, by=by, details={"country": payee.country})
    if row is not None:
        sending.deliver(row.pk)
        payee.refresh_from_db()
    if payee.failure:
        raise ProviderRefused(reason=payee.failure)
    return onboarding_address(organization) if payee.connected_id else None


def onboarding_address(organization: Organization) -> str:
    """Return the address of the page on which the organization hands in what it is asked for. It works once.

    Raises:
        OnboardingNotStarted, ProviderUnavailable, ProviderRefused: there is none now.
    """
    page = f"{settings.SITE_URL}/revenue/setup"
    return connecting.onboarding_address(organization.account, return_url=f"{page}/done/", refresh_url=f"{page}/again/")


def look_at_onboarding(organization: Organization) -> None:
    """Ask the payment provider how far the organization is; without an answer, nothing changes."""
    payee = PayoutAccount.objects.select_related("account").filter(account=organization.account).first()
    if payee is not None:
        with suppress(ProviderUnavailable, ProviderRefused):
            connecting.refresh_payee(payee)


# ---------------------------------------------------------------- The operator


@transaction.atomic
def hold_payouts(organization: Organization, *, reason: str, by: User) -> None:
    """Have an organization sent nothing until it is released."""
    connecting.hold_payouts(organization.account)
    audit.record(organization, action="payouts.held", target=organization, by=by, details={"reason": reason})


@transaction.atomic
def release_payouts(organization: Organization, *, by: User) -> None:
    """Let an organization be paid out again."""
    connecting.release_payouts(organization.account)
    audit.record(organization, action="payouts.released", target=organization, by=by)


def pay_now(organization: Organization, *, by: User) -> Sequence[Payout]:
    """Send an organization what it can be sent now, without waiting for the next run; return the payouts.

    Raises:
        ProviderUnavailable, ProviderRefused: its account could not be asked about. Nothing was sent.
        ValueError: there is nothing that can be sent. Nothing was.
    """
    payee = PayoutAccount.objects.select_related("account").filter(account=organization.account).exclude(connected_id="").first()
    if payee is not None:
        connecting.refresh_payee(payee)
        with transaction.atomic():
            made = payout_runs.pay_provider(organization.account, now=timezone.now(), by=str(by))
            for payout in made:
                details = {"amount_cents": payout.amount_cents, "currency": payout.currency}
                audit.record(organization, action="payout.made", target=payout.pk, by=by, details=details)
        if made:
            return made
    message = "Nothing can be sent: it is not set up, held, suspended, on its way already, or less than the minimum is payable."
    raise ValueError(message)
