"""What a fresh site starts with: an operator, the starter model, and a demo organization with a key."""

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from allauth.account.models import EmailAddress
from django.conf import settings
from django.db import transaction

from billing.ledger import grant_credit
from billing.money import Nanos
from inference.gate.examine import Examination
from marketplace.keys import KeySettings, issue_key
from marketplace.models import ModelVersion, Organization, User
from marketplace.publishing import examine_folder, list_model, publish_version
from marketplace.tenants import found_organization

OPERATOR_EMAIL: Final = "operator@farebox.localhost"
HOUSE_SLUG: Final = "farebox"  # Owns the starter models: farebox/sentiment.
DEMO_SLUG: Final = "demo"
DEMO_CREDIT: Final = Nanos(5 * 10**9)  # $5: 25 million tokens at the starter's price.
TOKEN_PRICE: Final = Nanos(200)  # $0.20 per million tokens.
_SENTIMENT: Final = settings.STARTER_DIR / "sentiment"
_BY: Final = "setup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What was made for the first time; None stands for what was there already.

    The password and the key are nowhere else in readable form: show them, once.
    """

    operator_password: str | None
    demo_key: str | None
    version: ModelVersion | None


def start_site() -> Started:
    """Make what a fresh site lacks, and leave alone what is there. Safe to repeat."""
    # Before the transaction: a second or two, in which a model runs.
    examination = None if _was_published(_SENTIMENT / "model.onnx") else examine_folder(_SENTIMENT)
    return _make_missing(examination)


@transaction.atomic
def _make_missing(examination: Examination | None) -> Started:
    operator, password = _find_or_make_operator()
    # The demo first: pages open on the organization joined first, and it is the one with calls to see.
    demo_key = _make_demo(operator)
    return Started(operator_password=password, version=_publish_sentiment(operator, examination), demo_key=demo_key)


def _find_or_make_operator() -> tuple[User, str | None]:
    """Return an operator, with the password if there was none of any name before.

    Looked up by right, not by address: who replaced this login by their own does not find it again.
    """
    operator = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
    if operator:
        return operator, None
    password = secrets.token_urlsafe(12)
    operator = User.objects.create_superuser(OPERATOR_EMAIL, password)
    EmailAddress.objects.create(user=operator, email=OPERATOR_EMAIL, verified=True, primary=True)
    return operator, password


def _publish_sentiment(operator: User, examination: Examination | None) -> ModelVersion | None:
    """Publish the starter model's artifact, unless it ever was: one that was retired stays so."""
    house = Organization.objects.filter(slug=HOUSE_SLUG).first()
    if house is None:
        house = found_organization(name="Farebox", slug=HOUSE_SLUG, owner=operator, by=_BY)
    model = list_model(owner=house, name="sentiment", source=_SENTIMENT, public=True, by=_BY)
    if examination is None or _was_published(_SENTIMENT / "model.onnx"):
        return None
    return publish_version(
        model=model,
        source=_SENTIMENT,
        unit="token",
        unit_nanos=TOKEN_PRICE,
        by=_BY,
        examination=examination,
    )


def _was_published(artifact: Path) -> bool:
    digest = hashlib.sha256(artifact.read_bytes()).hexdigest()
    return ModelVersion.objects.filter(model__owner__slug=HOUSE_SLUG, model__name="sentiment", digest=digest).exists()


def _make_demo(operator: User) -> str | None:
    """Make the demo organization with its credit; return its key's secret, or None if it is there."""
    if Organization.objects.filter(slug=DEMO_SLUG).exists():
        return None
    demo = found_organization(name="Demo", slug=DEMO_SLUG, owner=operator, by=_BY)
    grant_credit(demo.account, DEMO_CREDIT, kind="operator", reference=f"{_BY}:{DEMO_SLUG}", by=_BY)
    _, secret = issue_key(organization=demo, name="Demo key", settings=KeySettings(), by=_BY)
    return secret
