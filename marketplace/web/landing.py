"""The front page: what this is, a playground that anyone may try, the way in."""

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_safe

from marketplace.web import snippets
from marketplace.web.access import find_organization
from marketplace.web.models import find_price, listed_models
from marketplace.web.playground import EXAMPLES, find_try_model

_CATALOGUE: Final = 6


@require_safe
@ensure_csrf_cookie
def show_landing(request: HttpRequest) -> HttpResponse:
    """Show the front page."""
    model = find_try_model()
    version = model.versions.filter(state="live").first() if model else None
    path = model.path if model else "farebox/sentiment"
    context = {
        "model": model,
        "price": find_price(version.sku) if version else None,
        "models": listed_models(None)[:_CATALOGUE],
        "examples": EXAMPLES,
        "is_free": find_organization(request) is None,
        "may_explain": True,
        "snippet": snippets.curl(path, key="fb_sk_live_…"),
    }
    return render(request, "landing/landing.html", context)
