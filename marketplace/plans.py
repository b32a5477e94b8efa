"""The rules of plans: who may offer one, who may take it, and who is told. What it comes to is billing's matter."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q, QuerySet

from billing import plans as catalogue
from billing import subscriptions
from billing.errors import PlanInvalid
from billing.ids import public_id
from billing.models import EVERYTHING, Plan, Subscription
from billing.subscriptions import Quote
from marketplace import audit
from marketplace.changes import organization_changed
from marketplace.errors import AccountUnderReview, NotFound, ScopeMissing
from marketplace.models import ApiKey, CatalogueModel, Organization, User
from marketplace.models.caps import is_capped
from marketplace.objects.plans import SubscriptionView
from marketplace.webhooks.outbox import emit

log = logging.getLogger(__name__)
Actor = User | ApiKey


def plans_of_model(model: CatalogueModel, organization: Organization | None) -> list[Plan]:
    """Return the plans that cover a model and can be subscribed to, in the organization's currency or else the site's."""
    return catalogue.offered_plans([model.path, EVERYTHING], currency=_currency_of(organization))


def visible_plans(organization: Organization) -> list[Plan]:
    """Return every plan that an organization may subscribe to, by scope."""
    plans = Plan.objects.filter(retired_at__isnull=True, currency=organization.account.currency).select_related("usage_price")
    models = {model.path: model for model in CatalogueModel.objects.select_related("owner")}
    seen = [plan for plan in plans.order_by("scope", "fee_nanos", "code") if _is_visible(plan.scope, models, organization)]
    return sorted(seen, key=lambda plan: plan.scope != EVERYTHING)


def get_plan(organization: Organization, plan_id: UUID | None) -> Plan:
    """Return a plan that an organization may see.

    Raises:
        NotFound: there is none, or its model is somebody's private one.
    """
    plan = Plan.objects.select_related("usage_price", "fee_price").filter(pk=plan_id).first() if plan_id else None
    if plan is None or not _is_visible(plan.scope, _model_of(plan.scope), organization):
        raise NotFound
    return plan


def list_model_plans(model: CatalogueModel) -> QuerySet[Plan]:
    """Return all plans of a model, as its provider sees them: retired ones too, each with its live `subscribers`."""
    live = Count("subscriptions", filter=~Q(subscriptions__state=Subscription.State.ENDED))
    return Plan.objects.filter(scope=model.path).select_related("usage_price").annotate(subscribers=live)


def get_model_plan(model: CatalogueModel, plan_id: UUID | None) -> Plan:
    """Return one plan of a model, as `list_model_plans` does.

    Raises:
        NotFound: the model has no such one.
    """
    plan = list_model_plans(model).filter(pk=plan_id).first() if plan_id else None
    if plan is None:
        raise NotFound
    return plan


def get_subscription(organization: Organization, subscription_id: UUID | None) -> Subscription:
    """Return one of an organization's subscriptions.

    Raises:
        NotFound: it has no such one.
    """
    rows = organization.account.subscriptions.select_related("plan__usage_price", "first_price", "account")
    row = rows.filter(pk=subscription_id).first() if subscription_id else None
    if row is None:
        raise NotFound
    return row


@transaction.atomic
def offer_plan(model: CatalogueModel | None, *, facts: Mapping[str, Any], by: Actor, replaces: Plan | None = None) -> Plan:
    """Make a plan of a model, or of the whole catalogue where none is given.

    Args:
        model: What it covers.
        facts: As for `billing.plans.make_plan`, the currency being the site's.
        by: Who offers it.
        replaces: A plan of the same scope that takes nobody new from now on: how a plan is changed.

    Raises:
        PlanInvalid: nothing was made or retired.
    """
    scope = model.path if model else EVERYTHING
    if replaces is not None and replaces.scope != scope:
        message = "A plan replaces only one that covers the same."
        raise PlanInvalid(message)
    plan = catalogue.make_plan(scope=scope, currency=settings.CURRENCY, by=_name(by), **facts)
    audit.record(model.owner if model else None, action="plan.offered", target=plan.sku, by=by)
    if replaces is not None:
        retire_plan(replaces, by=by)
    return plan


@transaction.atomic
def retire_plan(plan: Plan, *, by: Actor) -> None:
    """Take nobody new; who subscribes to it keeps it. Repeating it changes nothing."""
    if catalogue.retire_plan(plan):
        owner = _model_of(plan.scope).get(plan.scope)
        audit.record(owner.owner if owner else None, action="plan.retired", target=plan.sku, by=by)


@transaction.atomic
def subscribe(
    organization: Organization, plan: Plan, *, by: Actor, as_of: datetime | None = None, most_nanos: int | None = None
) -> Subscription:
    """Begin a plan, or change to it from another one of its scope; gateways know within a second.

    Raises:
        PlanNotOffered, AlreadySubscribed, QuoteOutdated, FeeUnpaid, AccountUnderReview: nothing was charged or changed.
        ScopeMissing: a key that has a cap asks. Nothing was charged or changed.
    """
    if organization.account.under_review_at is not None:
        raise AccountUnderReview
    _check_may_spend(by)
    row = subscriptions.subscribe(organization.account, plan, by=_name(by), as_of=as_of, most_nanos=most_nanos)
    action = "subscription.changed" if row.previous_id else "subscription.began"
    audit.record(organization, action=action, target=public_id("sub", row.pk), by=by, details={"plan": plan.sku})
    _tell(organization, row, "subscription.created")
    return row


@transaction.atomic
def cancel(organization: Organization, row: Subscription, *, by: Actor) -> Subscription:
    """Let a subscription end when what is paid ends.

    Raises:
        SubscriptionEnded: it has ended already.
    """
    row = subscriptions.cancel(row)
    audit.record(organization, action="subscription.cancelled", target=public_id("sub", row.pk), by=by, details={"plan": row.plan.sku})
    organization_changed(organization)
    return row


@transaction.atomic
def resume(organization: Organization, row: Subscription, *, by: Actor) -> Subscription:
    """Take a cancellation back.

    Raises:
        SubscriptionEnded: it has ended already.
        ScopeMissing: a key that has a cap asks.
    """
    _check_may_spend(by)
    row = subscriptions.resume(row)
    audit.record(organization, action="subscription.resumed", target=public_id("sub", row.pk), by=by, details={"plan": row.plan.sku})
    organization_changed(organization)
    return row


def _check_may_spend(by: Actor) -> None:
    """Refuse a key with a cap: a fee is the account's, and no cap of a key would count it."""
    if isinstance(by, ApiKey) and is_capped(by):
        message = "This API key has a cap, so it may not take on fees, which the cap would not count."
        raise ScopeMissing(message)


