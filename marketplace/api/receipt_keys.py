"""`/.well-known/farebox-receipts.json`: the public keys that receipts are checked with, for anybody."""

from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from billing.receipting import published_keys


@require_safe
def show_receipt_keys(request: HttpRequest) -> JsonResponse:  # noqa: ARG001 (the same to all)
    """Show every key that receipts of this site were ever signed with, the newest first. Old receipts keep theirs."""
    return JsonResponse(
        {"format": "docs/receipts.md, version 1", "keys": published_keys()}, headers={"Cache-Control": "public, max-age=300"}
    )
