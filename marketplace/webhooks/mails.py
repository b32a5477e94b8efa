"""Mail to an organization's owners about budgets that fill up; written with the webhook, sent from its row."""

from typing import Final

from django.conf import settings
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.utils import timezone

from marketplace.models import Membership, Notice

# Mails of one run; more go some seconds later.
_AT_ONCE: Final = 50


def send_budget_mails() -> int:
    """Mail what is to be told by mail; return how many were sent. A crash may send one twice, never none."""
    sent = 0
    waiting = Notice.objects.filter(mail__isnull=False, mailed_at__isnull=True).select_related("organization").order_by("pk")
    for notice in waiting[:_AT_ONCE]:
        owners = Membership.objects.filter(organization=notice.organization, role=Membership.Role.OWNER, user__is_active=True)
        addresses = list(owners.values_list("user__email", flat=True))
        context = {"budget": notice.mail, "organization": notice.organization, "site_url": settings.SITE_URL}
        if addresses:
            subject = " ".join(render_to_string("budgets/mail/filled_subject.txt", context).split())
            send_mail(subject, render_to_string("budgets/mail/filled.txt", context), None, addresses)
        Notice.objects.filter(pk=notice.pk).update(mailed_at=timezone.now())
        sent += 1
    return sent