def renew_due() -> int:
    """Renew or end every subscription whose month is over; return how many changed. Safe to run twice."""
    renewed = 0
    for subscription_id in subscriptions.due_subscriptions():
        try:
            renewed += _renew(subscription_id)
        except Exception:  # The next run tries again; the others need not wait for it.
            log.exception("The subscription %s could not be renewed.", subscription_id)
    return renewed


@transaction.atomic
def _renew(subscription_id: UUID) -> bool:
    row = subscriptions.renew(subscription_id, grace=timedelta(hours=settings.PLAN_GRACE_HOURS))
    if row is None:
        return False
    organization: Organization | None = getattr(row.account, "organization", None)
    if organization is not None and row.state == Subscription.State.ACTIVE:
        organization_changed(organization)  # It may have rested, unpaid.
    elif organization is not None:
        _tell(organization, row, f"subscription.{row.state}")
    return True


def quote(organization: Organization, plan: Plan) -> Quote:
    """Return what it comes to, to begin a plan now.

    Raises:
        PlanNotOffered, AlreadySubscribed: it cannot be begun.
    """
    return subscriptions.quote(organization.account, plan)


def _tell(organization: Organization, row: Subscription, event: str) -> None:
    organization_changed(organization)
    emit(organization, event, SubscriptionView(row).data)


def _model_of(scope: str) -> dict[str, CatalogueModel]:
    owner, _, name = scope.partition("/")
    model = CatalogueModel.objects.select_related("owner").filter(owner__slug=owner, name=name).first()
    return {scope: model} if model else {}


def _is_visible(scope: str, models: Mapping[str, CatalogueModel], organization: Organization) -> bool:
    if scope == EVERYTHING:
        return True
    model = models.get(scope)
    return model is not None and (model.public or model.owner_id == organization.pk)


def _currency_of(organization: Organization | None) -> str:
    return organization.account.currency if organization else settings.CURRENCY


def _name(by: Actor) -> str:
    return by.email if isinstance(by, User) else f"key:{by.pk}"
