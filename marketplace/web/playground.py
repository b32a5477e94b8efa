"""Keys for playgrounds: the browser itself makes the metered call, on the same wire as any client."""

from datetime import timedelta
from typing import Final

from django.conf import settings
from django.core.cache import cache
from django.db.models import Q
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from marketplace.credentials import digest
from marketplace.keys import PLAYGROUND_MINUTES, issue_playground_key
from marketplace.models import ApiKey, CatalogueModel, Organization, User
from marketplace.sealed import seal, unseal
from marketplace.web.access import find_organization

# The model that anyone may try on the landing page.
TRY_MODEL: Final = ("farebox", "sentiment")
# In every language of the site: the model reads English.
EXAMPLES: Final = (
    "A moving, funny film that I would see again tonight.",
    "The plot drags and the jokes fall flat.",
    "Not bad at all, better than the trailer promised.",
)
# Keys that strangers get per address and hour, and in all. Each makes six calls a minute, free:
# the second figure bounds what a botnet costs us to 20 calls a second, and the rows it adds.
_TRIES_PER_ADDRESS: Final = 10
_TRIES_IN_ALL: Final = 200
_TRY_RATE: Final = 6
_MEMBER_RATE: Final = 60
# Session entry: the keys of this session, sealed, by their model's path.
_SESSION: Final = "playground_keys"


def find_try_model() -> CatalogueModel | None:
    """Return the landing page's model, if this site has it."""
    owner, name = TRY_MODEL
    return CatalogueModel.objects.select_related("owner").filter(owner__slug=owner, name=name, public=True).first()


def _find_model(path: str, *, organization: Organization | None) -> CatalogueModel | None:
    """Return the model that a page's playground is for: a stranger's can only be the landing page's."""
    if organization is None:
        model = find_try_model()
        return model if model and model.path == path else None
    owner, _slash, name = path.partition("/")
    visible = CatalogueModel.objects.filter(Q(public=True) | Q(owner=organization))
    return visible.select_related("owner").filter(owner__slug=owner, name=name).first()


@require_POST
def give_key(request: HttpRequest) -> JsonResponse:
    """Answer with this session's key for one model: a stranger's is a free test key, a member's is metered."""
    organization = find_organization(request)
    model = _find_model(request.POST.get("model", ""), organization=organization)
    if model is None:
        return JsonResponse({"detail": _("There is no such model to try.")}, status=404)
    owner = str(organization.pk) if organization else ""
    kept = {path: entry for path, entry in request.session.get(_SESSION, {}).items() if entry["owner"] == owner and _is_fresh(entry)}
    if model.path in kept and (secret := _find_live(kept[model.path]["sealed"])):
        return _reply(secret, expires_at=kept[model.path]["expires_at"])
    if organization:
        user = request.user
        assert isinstance(user, User)
        key, secret = issue_playground_key(organization=organization, model=model, livemode=True, rate_per_minute=_MEMBER_RATE, by=user)
    elif _may_try(request, model.owner):
        key, secret = issue_playground_key(organization=model.owner, model=model, livemode=False, rate_per_minute=_TRY_RATE, by=None)
    else:
        return JsonResponse({"detail": _("That is enough for one hour. Sign up to go on: it is free.")}, status=429)
    expires_at = key.expires_at or timezone.now() + timedelta(minutes=PLAYGROUND_MINUTES)
    kept[model.path] = {"owner": owner, "sealed": seal(secret), "expires_at": expires_at.isoformat()}
    request.session[_SESSION] = kept
    return _reply(secret, expires_at=kept[model.path]["expires_at"])


def _is_fresh(kept: dict[str, str]) -> bool:
    moment = parse_datetime(kept["expires_at"])
    return moment is not None and moment > timezone.now() + timedelta(minutes=2)


def _find_live(sealed: str) -> str:
    """Return the kept secret unless its key was revoked meanwhile; empty then."""
    secret = unseal(sealed)
    return secret if secret and ApiKey.objects.live().filter(digest=digest(secret)).exists() else ""


def _reply(secret: str, *, expires_at: str) -> JsonResponse:
    reply = JsonResponse({"key": secret, "expires_at": expires_at})
    reply["Cache-Control"] = "private, no-store"
    return reply


def _may_try(request: HttpRequest, owner: Organization) -> bool:
    """Count one stranger's key against its address and against all. Counts are per process: a bound, not a bill."""
    hour = timezone.now().strftime("%Y%m%d%H")
    entry = f"try:{client_address(request)}:{hour}"
    cache.add(entry, 0, timeout=3600)
    if cache.incr(entry) > _TRIES_PER_ADDRESS:
        return False
    since = timezone.now() - timedelta(hours=1)
    return ApiKey.objects.filter(organization=owner, playground=True, created_at__gt=since).count() < _TRIES_IN_ALL


def client_address(request: HttpRequest) -> str:
    """Return the visitor's address: the peer's, or the last that a trusted proxy forwarded."""
    peer = str(request.META.get("REMOTE_ADDR", ""))
    forwarded = request.headers.get("X-Forwarded-For", "")
    if peer in settings.TRUSTED_PROXIES and forwarded:
        return forwarded.rsplit(",", 1)[-1].strip()
    return peer
