"""Predictions and batches as the gateway and the REST API keep them, and a gateway that answers as told."""

from collections.abc import Callable, Sequence
from datetime import datetime

import orjson
from django.utils import timezone

from billing.ids import uuid7
from billing.money import to_decimal_string
from marketplace.batches import create_batch, parse_lines
from marketplace.inner_door import Outcome
from marketplace.models import ApiKey, Batch, ModelVersion, Prediction
from marketplace.predictions import ROW_BYTES, keep_result

BODY = b'{"input_data":"a fine film"}'


def queue_prediction(key: ApiKey, version: ModelVersion, *, at: datetime | None = None) -> Prediction:
    """Keep a prediction that nobody has run."""
    return Prediction.objects.create(
        id=uuid7(),
        organization=key.organization,
        key=key,
        version=version,
        livemode=key.livemode,
        input=BODY,
        stored_bytes=len(BODY) + ROW_BYTES,
        created_at=at or timezone.now(),
    )


def queue_batch(key: ApiKey, version: ModelVersion, *, rows: int) -> Batch:
    """Keep a batch of that many rows that nobody has run."""
    return create_batch(key=key, version=version, lines=parse_lines(b"\n".join([BODY] * rows)), endpoint_id=None)


def succeed(row: Prediction, *, cost_nanos: int = 600) -> bool:
    """Keep a result as the gateway does; return whether the row was there to keep it."""
    usage = {"unit": "token", "units": 3, "cost": to_decimal_string(cost_nanos), "currency": "usd", "livemode": row.livemode}
    body = orjson.dumps({"id": "req_1", "model": "farebox/sentiment", "version": 1, "prediction": [{"label": "positive"}], "usage": usage})
    return keep_result(row.pk, body=body, usage=usage)


def answering(*codes: str, then: str = "") -> Callable[[Sequence[Prediction]], list[Outcome]]:
    """Return a gateway that refuses rows with these codes, one each, and answers `then` (or a result) from there on."""
    left = list(codes)

    def run(rows: Sequence[Prediction]) -> list[Outcome]:
        outcomes = []
        for row in rows:
            code = left.pop(0) if left else then
            if code == "waiting":
                outcomes.append(Outcome("waiting", None))
            elif code:
                outcomes.append(Outcome("refused", {"code": code, "status": 500, "detail": f"It is {code}."}))
            else:
                succeed(row)
                outcomes.append(Outcome("ended", None))
        return outcomes

    return run
