"""Forms as Stripe's API takes them: parsed, and checked against the SDK's own parameter types.

The types say every name, which are required, and what each holds. An unknown or missing name, a
word that is no choice, and a number that is none are refused as Stripe words it.
"""

import importlib
import types
import typing
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qsl

import typing_extensions
from stripe._request_options import RequestOptions

from billing.providers.fake.errors import ApiError

_OPTIONS: Final = frozenset(RequestOptions.__annotations__)  # Go into headers, never into the form.
_OPTIONAL: Final = (typing.NotRequired, typing.Required, typing_extensions.NotRequired, typing_extensions.Required)
_UNIONS: Final = (typing.Union, types.UnionType)
_LITERALS: Final = (typing.Literal, typing_extensions.Literal)
_DEEPEST: Final = 8


def parse_form(text: str) -> dict[str, Any]:
    """Return a form's nested values: `a[b]=1&c[0][d]=2` is {"a": {"b": "1"}, "c": {"0": {"d": "2"}}}."""
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        path = name.replace("]", "").split("[")
        if len(path) > _DEEPEST:
            message = f"Invalid request: {name[:80]} is nested too deeply."
            raise ApiError(message)
        node = tree
        for part in path[:-1]:
            inner = node.setdefault(part, {})
            node = inner if isinstance(inner, dict) else {}
        key = path[-1] or str(len(node))  # expand[]=a&expand[]=b
        node[key] = value
    return tree


@cache
def load_type(name: str) -> type:
    """Return a parameter type of the SDK: `_refund_create_params.RefundCreateParams`."""
    module, _, attribute = name.rpartition(".")
    found: type = getattr(importlib.import_module(f"stripe.params.{module}"), attribute)
    return found


def check_form(values: Mapping[str, Any], shape: type) -> dict[str, Any]:
    """Return the values as the type says they are: numbers as int, flags as bool, lists as lists.

    Raises:
        ApiError: a name is unknown or missing, or a value is not of its type.
    """
    return _checked_fields(values, shape, "")


def _checked_fields(values: Any, shape: type, at: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        message = f"Invalid object: {at}"
        raise ApiError(message, param=at)
    known = {name: hint for name, hint in shape.__annotations__.items() if name not in _OPTIONS}
    required = frozenset(getattr(shape, "__required_keys__", ())) - _OPTIONS
    for name in values:
        if name not in known:
            message = f"Received unknown parameter: {_path(at, name)}"
            raise ApiError(message, param=_path(at, name), code="parameter_unknown")
    for name in sorted(required):
        if name not in values:
            message = f"Missing required param: {_path(at, name)}."
            raise ApiError(message, param=_path(at, name), code="parameter_missing")
    scope = vars(importlib.import_module(shape.__module__))
    return {name: _checked(value, known[name], _path(at, name), scope) for name, value in values.items()}


def _path(at: str, name: str) -> str:
    return f"{at}[{name}]" if at else name


def _resolved(hint: Any, scope: Mapping[str, Any]) -> Any:
    """Return what an annotation stands for: they are text in places, and say whether they are required."""
    while True:
        if isinstance(hint, typing.ForwardRef):
            hint = hint.__forward_arg__
        if isinstance(hint, str):
            hint = eval(hint, dict(scope))  # noqa: S307 (annotations of the installed SDK, nothing from outside)
        elif typing.get_origin(hint) in _OPTIONAL:
            hint = typing.get_args(hint)[0]
        else:
            return hint


def _checked(value: Any, hint: Any, at: str, scope: Mapping[str, Any]) -> Any:
    hint = _resolved(hint, scope)
    origin = typing.get_origin(hint)
    if origin in _UNIONS:
        return _checked_union(value, hint, at, scope)
    if origin in _LITERALS:
        return _checked_choice(value, typing.get_args(hint), at)
    if origin is list:
        return _checked_list(value, typing.get_args(hint)[0], at, scope)
    if typing_extensions.is_typeddict(hint):
        return _checked_fields(value, hint, at)
    if origin is not None or hint is Any or not isinstance(hint, type) or issubclass(hint, dict):
        return _checked_free(value, at)
    return _checked_plain(value, hint, at)


def _checked_union(value: Any, hint: Any, at: str, scope: Mapping[str, Any]) -> Any:
    fault: ApiError | None = None
    kinds = [_resolved(kind, scope) for kind in typing.get_args(hint)]
    # The SDK writes choices as `Literal["a", "b"] | str`, for those to come. Today's API refuses others.
    if any(typing.get_origin(kind) in _LITERALS and any(typing.get_args(kind)) for kind in kinds):
        kinds = [kind for kind in kinds if kind is not str]
    # A plain text fits anything: the more exact kinds are tried first.
    for kind in sorted(kinds, key=lambda kind: kind is str):
        try:
            return _checked(value, kind, at, scope)
        except ApiError as error:
            fault = error if fault is None or typing_extensions.is_typeddict(kind) else fault
    assert fault is not None
    raise fault


def _checked_choice(value: Any, choices: tuple[Any, ...], at: str) -> Any:
    for choice in choices:
        if value == str(choice):
            return choice
    message = f"Invalid {at}: must be one of {', '.join(map(str, choices[:12]))}"
    raise ApiError(message, param=at)


def _checked_list(value: Any, inner: Any, at: str, scope: Mapping[str, Any]) -> list[Any]:
    if not isinstance(value, Mapping):
        message = "Invalid array"
        raise ApiError(message, param=at)
    return [_checked(item, inner, f"{at}[{index}]", scope) for index, item in value.items()]


def _checked_free(value: Any, at: str) -> Any:
    """Check a free map such as metadata: texts by name, bounded as Stripe bounds them."""
    if not isinstance(value, Mapping):
        message = f"Invalid object: {at}"
        raise ApiError(message, param=at)
    for name, text in value.items():
        if isinstance(text, str) and (len(name) > 40 or len(text) > 500):
            message = f"Metadata keys have at most 40 characters and values 500: {at}[{name[:50]}]"
            raise ApiError(message, param=at)
    return dict(value)


def _checked_plain(value: Any, kind: type, at: str) -> Any:
    if not isinstance(value, str):
        message = f"Invalid string: {at}"
        raise ApiError(message, param=at)
    if kind is int:
        if value.lstrip("-").isdigit():
            return int(value)
        message = f"Invalid integer: {value[:40]}"
        raise ApiError(message, param=at, code="parameter_invalid_integer")
    if kind is bool:
        if value in {"true", "false"}:
            return value == "true"
        message = f"Invalid boolean: {value[:40]}"
        raise ApiError(message, param=at)
    if kind in {float, Decimal}:
        try:
            return str(Decimal(value))
        except InvalidOperation:
            message = f"Invalid decimal: {value[:40]}"
            raise ApiError(message, param=at) from None
    return value
