"""Organizations and people: shown, suspended, given credit."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

from allauth.account.models import EmailAddress
from django import forms
from django.contrib import admin
from django.contrib.auth.models import Group
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminDateWidget, UnfoldAdminDecimalFieldWidget, UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from billing.credits import DEFAULT_PRIORITY
from billing.errors import AmountMalformed
from billing.ids import uuid7
from billing.ledger import balance
from billing.money import Nanos, parse_amount
from marketplace.admin.deeds import ConfirmForm, ReasonForm, bind, find_target, operator_of, run_deed
from marketplace.admin.facts import FactAdmin, show_money
from marketplace.credits import give_credit
from marketplace.models import Membership, Organization, User
from marketplace.payments import unfreeze
from marketplace.postpaid import give_credit_line, give_tax_rate
from marketplace.reviews import lift_review
from marketplace.tenants import block_user, restore_organization, suspend_organization, unblock_user

admin.site.unregister(Group)  # Rights here are one flag; groups would only suggest more.
admin.site.unregister(EmailAddress)  # Its form would verify an address without asking its owner.


class CreditForm(ReasonForm):
    """How much credit, and why."""

    amount = forms.CharField(
        max_length=20, widget=UnfoldAdminDecimalFieldWidget(), help_text="In the account's currency, such as 25 or 12.50."
    )
    # Made with the page, so that sending it twice grants once.
    reference = forms.CharField(widget=forms.HiddenInput())
    last_day = forms.DateField(
        required=False, widget=UnfoldAdminDateWidget(), help_text="What is unspent at the end of this day, UTC, leaves again. Empty: never."
    )
    priority = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=100,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text=f"0 is used first, 100 last; among equals what expires sooner. Empty: {DEFAULT_PRIORITY}, as all other credit.",
    )
    field_order = ("amount", "last_day", "priority", "reason")

    def clean_amount(self) -> Nanos:
        """Return the amount in nanos."""
        try:
            amount = parse_amount(self.cleaned_data["amount"])
        except AmountMalformed:
            message = "Send a plain decimal, such as 12.50."
            raise forms.ValidationError(message) from None
        if not amount:
            message = "Nothing would be granted."
            raise forms.ValidationError(message)
        return amount

    def clean_priority(self) -> int:
        """Return the place in the order of use."""
        priority: int | None = self.cleaned_data["priority"]
        return DEFAULT_PRIORITY if priority is None else priority

    def clean_last_day(self) -> datetime | None:
        """Return the moment at which it expires."""
        day = self.cleaned_data["last_day"]
        if day is None:
            return None
        expires_at = datetime.combine(day, time.min, tzinfo=UTC) + timedelta(days=1)
        if expires_at <= timezone.now():
            message = "This day has passed."
            raise forms.ValidationError(message)
        return expires_at


class LineForm(ReasonForm):
    """How much may be owed, and why."""

    amount = forms.CharField(
        max_length=20, widget=UnfoldAdminDecimalFieldWidget(), help_text="In the account's currency; 0 makes it prepaid."
    )
    field_order = ("amount", "reason")

    def clean_amount(self) -> Nanos:
        """Return the amount in nanos."""
        try:
            return parse_amount(self.cleaned_data["amount"])
        except AmountMalformed:
            message = "Send a plain decimal, such as 1000."
            raise forms.ValidationError(message) from None


class TaxForm(ReasonForm):
    """A rate of its own, and why."""

    rate = forms.DecimalField(
        min_value=0,
        max_value=100,
        decimal_places=2,
        required=False,
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text="Percent of the net amount; 0 for reverse charge, empty for the site's rate.",
    )
    name = forms.CharField(max_length=40, required=False, widget=UnfoldAdminTextInputWidget(), help_text="As invoices print it.")
    field_order = ("rate", "name", "reason")


class MembershipInline(TabularInline):
    """Who belongs to an organization."""

    model = Membership
    extra = 0
    can_delete = False
    fields = ("user", "role", "created_at")
    readonly_fields = ("user", "role", "created_at")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 (Django's signature)
        """No: people join by invitation."""
        return False


@admin.register(Organization)
class OrganizationAdmin(FactAdmin):
    """All tenants."""

    list_display = ("slug", "name", "status", "available", "working_keys", "created_at")
    list_filter = (("suspended_at", admin.EmptyFieldListFilter),)
    search_fields = ("slug", "name", "members__email")
    ordering = ("-created_at",)
    fields = (
        "name",
        "slug",
        "status",
        "suspended_at",
        "review",
        "granted",
        "spent",
        "held",
        "available",
        "credit_line",
        "working_keys",
        "created_at",
        "first_call_at",
    )
    list_select_related = ("account",)
    readonly_fields = ("status", "review", "granted", "spent", "held", "available", "credit_line", "working_keys")
    inlines = (MembershipInline,)
    actions_detail = ("give_credit", "set_line", "set_tax", "suspend", "restore", "unfreeze", "lift_review")

    @display(description="Status", label={"active": "success", "suspended": "danger", "under review": "danger"})
    def status(self, organization: Organization) -> str:
        """Whether its keys work."""
        if organization.suspended_at:
            return "suspended"
        return "under review" if organization.account.under_review_at else "active"

    @display(description="Under review for")
    def review(self, organization: Organization) -> str:
        """Which difference of the books keeps it from being charged."""
        return organization.account.review_words if organization.account.under_review_at else "–"

    @display(description="Granted")
    def granted(self, organization: Organization) -> str:
        """All credit it was ever given."""
        return show_money(balance(organization.account).granted, organization.account.currency)

    @display(description="Spent")
    def spent(self, organization: Organization) -> str:
        """What it spent, less refunds."""
        return show_money(balance(organization.account).spent, organization.account.currency)

    @display(description="Held")
    def held(self, organization: Organization) -> str:
        """What its running calls have set aside."""
        return show_money(balance(organization.account).held, organization.account.currency)

    @display(description="Credit left")
    def available(self, organization: Organization) -> str:
        """What it may still spend."""
        return show_money(balance(organization.account).available, organization.account.currency)

    @display(description="Credit line")
    def credit_line(self, organization: Organization) -> str:
        """What it may owe."""
        account = organization.account
        return show_money(account.credit_line_nanos, account.currency) + (
            ", stopped by an unpaid invoice" if account.line_withdrawn_at else ""
        )

    @display(description="Working keys")
    def working_keys(self, organization: Organization) -> int:
        """How many keys of it work now, live and test, without those of playgrounds."""
        return organization.keys.live().issued().count()

    @action(description="Give credit", url_path="give-credit", permissions=["deed"], icon="payments")
    def give_credit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give prepaid credit."""
        organization: Organization = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            give_credit(
                organization,
                amount_nanos=fields["amount"],
                reason=fields["reason"],
                reference=f"operator:{fields['reference']}",
                by=operator_of(request),
                expires_at=fields["last_day"],
                priority=fields["priority"],
            )

        form = bind(CreditForm, request, initial={"reference": str(uuid7())})
        warning = "It can be spent at once, and is entered in the ledger."
        return run_deed(self, request, title=f"Give credit to {organization}", warning=warning, form=form, do=do, target=organization)

    @action(description="Credit line", url_path="credit-line", permissions=["deed"], icon="account_balance")
    def set_line(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let it pay afterwards."""
        organization: Organization = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            give_credit_line(organization, fields["amount"], reason=fields["reason"], by=operator_of(request))

        warning = "Its calls may cost so much beyond its credit. Each month, what credit does not cover is collected by an invoice."
        form = bind(LineForm, request)
        return run_deed(self, request, title=f"Credit line of {organization}", warning=warning, form=form, do=do, target=organization)

    @action(description="Tax rate", url_path="tax-rate", permissions=["deed"], icon="percent")
    def set_tax(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Give it a tax rate of its own."""
        organization: Organization = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            rate = fields["rate"]
            points = None if rate is None else int(rate * 100)
            give_tax_rate(organization, points, name=fields["name"], reason=fields["reason"], by=operator_of(request))

        warning = "It holds from its next closed month on. Prices include the tax: the total stays the same."
        form = bind(TaxForm, request)
        return run_deed(self, request, title=f"Tax rate of {organization}", warning=warning, form=form, do=do, target=organization)

    @action(description="Suspend", url_path="suspend", permissions=["deed"], icon="block")
    def suspend(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Stop all keys."""
        organization: Organization = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            suspend_organization(organization, reason=fields["reason"], by=operator_of(request))

        warning = "All its keys answer 403 within a second. Nothing is deleted."
        form = bind(ReasonForm, request)
        return run_deed(self, request, title=f"Suspend {organization}", warning=warning, form=form, do=do, target=organization)

    @action(description="Restore", url_path="restore", permissions=["deed"], icon="undo")
    def restore(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let its keys work again."""
        organization: Organization = find_target(self, request, object_id)

        def do(_: Any) -> None:
            restore_organization(organization, by=operator_of(request))

        warning = "Keys that are neither revoked nor expired work again within a second."
        form = bind(ConfirmForm, request)
        return run_deed(self, request, title=f"Restore {organization}", warning=warning, form=form, do=do, target=organization)

    @action(description="Lift review", url_path="lift-review", permissions=["deed"], icon="fact_check")
    def lift_review(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let it be charged again after its books were looked at."""
        organization: Organization = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            lift_review(organization, reason=fields["reason"], by=operator_of(request))

        words = organization.account.review_words or "It is under no review."
        warning = f"{words} Its live keys work again within a second. This difference will not stop it again; another will."
        form = bind(ReasonForm, request)
        return run_deed(self, request, title=f"Lift the review of {organization}", warning=warning, form=form, do=do, target=organization)

    @action(description="Unfreeze payments", url_path="unfreeze", permissions=["deed"], icon="credit_score")
    def unfreeze(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let it pay again after a lost dispute."""
        organization: Organization = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            unfreeze(organization, reason=fields["reason"], by=operator_of(request))

        warning = "It can top up again, and auto-recharge may charge its card. Credit that a dispute took stays taken."
        form = bind(ReasonForm, request)
        return run_deed(self, request, title=f"Unfreeze payments of {organization}", warning=warning, form=form, do=do, target=organization)


@admin.register(User)
class UserAdmin(FactAdmin):
    """All people. Passwords are neither shown nor set here."""

    list_display = ("email", "is_verified", "is_active", "is_staff", "last_login", "date_joined")
    list_filter = ("is_active", "is_staff")
    search_fields = ("email",)
    ordering = ("-date_joined",)
    fields = ("email", "is_verified", "is_active", "is_staff", "is_superuser", "last_login", "date_joined", "belongs_to")
    readonly_fields = ("is_verified", "belongs_to")
    actions_detail = ("block", "unblock")

    @display(description="Verified", boolean=True)
    def is_verified(self, user: User) -> bool:
        """Whether the person showed that the address is theirs."""
        return EmailAddress.objects.filter(user=user, verified=True).exists()

    @display(description="Organizations")
    def belongs_to(self, user: User) -> str:
        """Which organizations the person is in."""
        return ", ".join(user.organizations.values_list("slug", flat=True)) or "none"

    @action(description="Block", url_path="block", permissions=["deed"], icon="block")
    def block(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Keep the person from signing in."""
        user: User = find_target(self, request, object_id)

        def do(fields: Any) -> None:
            if user == request.user:
                message = "You cannot block yourself."
                raise ValueError(message)
            block_user(user, reason=fields["reason"], by=operator_of(request))

        warning = "They cannot sign in. The keys of their organizations still work: suspend those to stop them."
        return run_deed(self, request, title=f"Block {user}", warning=warning, form=bind(ReasonForm, request), do=do, target=user)

    @action(description="Unblock", url_path="unblock", permissions=["deed"], icon="undo")
    def unblock(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let the person sign in again."""
        user: User = find_target(self, request, object_id)

        def do(_: Any) -> None:
            unblock_user(user, by=operator_of(request))

        warning = "They can sign in again."
        return run_deed(self, request, title=f"Unblock {user}", warning=warning, form=bind(ConfirmForm, request), do=do, target=user)


@admin.register(Membership)
class MembershipAdmin(FactAdmin):
    """Who is in which organization."""

    list_display = ("user", "organization", "role", "created_at")
    list_filter = ("role",)
    search_fields = ("user__email", "organization__slug")
    list_select_related = ("user", "organization")
