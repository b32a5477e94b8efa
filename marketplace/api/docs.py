"""`/docs/api/`: the OpenAPI document made readable, from this site's own files alone."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe


@require_safe
def show_api_docs(request: HttpRequest) -> HttpResponse:
    """Show the API's documentation; calls can be tried there with one's own key."""
    return render(request, "docs/api.html")
