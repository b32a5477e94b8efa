"""The pages of predictions and batches: what was accepted for later, how far it is, and what came of it."""

import json
from typing import Any, Final

import orjson
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from billing.ids import parse_public_id, public_id
from marketplace import batches, predictions
from marketplace.errors import AlreadyEnded
from marketplace.models import Batch, Prediction
from marketplace.web.access import MemberRequest, member_required

_PAGE: Final = 50
# Of a result, shown on its page; the whole is one GET away.
_SHOWN_CHARACTERS: Final = 20_000
_SHOWN_FAILURES: Final = 20


@require_safe
@member_required
def list_predictions(request: MemberRequest) -> HttpResponse:
    """Show the predictions that are no batch's rows, newest first, a page at a time."""
    rows = request.organization.predictions.filter(batch__isnull=True).defer("input", "output")
    rows = rows.select_related("version__model__owner").order_by("-created_at", "-pk")
    cursor = request.GET.get("before")
    if cursor:
        rows = rows.filter(created_at__lt=_get_prediction(request, cursor).created_at)
    page = list(rows[: _PAGE + 1])
    older = public_id("prd", page[_PAGE - 1].pk) if len(page) > _PAGE else ""
    return render(request, "predictions/list.html", {"rows": page[:_PAGE], "older": older, "is_paged": bool(cursor)})


@require_safe
@member_required
def show_prediction(request: MemberRequest, prediction_id: str) -> HttpResponse:
    """Show one prediction; while it has not ended, the page looks again by itself."""
    return render(request, "predictions/prediction.html", _prediction_context(request, prediction_id))


@require_safe
@member_required
def show_prediction_state(request: MemberRequest, prediction_id: str) -> HttpResponse:
    """Answer the page's polling."""
    return render(request, "predictions/state.html", _prediction_context(request, prediction_id))


@require_POST
@member_required
def cancel_prediction(request: MemberRequest, prediction_id: str) -> HttpResponse:
    """Cancel a prediction that has not ended."""
    row = _get_prediction(request, prediction_id)
    try:
        predictions.cancel_prediction(row)
    except AlreadyEnded:
        messages.error(request, _("It had ended already."))
    else:
        messages.success(request, _("Cancelled. It costs nothing."))
    return redirect("prediction", prediction_id=prediction_id)


def _get_prediction(request: MemberRequest, prediction_id: str) -> Prediction:
    uuid = parse_public_id("prd", prediction_id)
    rows = request.organization.predictions.select_related("version__model__owner", "key", "batch")
    row = rows.filter(pk=uuid).first() if uuid else None
    if row is None:
        raise Http404
    return row


def _prediction_context(request: MemberRequest, prediction_id: str) -> dict[str, Any]:
    row = _get_prediction(request, prediction_id)
    shown = ""
    if row.output:
        shown = json.dumps(orjson.loads(bytes(row.output))["prediction"], indent=2, ensure_ascii=False)[:_SHOWN_CHARACTERS]
    return {"row": row, "prediction_id": prediction_id, "shown": shown, "is_open": row.status in Prediction.UNENDED}


@require_safe
@member_required
def list_batches(request: MemberRequest) -> HttpResponse:
    """Show the batches, newest first."""
    rows = request.organization.batches.select_related("version__model__owner").order_by("-created_at")[:_PAGE]
    return render(request, "batches/list.html", {"rows": [(batch, batches.progress_of(batch)) for batch in rows]})


@require_safe
@member_required
def show_batch(request: MemberRequest, batch_id: str) -> HttpResponse:
    """Show one batch; until it is completed the page looks again by itself."""
    return render(request, "batches/batch.html", _batch_context(request, batch_id))


@require_safe
@member_required
def show_batch_state(request: MemberRequest, batch_id: str) -> HttpResponse:
    """Answer the page's polling."""
    return render(request, "batches/state.html", _batch_context(request, batch_id))


@require_POST
@member_required
def cancel_batch(request: MemberRequest, batch_id: str) -> HttpResponse:
    """Cancel a batch."""
    batch = _get_batch(request, batch_id)
    try:
        batches.cancel_batch(batch)
    except AlreadyEnded:
        messages.error(request, _("It had ended already."))
    else:
        messages.success(request, _("Cancelled. What had succeeded stays; the rest costs nothing."))
    return redirect("batch", batch_id=batch_id)


@require_safe
@member_required
def download_results(request: MemberRequest, batch_id: str) -> HttpResponse:
    """Return the rows that have ended as a file of JSON lines, up to the 16 MB that the REST API gives at once."""
    batch = _get_batch(request, batch_id)
    written, _after = batches.read_results(batch, after=0)
    reply = HttpResponse(b"".join(written), content_type="application/jsonl")
    reply["Content-Disposition"] = f'attachment; filename="{batch_id}.jsonl"'
    return reply


def _get_batch(request: MemberRequest, batch_id: str) -> Batch:
    uuid = parse_public_id("bat", batch_id)
    rows = request.organization.batches.select_related("version__model__owner", "key")
    batch = rows.filter(pk=uuid).first() if uuid else None
    if batch is None:
        raise Http404
    return batch


def _batch_context(request: MemberRequest, batch_id: str) -> dict[str, Any]:
    batch = _get_batch(request, batch_id)
    failures = batch.predictions.filter(status=Prediction.Status.FAILED).order_by("line").defer("input", "output")
    return {
        "batch": batch,
        "batch_id": batch_id,
        "progress": batches.progress_of(batch),
        "failures": failures[:_SHOWN_FAILURES],
        "is_open": batch.ended_at is None,
    }
