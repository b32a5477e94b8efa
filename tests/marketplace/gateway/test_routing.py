"""Which paths the gateway takes."""

import pytest

from marketplace.errors import MethodNotAllowed, ModelNotFound
from marketplace.gateway.routing import Route, find_route, is_gateways


def test_a_predict_path_names_owner_and_model() -> None:
    assert find_route("POST", "/v1/models/farebox/sentiment/predict") == Route("predict", "farebox/sentiment", None)


def test_a_version_may_be_named() -> None:
    assert find_route("POST", "/v1/models/farebox/sentiment@12/estimate") == Route("estimate", "farebox/sentiment", 12)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/v1/models/farebox/sentiment",
        "/v1/models/farebox/sentiment/destroy",
        "/v1/models//sentiment/predict",
        "/v1/models/farebox/@1/predict",
        "/v1/models/farebox/sentiment@/predict",
        "/v1/models/farebox/sentiment@x/predict",
        "/v1/models/farebox/sentiment@\u0661/predict",
        "/v1/models/farebox/sentiment@1234567890/predict",
        "/v1/models/a/b/c/predict",
        "/v2x/models/farebox/sentiment/infer",
        "/v2/models",
        "/v2/models/farebox",
        "/v2/models/--",
        "/v2/models/farebox--/infer",
        "/v2/models/--sentiment/infer",
        "/v2/models/farebox/sentiment/versions/x/infer",
        "/v2/models/farebox/sentiment/versions/1234567890",
        "/v2/models/farebox/sentiment/versions/1/destroy",
        "/v2/models/Farebox/sentiment",
        "/v2/models/" + "a" * 41 + "/b",
        "/v2/models/a/b/c/infer",
        "/v2/health",
        "/v2/repository",
        "/v2/logging/more",
    ],
)
def test_other_paths_are_not_the_gateways(path: str) -> None:
    assert find_route("POST", path) is None
    assert find_route("GET", path) is None


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/v2", Route("server", "", None)),
        ("GET", "/v2/", Route("server", "", None)),
        ("GET", "/v2/health/live", Route("live", "", None)),
        ("GET", "/v2/health/ready", Route("ready", "", None)),
        ("POST", "/v2/repository/index", Route("index", "", None)),
        ("GET", "/v2/models/stats", Route("statistics", "", None)),
        ("GET", "/v2/models/farebox/sentiment", Route("metadata", "farebox/sentiment", None)),
        ("GET", "/v2/models/farebox--sentiment", Route("metadata", "farebox/sentiment", None)),
        ("GET", "/v2/models/a-b--c-d/versions/7", Route("metadata", "a-b/c-d", 7)),
        ("GET", "/v2/models/farebox/stats", Route("metadata", "farebox/stats", None)),
        ("GET", "/v2/models/farebox--sentiment/stats", Route("statistics", "farebox/sentiment", None)),
        ("GET", "/v2/models/farebox/sentiment/versions/12/config", Route("config", "farebox/sentiment", 12)),
        ("GET", "/v2/models/farebox/sentiment/ready", Route("model_ready", "farebox/sentiment", None)),
        ("POST", "/v2/models/farebox/sentiment/infer", Route("infer", "farebox/sentiment", None)),
        ("POST", "/v2/models/farebox--sentiment/versions/3/infer", Route("infer", "farebox/sentiment", 3)),
        ("POST", "/v2/repository/models/farebox/sentiment/load", Route("not_offered", "", None)),
        ("POST", "/v2/repository/models/x/unload", Route("not_offered", "", None)),
        ("GET", "/v2/trace/setting", Route("not_offered", "", None)),
        ("POST", "/v2/models/farebox/sentiment/trace/setting", Route("not_offered", "", None)),
        ("GET", "/v2/logging", Route("not_offered", "", None)),
        ("GET", "/v2/systemsharedmemory/status", Route("not_offered", "", None)),
        ("POST", "/v2/cudasharedmemory/region/x/register", Route("not_offered", "", None)),
    ],
)
def test_the_open_inference_protocols_addresses_are_known(method: str, path: str, route: Route) -> None:
    assert find_route(method, path) == route
    assert is_gateways(method, path)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v2/models/a/b/infer"), ("POST", "/v2"), ("DELETE", "/v2/models/a/b"), ("GET", "/v2/repository/index")]
)
def test_another_method_is_refused(method: str, path: str) -> None:
    with pytest.raises(MethodNotAllowed):
        find_route(method, path)


def test_a_model_without_its_owner_is_told_how_models_are_named() -> None:
    with pytest.raises(ModelNotFound, match="owner/model"):
        find_route("POST", "/v2/models/sentiment/infer")


def test_pages_and_the_rest_api_are_not_the_gateways() -> None:
    assert not is_gateways("GET", "/v1/models/farebox/sentiment/predict")
    assert not is_gateways("POST", "/v1/keys")
    assert not is_gateways("GET", "/v22")
