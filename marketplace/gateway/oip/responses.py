"""The reply of `infer`: JSON, then the raw tensors that were asked for as such; and classification."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from inference.datatypes import BYTES, find_datatype
from inference.errors import InvalidInput, ModelFailed
from marketplace.gateway.oip.requests import RequestedOutput
from marketplace.gateway.oip.texts import pack_bytes
from marketplace.gateway.replies import Headers, Reply

_JSON: Final = (b"content-type", b"application/json")
_BINARY: Final = (b"content-type", b"application/octet-stream")
_NO_STORE: Final = (b"cache-control", b"no-store")


class Output(NamedTuple):
    """One output of an answered call, and how the caller wants it."""

    wanted: RequestedOutput
    array: npt.NDArray[Any]


def render_response(*, model: str, version: int, identity: str | None, outputs: Sequence[Output]) -> Reply:
    """Return the reply, without the headers of its bill.

    Raises:
        InvalidInput: BYTES that are no UTF-8 were asked for as JSON.
        ModelFailed: an output is of no datatype of the protocol.
    """
    described: list[dict[str, Any]] = []
    pieces: list[bytes] = []
    has_binary = False
    for output in outputs:
        fields, piece = _render_output(output)
        described.append(fields)
        if piece is not None:
            has_binary = True
            pieces.append(piece)
    head: dict[str, Any] = {"model_name": model, "model_version": str(version)}
    if identity is not None:
        head["id"] = identity
    json = orjson.dumps({**head, "outputs": described}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not has_binary:
        return Reply(status=200, headers=[_JSON, _NO_STORE], body=json)
    headers: Headers = [_BINARY, _NO_STORE, (b"inference-header-content-length", b"%d" % len(json))]
    return Reply(status=200, headers=headers, body=b"".join([json, *pieces]), text_bytes=len(json))


def _render_output(output: Output) -> tuple[dict[str, Any], bytes | None]:
    """Return an output's entry in the JSON, and its raw bytes where it is sent as such."""
    wanted, array = output
    datatype = find_datatype(array)
    if datatype is None:
        message = f"{wanted.name} is of {array.dtype}"
        raise ModelFailed(message)
    fields: dict[str, Any] = {"name": wanted.name, "datatype": datatype, "shape": list(array.shape)}
    if wanted.binary:
        raw = pack_bytes(array) if datatype == BYTES else array.tobytes()  # Its datatype says it is little-endian.
        fields["parameters"] = {"binary_data_size": len(raw)}
        return fields, raw
    if datatype != BYTES:
        fields["data"] = np.ascontiguousarray(array).ravel()  # NaN and infinities become null: JSON has neither.
        return fields, None
    try:
        fields["data"] = [element.decode() for element in array.ravel().tolist()]
    except UnicodeDecodeError:
        detail = "It holds bytes that are no UTF-8: ask for it with binary_data."
        raise InvalidInput(wanted.name, detail, reason="not_text") from None
    return fields, None


def classify(array: npt.NDArray[Any], classes: int, *, by_row: bool, labels: Sequence[str], name: str) -> npt.NDArray[Any]:
    """Return the highest values as BYTES "value:index" or "value:index:label", the highest first.

    Args:
        array: Numbers.
        classes: How many; fewer where there are fewer.
        by_row: The first axis is the batch: each row by itself, answer `(rows, classes)`; else all together, `(classes,)`.
        labels: What the indices mean, if known.
        name: The output's, for the error.

    Source: Triton's classification extension.

    Raises:
        InvalidInput: the output holds no numbers.
    """
    if array.dtype.kind not in "iuf":
        raise InvalidInput(name, "Only numbers can be classified.", reason="not_classifiable")
    rows = array.reshape(array.shape[0], -1) if by_row and array.ndim else array.reshape(1, -1)
    count = min(classes, rows.shape[1])
    # Stable, so that equal values come in the order of their indices.
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    texts = np.empty(best.shape, dtype=np.object_)
    for place, index in np.ndenumerate(best):
        texts[place] = _class_text(rows[place[0], index], int(index), labels if len(labels) == rows.shape[1] else ())
    return texts if by_row and array.ndim else texts[0]


def _class_text(value: Any, index: int, labels: Sequence[str]) -> bytes:
    shown = f"{float(value):f}" if isinstance(value, np.floating) else str(int(value))
    return (f"{shown}:{index}:{labels[index]}" if labels else f"{shown}:{index}").encode()


def render_json(value: Mapping[str, Any] | Sequence[Any], *, status: int = 200) -> Reply:
    """Return a reply of JSON alone, as everything but `infer` answers."""
    return Reply(status=status, headers=[_JSON, _NO_STORE], body=orjson.dumps(value))
