"""The native wire format: a JSON body to checked input, and outputs to JSON bytes."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, NoReturn

import orjson

from billing.money import Nanos, to_decimal_string
from billing.pricing import Terms
from inference.pipelines.pipeline import Pipeline, Prepared
from marketplace.errors import RequestMalformed
from marketplace.gateway.options import GatewaySettings
from marketplace.gateway.versions import ServedVersion

# Deeper JSON than anything we take; 20,000 brackets would exhaust the parser's stack.
MAX_JSON_DEPTH: Final = 64
_FIELDS: Final = frozenset({"input_data", "parameters"})
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)  # Possessive: linear time.
_TO_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS: Final = bytes(sorted(set(range(256)) - set(b"[]{}")))


class Call(NamedTuple):
    """One request, checked and counted."""

    prepared: Prepared
    parameters: Mapping[str, object]
    units: int


def parse(body: bytes, version: ServedVersion, terms: Terms, *, limits: GatewaySettings) -> Call:
    """Read and check a predict body against the version's pipeline, and count its units.

    Raises:
        RequestMalformed: it is not JSON of the right form (400).
        InvalidInput: the pipeline does not take this input or these parameters (422).
    """
    fields = parse_json(body)
    if not isinstance(fields, dict):
        message = 'The body must be a JSON object: {"input_data": ...}.'
        raise RequestMalformed(message)
    if unknown := fields.keys() - _FIELDS:
        name = min(unknown)
        message = f"Unknown field {name[:40]!r}; this address takes input_data and parameters."
        raise RequestMalformed(message, param=name[:40])
    if "input_data" not in fields:
        message = "The field input_data is missing."
        raise RequestMalformed(message, param="input_data")
    parameters = fields.get("parameters", {})
    if not isinstance(parameters, dict):
        message = "parameters must be an object."
        raise RequestMalformed(message, param="parameters")
    pipeline: Pipeline = version.bundle.pipeline
    pipeline.validate_parameters(parameters)
    prepared = pipeline.prepare(fields["input_data"], max_rows=limits.max_rows, max_characters=limits.max_characters)
    return Call(prepared=prepared, parameters=parameters, units=count_units(prepared, terms))


def count_units(prepared: Prepared, terms: Terms) -> int:
    """Return what a call uses, in the price's unit: known before it runs."""
    if terms.unit == "token":
        return prepared.tokens
    return len(prepared.rows) if terms.unit == "row" else 1


def render(
    *,
    request_id: str,
    version: ServedVersion,
    prediction: object,
    usage: Mapping[str, object],
) -> bytes:
    """Return the body of an answered call."""
    return orjson.dumps(
        {
            "id": request_id,
            "model": version.model_path,
            "version": version.number,
            "prediction": prediction,
            "usage": usage,
        }
    )


def render_estimate(*, version: ServedVersion, usage: Mapping[str, object]) -> bytes:
    """Return the body of an estimate."""
    return orjson.dumps({"model": version.model_path, "version": version.number, "usage": usage})


def usage_fields(terms: Terms, *, units: int, charge_nanos: int, livemode: bool) -> dict[str, object]:
    """Return the `usage` object of a reply: unit, units, exact cost as a decimal string, currency."""
    return {
        "unit": terms.unit,
        "units": units,
        "cost": to_decimal_string(Nanos(charge_nanos)),
        "currency": terms.currency,
        "livemode": livemode,
    }


def parse_json(body: bytes) -> Any:
    """Parse JSON strictly: UTF-8, no duplicate keys, no NaN or Infinity, at most 64 levels deep.

    Raises:
        RequestMalformed: it is something else.
    """
    # The number of brackets bounds the depth; only bodies with many pay for the exact answer.
    if body.count(b"[") + body.count(b"{") > MAX_JSON_DEPTH and _is_too_deep(body):
        message = f"The JSON is nested deeper than {MAX_JSON_DEPTH} levels."
        raise RequestMalformed(message)
    try:
        return _decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        message = "The body is not UTF-8."
        raise RequestMalformed(message) from None
    except json.JSONDecodeError as error:
        message = f"The body is not JSON: {error.msg} at character {error.pos}."
        raise RequestMalformed(message) from None
    except ValueError:  # An integer of over 4,300 digits.
        message = "A number in the body is too long."
        raise RequestMalformed(message) from None


def _is_too_deep(body: bytes) -> bool:
    """Whether brackets outside strings nest deeper than `MAX_JSON_DEPTH`, at C speed.

    Each round removes the innermost pairs, so what is left after that many rounds was deeper.
    (A loop over 4 MB of bytes in Python would stop the gateway for half a second.)
    """
    brackets = _STRING.sub(b"", body).translate(_TO_SQUARE, _NOT_BRACKETS)
    for _ in range(MAX_JSON_DEPTH):
        shorter = brackets.replace(b"[]", b"")
        if len(shorter) == len(brackets):
            break
        brackets = shorter
    return b"[]" in brackets or brackets.count(b"[") > MAX_JSON_DEPTH


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):  # Which of two values was meant is not ours to guess.
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        message = f"The field {twice[:40]!r} is given twice."
        raise RequestMalformed(message, param=twice[:40])
    return fields


def _refuse_constant(text: str) -> NoReturn:
    message = f"{text} is not JSON."
    raise RequestMalformed(message)


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):  # "1e999" parses to infinity.
        message = f"The number {text[:20]} is out of range."
        raise RequestMalformed(message)
    return value


# Built once: json.loads with hooks makes a decoder per call, 3 us of a 10 us parse.
_decode = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant, parse_float=_finite).decode
