"""Signing up and in: what allauth does not know of organizations, credit and first keys."""

from typing import Any, Final

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from marketplace.keys import KeySettings, issue_key
from marketplace.models import Organization, User
from marketplace.sealed import seal
from marketplace.tenants import welcome_user
from marketplace.web import mailbox

# Session entry that holds the first key's sealed secret until the first call has been seen.
FIRST_SECRET: Final = "first_secret"  # noqa: S105 (a name, not a secret)


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types.
    """Leads a new person from the confirmed address to the first call."""

    def confirm_email(self, request: HttpRequest, email_address: EmailAddress) -> bool:
        """Confirm an address; a new person then has an organization with the free credit."""
        confirmed = bool(super().confirm_email(request, email_address))
        if confirmed:
            welcome_user(email_address.user)
        return confirmed

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        """Sign a person in; who has never had a key gets the first one, wherever the address was confirmed."""
        # Only verified people get here. Their welcome may have failed when they confirmed, and the link works once.
        if not user.is_staff and not user.organizations.exists():
            welcome_user(user)
        give_first_key(request, user)
        response: HttpResponse = super().post_login(request, user, **kwargs)
        return response

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        """Return the first-call page while its key waits to be used, else the dashboard."""
        return reverse("first_call" if FIRST_SECRET in request.session else "dashboard")

    def get_signup_redirect_url(self, request: HttpRequest) -> str:
        """Return where a person goes who has just signed up."""
        return self.get_login_redirect_url(request)

    def send_confirmation_mail(self, request: HttpRequest, emailconfirmation: Any, signup: bool) -> None:  # noqa: FBT001 (allauth's signature)
        """Send the mail that confirms an address; the mailbox page may show it to this session."""
        mailbox.remember_address(request, emailconfirmation.email_address.email)
        super().send_confirmation_mail(request, emailconfirmation, signup)

    def add_message(self, *args: Any, **kwargs: Any) -> None:
        """Say nothing: each page of ours tells itself what happened."""


def give_first_key(request: HttpRequest, user: User) -> None:
    """Issue "First key" to an organization that never had one; its secret waits in the session."""
    if user.is_staff:  # Who runs the site has come for something else.
        return
    organization: Organization | None = user.organizations.order_by("created_at").first()
    if organization is None or organization.first_call_at or organization.keys.issued().exists():
        return
    _key, secret = issue_key(organization=organization, name=_("First key"), settings=KeySettings(), by=user)
    request.session[FIRST_SECRET] = seal(secret)
