"""The body of `infer`: JSON, then raw tensors in the order they are listed.

Source: Open Inference Protocol v2, "Inference Request", with Triton's extensions for binary
tensor data, classification and parameters, as `tritonclient` 2.73.0 sends them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy.typing as npt

from marketplace.errors import HeaderInvalid, RequestMalformed
from marketplace.gateway.oip import tensors
from marketplace.gateway.oip.tensors import refuse_field
from marketplace.gateway.strict_json import parse_json

HEADER_LENGTH: Final = b"inference-header-content-length"
_FIELDS: Final = frozenset({"id", "parameters", "inputs", "outputs"})
_OUTPUT_FIELDS: Final = frozenset({"name", "parameters"})
_MAX_TENSORS: Final = 64
_MAX_CLASSES: Final = 1000
# Longest timeout that may be asked for: 30 bits of microseconds, 17 minutes; the site's own limit is shorter.
_MAX_TIMEOUT_US: Final = 2**30


class RequestedOutput(NamedTuple):
    """An output as the caller wants it."""

    name: str
    binary: bool
    classes: int  # The classification extension's: so many of the highest values; 0 for the tensor itself.


class InferRequest(NamedTuple):
    """A body, read and checked as far as that goes without knowing the model."""

    id: str | None
    inputs: Mapping[str, npt.NDArray[Any]]
    outputs: Sequence[RequestedOutput] | None  # None: all of the model's.
    binary: bool  # Of outputs that nobody asked for by name.
    timeout_us: int | None
    parameters: Mapping[str, Any]  # Those that the protocol does not reserve.


def parse_request(body: bytes, header_length: str | None) -> InferRequest:
    """Read a body.

    Args:
        body: Inflated.
        header_length: The Inference-Header-Content-Length: bytes of JSON before the tensors. None: it is all JSON.

    Raises:
        HeaderInvalid: the length is none, or beyond the body.
        RequestMalformed: the body is not of the protocol's form. No array was made for it.
    """
    json_bytes = _json_bytes(header_length, len(body))
    fields = parse_json(body[:json_bytes])
    if not isinstance(fields, dict):
        message = 'The body must be a JSON object: {"inputs": [...]}.'
        raise RequestMalformed(message)
    if unknown := fields.keys() - _FIELDS:
        refuse_field(min(unknown)[:40], "is no field of a request")
    identity = fields.get("id")
    if identity is not None and not isinstance(identity, str):
        refuse_field("id", "must be a text")
    parameters = _mapping(fields.get("parameters"), "parameters")
    binary = _flag(parameters.pop("binary_data_output", False), "parameters.binary_data_output")
    timeout_us = _whole(parameters.pop("timeout", 0), "parameters.timeout", most=_MAX_TIMEOUT_US)
    _whole(parameters.pop("priority", 0), "parameters.priority", most=2**63)  # Read, and without effect here.
    if "sequence_id" in parameters:
        refuse_field("parameters.sequence_id", "is not offered: send a model's state as its tensors")
    return InferRequest(
        id=identity,
        inputs=_read_inputs(fields.get("inputs"), memoryview(body)[json_bytes:]),
        outputs=_read_outputs(fields.get("outputs"), binary=binary),
        binary=binary,
        timeout_us=timeout_us or None,
        parameters=parameters,
    )


def _json_bytes(header_length: str | None, body_bytes: int) -> int:
    if header_length is None:
        return body_bytes
    if not (header_length.isascii() and header_length.isdigit() and len(header_length) <= 19 and int(header_length) <= body_bytes):
        shown = HEADER_LENGTH.decode()
        message = f"{shown} must be the bytes of JSON in the inflated body, which has {body_bytes}."
        raise HeaderInvalid(message, param=shown)
    return int(header_length)


def _read_inputs(entries: object, raw: memoryview) -> dict[str, npt.NDArray[Any]]:
    """Return the inputs by name. All sizes are checked, against each other and the body, before the first array is made."""
    listed = _entries(entries, "inputs")
    if not listed:
        refuse_field("inputs", "must list at least one tensor")
    declared = [tensors.declare(entry, f"inputs[{place}]") for place, entry in enumerate(listed)]
    names = [tensor.name for tensor in declared]
    if len(set(names)) != len(names):
        refuse_field("inputs", "names a tensor twice")
    needed = sum(tensor.binary_bytes or 0 for tensor in declared)
    if needed != len(raw):
        refuse_field("inputs", f"need {needed} bytes of binary data; {len(raw)} follow the JSON")
    arrays: dict[str, npt.NDArray[Any]] = {}
    at = 0
    for place, tensor in enumerate(declared):
        param = f"inputs[{place}]"
        if tensor.binary_bytes is None:
            arrays[tensor.name] = tensors.from_json(tensor, param)
            continue
        arrays[tensor.name] = tensors.from_binary(tensor, raw[at : at + tensor.binary_bytes], param)
        at += tensor.binary_bytes
    return arrays


def _read_outputs(entries: object, *, binary: bool) -> list[RequestedOutput] | None:
    """Return the outputs asked for; None where none are named, which asks for all."""
    if entries is None:
        return None
    wanted = [_read_output(entry, f"outputs[{place}]", binary=binary) for place, entry in enumerate(_entries(entries, "outputs"))]
    if len({output.name for output in wanted}) != len(wanted):
        refuse_field("outputs", "names a tensor twice")
    return wanted or None


def _read_output(entry: object, param: str, *, binary: bool) -> RequestedOutput:
    fields = _mapping(entry, param)
    if unknown := fields.keys() - _OUTPUT_FIELDS:
        refuse_field(f"{param}.{min(unknown)[:40]}", "is no field of an output")
    name = fields.get("name")
    if not isinstance(name, str) or not name:
        refuse_field(f"{param}.name", "must be a text")
    parameters = _mapping(fields.get("parameters"), f"{param}.parameters")
    wanted = RequestedOutput(
        name=name,
        binary=_flag(parameters.pop("binary_data", binary), f"{param}.parameters.binary_data"),
        classes=_whole(parameters.pop("classification", 0), f"{param}.parameters.classification", most=_MAX_CLASSES),
    )
    for left in parameters:
        detail = "is not offered" if left.startswith("shared_memory") else "is no parameter of an output"
        refuse_field(f"{param}.parameters.{left[:40]}", detail)
    return wanted


def _entries(entries: object, param: str) -> list[object]:
    if not isinstance(entries, list) or len(entries) > _MAX_TENSORS:
        refuse_field(param, f"must be an array of at most {_MAX_TENSORS} tensors")
    return entries


def _mapping(value: object, param: str) -> dict[str, Any]:
    """Return a copy, for the reader to take fields out of."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        refuse_field(param, "must be an object")
    return dict(value)


def _flag(value: object, param: str) -> bool:
    if not isinstance(value, bool):
        refuse_field(param, "must be true or false")
    return value


def _whole(value: object, param: str, *, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        refuse_field(param, f"must be a whole number from 0 to {most}")
    return value
