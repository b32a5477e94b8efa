"""Accounts as customers of the payment provider, and their saved cards."""

from django.db import transaction
from django.utils import timezone

from billing import outbox
from billing.errors import CardMissing, PaymentsFrozen
from billing.models import Account, Card, Customer, Notice
from billing.providers.base import CardState, CustomerState


def ensure_customer(account: Account) -> Customer:
    """Return an account's customer; a new one is made at the provider by the outbox. In a transaction."""
    customer, is_new = Customer.objects.get_or_create(account=account)
    if is_new:
        outbox.enqueue(account, kind="customer.create", subject=account.pk, parameters={"name": account.name})
    return customer


def lock_customer(account: Account) -> Customer:
    """Return an account's customer, locked until the transaction ends: changes of its payments come one by one."""
    ensure_customer(account)
    return Customer.objects.select_for_update().get(account=account)


def check_not_frozen(customer: Customer) -> None:
    """Refuse where a dispute has stopped an account's payments.

    Raises:
        PaymentsFrozen: it has.
    """
    if customer.frozen_at is not None:
        message = "A payment of this account is disputed: until that is settled, it can neither pay nor be refunded."
        raise PaymentsFrozen(message)


@transaction.atomic
def apply_customer(account: Account, state: CustomerState) -> None:
    """Note what the provider says of an account's customer."""
    customer = lock_customer(account)
    if not customer.customer_id:
        customer.customer_id = state.id
    if customer.customer_id != state.id:
        return  # A second one, made when the provider had forgotten our first request: nothing is ever paid by it.
    if state.default_card:
        customer.chosen_card = state.default_card
    customer.save(update_fields=["customer_id", "chosen_card"])


@transaction.atomic
def apply_card(state: CardState) -> bool:
    """Note a card as it is at the provider; False where it is no card of ours.

    Adding and removing may arrive in either order: who is removed stays so.
    """
    known = Card.objects.select_for_update().filter(card_id=state.id).first()
    if known is not None:
        if state.customer is None and known.removed_at is None:
            known.removed_at = timezone.now()
            known.save(update_fields=["removed_at"])
        return True
    customer = Customer.objects.filter(customer_id=state.customer).first() if state.customer else None
    if customer is None:
        return False
    Card.objects.get_or_create(
        card_id=state.id,
        defaults={
            "customer": customer,
            "brand": state.brand,
            "last4": state.last4,
            "exp_month": state.exp_month,
            "exp_year": state.exp_year,
            "attached_at": state.created_at,
        },
    )
    return True


def saved_cards(account: Account) -> list[Card]:
    """Return an account's cards, the one that is charged first."""
    cards = list(Card.objects.filter(customer__account=account, removed_at__isnull=True).order_by("-attached_at", "-card_id"))
    chosen = Customer.objects.filter(account=account).values_list("chosen_card", flat=True).first() or ""
    return sorted(cards, key=lambda card: card.card_id != chosen)


@transaction.atomic
def choose_card(account: Account, card_id: str) -> Card:
    """Have a saved card charged from now on.

    Raises:
        CardMissing: the account has no such card.
    """
    card = _get_card(account, card_id)
    Customer.objects.filter(account=account).update(chosen_card=card.card_id)
    return card


@transaction.atomic
def remove_card(account: Account, card_id: str) -> Card:
    """Forget a card: here at once, at the provider by the outbox.

    Raises:
        CardMissing: the account has no such card.
    """
    card = _get_card(account, card_id)
    card.removed_at = timezone.now()
    card.save(update_fields=["removed_at"])
    outbox.enqueue(account, kind="card.detach", subject=card.card_id, parameters={"card": card.card_id})
    return card


def _get_card(account: Account, card_id: str) -> Card:
    card = Card.objects.select_for_update().filter(customer__account=account, card_id=card_id, removed_at__isnull=True).first()
    if card is None:
        message = "There is no such saved card."
        raise CardMissing(message)
    return card


def notify(account: Account, kind: Notice.Kind, *, subject: object) -> None:
    """Have an account's people told something by mail, once per subject. In a transaction."""
    Notice.objects.get_or_create(kind=kind, subject=str(subject), defaults={"account": account})
