"""No tenant sees another's at the gateway: every address that it answers, from its own tables."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from marketplace.gateway.routing import ACTIONS, V2_MODEL_ACTIONS, V2_SITE_ACTIONS
from tests.contract.conftest import TensorSite
from tests.flows.calls import Answer, Caller

TENSOR = {"inputs": [{"name": "x", "shape": [4], "datatype": "FP32", "data": [1, 0, 0, 2]}]}


@dataclass(frozen=True)
class Address:
    """One address; `{model}` stands for a model's name."""

    method: str
    path: str
    body: Any = None
    is_open: bool = False  # Works without a key.
    foreign_status: int = 404


ADDRESSES = {
    "predict": Address("POST", "/v1/models/{model}/predict", {"input_data": "a"}),
    "estimate": Address("POST", "/v1/models/{model}/estimate", {"input_data": "a"}),
    "explain": Address("POST", "/v1/models/{model}/explain", {"input_data": "a"}),
    "predictions": Address("POST", "/v1/models/{model}/predictions", {"input_data": "a"}),
    "server": Address("GET", "/v2"),
    "live": Address("GET", "/v2/health/live", is_open=True),
    "ready": Address("GET", "/v2/health/ready", is_open=True),
    "index": Address("POST", "/v2/repository/index"),
    "all_statistics": Address("GET", "/v2/models/stats"),
    "metadata": Address("GET", "/v2/models/{model}"),
    "model_ready": Address("GET", "/v2/models/{model}/ready", foreign_status=400),
    "config": Address("GET", "/v2/models/{model}/config"),
    "statistics": Address("GET", "/v2/models/{model}/stats"),
    "infer": Address("POST", "/v2/models/{model}/infer", TENSOR),
    "versioned": Address("GET", "/v2/models/{model}/versions/1"),
    "not_offered": Address("POST", "/v2/repository/models/{model}/load", {}),
}
KEYED = [name for name, address in ADDRESSES.items() if not address.is_open]
NAMED = [name for name in KEYED if "{model}" in ADDRESSES[name].path]
NAMED_V2 = [name for name in NAMED if ADDRESSES[name].path.startswith("/v2")]


def ask(site: TensorSite, address: Address, model: str, key: str | None) -> Answer:
    """Send a request."""
    caller = Caller(site.site.port, key)
    path = address.path.format(model=model)
    if address.method == "GET":
        return caller.get(path)
    return caller.post(path, raw=json.dumps(address.body).encode() if address.body is not None else b"")


def plain(answer: Answer, model: str) -> tuple[int, bytes, dict[str, str]]:
    """Return an answer without what differs between any two requests."""
    changing = {"request-id", "ratelimit", "date", "server-timing"}
    headers = {name: value for name, value in answer.headers.items() if name not in changing and name != "content-length"}
    return answer.status, answer.body.replace(answer.headers["request-id"].encode(), b"").replace(model.encode(), b""), headers


def test_every_address_is_in_the_matrix() -> None:
    actions = {action for table in (V2_SITE_ACTIONS, V2_MODEL_ACTIONS) for _, action in table.values()}

    assert ACTIONS | actions <= ADDRESSES.keys()


@pytest.mark.parametrize(
    ("name", "written"), [(name, "{owner}/{name}") for name in NAMED] + [(name, "{owner}--{name}") for name in NAMED_V2]
)
def test_a_foreign_model_is_answered_as_an_absent_one(tensor_site: TensorSite, name: str, written: str) -> None:
    address = ADDRESSES[name]
    theirs, nothing = written.format(owner="other", name="private"), written.format(owner="other", name="absentt")

    foreign, absent = (ask(tensor_site, address, model, tensor_site.key) for model in (theirs, nothing))

    assert foreign.status == address.foreign_status
    assert plain(foreign, theirs) == plain(absent, nothing)


def test_the_owner_itself_can_call_it(tensor_site: TensorSite) -> None:
    assert ask(tensor_site, ADDRESSES["infer"], "other/private", tensor_site.their_key).status == 200


@pytest.mark.parametrize("name", KEYED)
def test_nothing_is_answered_without_a_key(tensor_site: TensorSite, name: str) -> None:
    answer = ask(tensor_site, ADDRESSES[name], "farebox/sentiment", None)

    assert answer.status == 401
    assert b"key_missing" in answer.body


@pytest.mark.parametrize("name", KEYED)
def test_nothing_is_answered_to_a_revoked_key(tensor_site: TensorSite, name: str) -> None:
    key = tensor_site.site.issue_key(name=f"revoked {name}")
    tensor_site.site.revoke_key(key["id"])

    answer = ask(tensor_site, ADDRESSES[name], "farebox/sentiment", key["secret"])

    assert answer.status == 401
    assert tensor_site.site.events_of(key["id"]) == 0


@pytest.fixture(scope="module")
def listed_key(tensor_site: TensorSite) -> str:
    """A key of the demo organization that may call one model."""
    return str(tensor_site.site.issue_key(name="listed", allowed_models=["acme/nonzero"])["secret"])


@pytest.mark.parametrize("name", KEYED)
def test_a_key_with_a_list_sees_no_other_model(tensor_site: TensorSite, listed_key: str, name: str) -> None:
    address = ADDRESSES[name]

    answer = ask(tensor_site, address, "farebox/sentiment", listed_key)

    if "{model}" in address.path:
        assert answer.status == address.foreign_status
    assert b"farebox/sentiment" not in answer.body


@pytest.mark.parametrize("name", KEYED)
def test_no_answer_tells_of_another_tenant(tensor_site: TensorSite, name: str) -> None:
    ask(tensor_site, ADDRESSES["infer"], "other/private", tensor_site.their_key)

    answer = ask(tensor_site, ADDRESSES[name], "farebox/sentiment", tensor_site.key)

    assert b"other/private" not in answer.body
