"""Which paths the gateway takes."""

import pytest

from marketplace.gateway.routing import Route, find_route


def test_a_predict_path_names_owner_and_model() -> None:
    assert find_route("/v1/models/farebox/sentiment/predict") == Route("predict", "farebox/sentiment", None)


def test_a_version_may_be_named() -> None:
    assert find_route("/v1/models/farebox/sentiment@12/estimate") == Route("estimate", "farebox/sentiment", 12)


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
        "/v2/models/farebox/sentiment/infer",
    ],
)
def test_other_paths_are_not_the_gateways(path: str) -> None:
    assert find_route(path) is None
