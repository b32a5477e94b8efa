"""The way from Celery to the gateway: one HTTP request with rows to run, known by a token of the site's secret (ADR 13)."""

import hmac
import http.client
import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings

from billing.ids import public_id
from marketplace.models import Prediction

PATH: Final = "/internal/predictions"
# What the gateway may take to begin rows, and what we wait for all of it: a row that began has 20 s.
WITHIN_S: Final = 15.0
TIMEOUT_S: Final = 45.0


class GatewayUnavailable(Exception):
    """The gateway did not answer. What it ran of the rows, if anything, it has kept by itself."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one row: "ended", "waiting" (it was not begun) or "refused" with the problem's members."""

    kind: str
    error: dict[str, Any] | None

    @property
    def code(self) -> str:
        """Of the refusal; empty if there was none."""
        return str(self.error["code"]) if self.error else ""


def door_token() -> str:
    """Return what opens the inner door: only who knows the site's secret can know it."""
    return hmac.new(settings.SECRET_KEY.encode(), b"farebox inner door", sha256).hexdigest()


def run_rows(rows: Sequence[Prediction]) -> list[Outcome]:
    """Have the gateway run claimed predictions; return what came of each, in order.

    Raises:
        GatewayUnavailable: it is stopped, restarting, or cannot be reached at GATEWAY_URL.
    """
    where = urlsplit(settings.GATEWAY_URL)
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = kind(where.hostname or "", where.port, timeout=TIMEOUT_S)
    body = json.dumps({"within_s": WITHIN_S, "rows": [_row(row) for row in rows]})
    try:
        connection.request("POST", PATH, body, {"Authorization": f"Bearer {door_token()}", "Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise GatewayUnavailable(str(error)) from error
    finally:
        connection.close()
    if response.status != 200:
        message = f"The gateway answered {response.status}."
        raise GatewayUnavailable(message)
    outcomes = {row["id"]: Outcome(row["outcome"], row.get("error")) for row in json.loads(answer)["rows"]}
    return [outcomes[public_id("prd", row.pk)] for row in rows]


def _row(row: Prediction) -> dict[str, Any]:
    return {
        "id": public_id("prd", row.pk),
        "key": row.key.digest,
        "model": row.version.model.path,
        "number": row.version.number,
        "route": "batch" if row.batch_id else "prediction",
        "accepted_at": row.created_at.isoformat(),
        "body": bytes(row.input).decode(),
    }
