"""What an organization does about its payments, on the record: buy credit, cards, auto-recharge; and what the operator does."""

from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from billing import customers, disputes, recharging, repaying, sending, topups
from billing.ids import public_id
from billing.models import AutoRecharge, Card, Customer, Notice, PaymentRefund, Subscription, TopUp
from billing.money import Nanos, render_cents, to_decimal_string
from billing.providers import provider
from marketplace import audit
from marketplace.models import ApiKey, Membership, Organization, User

# Notices of one run; more come some seconds later.
_MAILS_AT_ONCE = 50


def buy_credit(organization: Organization, amount_cents: int, *, by: User | ApiKey) -> TopUp:
    """Start a top-up; return it with the address of its Checkout page, or without where the provider did not answer in time.

    Without one it is asked for again by itself, and the top-up's own page shows the address then.

    Raises:
        PaymentsOff, PaymentsFrozen, TopUpOutOfRange: nothing was started.
    """
    page = f"{settings.SITE_URL}/billing/top-ups/{{id}}/"
    with transaction.atomic():
        top_up, row = topups.start_top_up(organization.account, amount_cents, by=_name(by), success_url=page, cancel_url=page)
        details = {"amount": render_cents(amount_cents), "currency": top_up.currency}
        audit.record(organization, action="top_up.started", target=public_id("top", top_up.pk), by=by, details=details)
    sending.deliver(row.pk)
    top_up.refresh_from_db()
    return top_up


@transaction.atomic
def start_recharging(
    organization: Organization, *, threshold_nanos: int, amount_cents: int, monthly_ceiling_cents: int, by: User
) -> AutoRecharge:
    """Turn auto-recharge on, or change it.

    Raises:
        PaymentsOff, PaymentsFrozen, CardMissing, RechargeInvalid: nothing was changed.
    """
    recharge = recharging.set_auto_recharge(
        organization.account, threshold_nanos=threshold_nanos, amount_cents=amount_cents, monthly_ceiling_cents=monthly_ceiling_cents
    )
    details = {
        "threshold": to_decimal_string(Nanos(threshold_nanos), places=2),
        "amount": render_cents(amount_cents),
        "monthly_ceiling": render_cents(monthly_ceiling_cents),
    }
    audit.record(organization, action="auto_recharge.set", target=organization, by=by, details=details)
    return recharge


@transaction.atomic
def stop_recharging(organization: Organization, *, by: User) -> None:
    """Turn auto-recharge off."""
    recharging.stop_auto_recharge(organization.account)
    audit.record(organization, action="auto_recharge.stopped", target=organization, by=by)


@transaction.atomic
def forget_card(organization: Organization, card_id: str, *, by: User | ApiKey) -> Card:
    """Remove a saved card, here at once and soon at the provider.

    Raises:
        CardMissing: the organization has no such card.
    """
    card = customers.remove_card(organization.account, card_id)
    audit.record(organization, action="card.removed", target=str(card), by=by)
    return card


@transaction.atomic
def prefer_card(organization: Organization, card_id: str, *, by: User) -> Card:
    """Have a saved card charged from now on.

    Raises:
        CardMissing: the organization has no such card.
    """
    card = customers.choose_card(organization.account, card_id)
    audit.record(organization, action="card.chosen", target=str(card), by=by)
    return card


def portal_address(organization: Organization) -> str | None:
    """Return the address of the provider's page for cards and receipts; None before the first top-up.

    Raises:
        ProviderUnavailable, ProviderRefused: there is none now.
    """
    customer = Customer.objects.filter(account=organization.account).exclude(customer_id="").first()
    return provider().open_portal(customer.customer_id, return_url=f"{settings.SITE_URL}/billing/") if customer else None


# ---------------------------------------------------------------- The operator


def refund_payment(top_up: TopUp, *, amount_cents: int, reason: str, reference: UUID, by: User) -> PaymentRefund:
    """Give a payment back to its card, in part or in full; the credit goes at once. Safe to repeat: one refund per reference.

    Raises:
        RefundTooLarge, PaymentsFrozen: nothing was refunded.
    """
    organization: Organization = top_up.account.organization
    with transaction.atomic():
        is_new = not PaymentRefund.objects.filter(pk=reference).exists()
        refund, row = repaying.refund_top_up(top_up, amount_cents, reason=reason, reference=reference, by=by.email)
        if is_new:
            details = {"amount": render_cents(amount_cents), "currency": top_up.currency, "reason": reason}
            audit.record(organization, action="payment.refunded", target=public_id("top", top_up.pk), by=by, details=details)
    sending.deliver(row.pk)
    refund.refresh_from_db()
    return refund


@transaction.atomic
def unfreeze(organization: Organization, *, reason: str, by: User) -> None:
    """Let an organization pay again after a dispute that it won over us."""
    disputes.unfreeze_payments(organization.account)
    audit.record(organization, action="payments.unfrozen", target=organization, by=by, details={"reason": reason})


# ---------------------------------------------------------------- Mail


def send_notices() -> int:
    """Mail what organizations have to be told; return how many notices were sent. A crash may send one twice, never none."""
    sent = 0
    for notice in (
        Notice.objects.filter(sent_at__isnull=True).select_related("account__organization").order_by("created_at")[:_MAILS_AT_ONCE]
    ):
        facts = _facts_of(notice)
        owners = Membership.objects.filter(organization=notice.account.organization, role=Membership.Role.OWNER, user__is_active=True)
        addresses = list(owners.values_list("user__email", flat=True))
        context = {"notice": notice, "organization": notice.account.organization, "site_url": settings.SITE_URL, **(facts or {})}
        if addresses and facts is not None:
            subject = " ".join(render_to_string(f"billing/mail/{notice.kind}_subject.txt", context).split())
            send_mail(subject, render_to_string(f"billing/mail/{notice.kind}.txt", context), None, addresses)
        Notice.objects.filter(pk=notice.pk).update(sent_at=timezone.now())
        sent += 1
    return sent


def _facts_of(notice: Notice) -> dict[str, Any] | None:
    """Return what else a mail tells: of a plan, the subscription that its subject begins with; None where it is true no more."""
    if notice.kind not in {Notice.Kind.PLAN_UNPAID, Notice.Kind.PLAN_LAPSED}:
        return {}
    subscription = Subscription.objects.select_related("plan").get(pk=notice.subject.partition("/")[0])
    if notice.kind == Notice.Kind.PLAN_UNPAID and subscription.state != Subscription.State.UNPAID:
        return None  # Paid, or ended, before the mail was sent.
    return {"subscription": subscription}


def _name(by: User | ApiKey) -> str:
    return by.email if isinstance(by, User) else f"key:{by.pk}"
