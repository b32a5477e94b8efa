"""`/v1/predictions`: calls that are made later. They are made at `/v1/models/{owner}/{model}/predictions`, by the gateway."""

from typing import Any

import orjson
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing.ids import parse_public_id, public_id
from marketplace import predictions
from marketplace.api.authentication import key_of, tenant_of
from marketplace.api.documented import operation
from marketplace.api.endpoint import Endpoint, read_query
from marketplace.api.fields import Constant, Moment, PublicId, View
from marketplace.api.lists import list_of, page_form, read_page, render_list
from marketplace.errors import NotFound
from marketplace.models import Prediction

TAG = "Predictions"


class PredictionUsageView(View):
    """What a prediction used and cost; exact."""

    unit = serializers.CharField()
    units = serializers.IntegerField()
    cost = serializers.CharField(help_text="Exact, in currency units.")
    currency = serializers.CharField()
    livemode = serializers.BooleanField()


class FailureView(View):
    """Why there is no result. Nothing was charged."""

    code = serializers.CharField(help_text="As in /docs/errors/.")
    detail = serializers.CharField()


class PredictionSummaryView(View):
    """A prediction in a list: without its result."""

    object = Constant("prediction")
    id = PublicId("prd")
    status = serializers.ChoiceField(choices=Prediction.Status.choices)
    model = serializers.CharField(source="version.model.path")
    version = serializers.IntegerField(source="version.number")
    livemode = serializers.BooleanField()
    batch = serializers.SerializerMethodField()
    error = FailureView(allow_null=True)
    created_at = Moment()
    started_at = Moment(allow_null=True)
    ended_at = Moment(allow_null=True)

    def get_batch(self, row: Prediction) -> str | None:
        """Return the id of the batch whose row it is."""
        return public_id("bat", row.batch_id) if row.batch_id else None


class PredictionView(PredictionSummaryView):
    """A prediction, with its result once it succeeded."""

    prediction = serializers.JSONField(help_text="As a live call answers it; null until it succeeded.")
    usage = PredictionUsageView(allow_null=True)


PredictionsQuery = page_form("prd", "PredictionsQuery", status=serializers.ChoiceField(choices=Prediction.Status.choices, required=False))


def visible_predictions(request: Request) -> QuerySet[Prediction]:
    """The organization's predictions; to a test key only the test ones."""
    rows = tenant_of(request).predictions.select_related("version__model__owner")
    return rows if key_of(request).livemode else rows.filter(livemode=False)


def _find(request: Request, prediction_id: str) -> Prediction:
    value = parse_public_id("prd", prediction_id)
    row = visible_predictions(request).filter(pk=value).first() if value else None
    if row is None:
        raise NotFound
    return row


def show(row: Prediction) -> dict[str, Any]:
    """Return a prediction with its result, once it has one."""
    kept = orjson.loads(bytes(row.output)) if row.output else {}
    return {**PredictionSummaryView(row).data, "prediction": kept.get("prediction"), "usage": kept.get("usage")}


class Predictions(Endpoint):
    """All predictions that are no batch's rows."""

    scope = {"GET": "predictions:read"}

    @operation(
        "list_predictions",
        summary="List predictions",
        tag=TAG,
        query=PredictionsQuery,
        answers=list_of(PredictionSummaryView, "PredictionList"),
        refusals=["request_malformed"],
    )
    def get(self, request: Request) -> Response:
        """List the organization's asynchronous predictions, the newest first. A batch's rows are in its results."""
        query = read_query(request, PredictionsQuery).validated_data
        rows = visible_predictions(request).filter(batch__isnull=True).defer("input", "output")
        if status := query.get("status"):
            rows = rows.filter(status=status)
        page = read_page(rows, query, by="created_at")
        return Response(render_list(page, request, PredictionSummaryView(page.rows, many=True).data))


class OnePrediction(Endpoint):
    """One prediction."""

    scope = {"GET": "predictions:read"}

    @operation("get_prediction", summary="Show a prediction", tag=TAG, answers=PredictionView, refusals=["not_found"])
    def get(self, request: Request, prediction_id: str) -> Response:
        """Show a prediction, with its result once it succeeded. Results are kept for some days."""
        return Response(show(_find(request, prediction_id)))


class PredictionCancellation(Endpoint):
    """One prediction's end before its time."""

    scope = {"POST": "predict"}

    @operation(
        "cancel_prediction",
        summary="Cancel a prediction",
        tag=TAG,
        answers=PredictionView,
        refusals=["not_found", "already_ended"],
    )
    def post(self, request: Request, prediction_id: str) -> Response:
        """Cancel a prediction that has not ended: it costs nothing. Cancelling it again changes nothing."""
        row = _find(request, prediction_id)
        predictions.cancel_prediction(row)
        return Response(show(row))
