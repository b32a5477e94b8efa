from datetime import timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from marketplace.keys import KeySettings, issue_key
from marketplace.latency import Latency, latency_of_model, latency_of_organization, latency_of_site, percentile
from marketplace.models import ApiKey, ModelVersion, Organization
from tests.marketplace.web.recorded import record_call


@pytest.fixture(autouse=True)
def _empty_cache() -> None:
    cache.clear()


def _key_of(organization: Organization) -> ApiKey:
    return issue_key(organization=organization, name="laptop", settings=KeySettings(), by="test")[0]


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (1, 1)])
def test_percentiles_are_nearest_rank(percent: int, value: int) -> None:
    assert percentile(range(1, 101), percent) == value


@pytest.mark.parametrize(("percent", "value"), [(5, 15), (30, 20), (40, 20), (50, 35), (99, 50), (100, 50)])
def test_percentiles_of_few_values_are_values(percent: int, value: int) -> None:
    assert percentile([15, 20, 35, 40, 50], percent) == value  # Wikipedia, "Percentile", nearest-rank, first example.


def test_latency_leaves_out_refused_and_old_calls(organization: Organization, sentiment: ModelVersion) -> None:
    key = _key_of(organization)
    record_call(key, sentiment, status=503, code="queue_full", total_us=9_000_000)
    record_call(key, sentiment, at=timezone.now() - timedelta(hours=25), total_us=9_000_000)
    assert latency_of_organization(organization) is None

    record_call(key, sentiment, total_us=2_000)

    assert latency_of_organization(organization) == Latency(calls=1, p50_us=2_000, p99_us=2_000)


def test_an_organizations_latency_is_of_its_own_calls_a_models_of_all(
    organization: Organization, other_organization: Organization, sentiment: ModelVersion
) -> None:
    record_call(_key_of(organization), sentiment, total_us=2_000)
    record_call(_key_of(other_organization), sentiment, total_us=8_000)

    assert latency_of_organization(organization) == Latency(calls=1, p50_us=2_000, p99_us=2_000)
    assert latency_of_model(sentiment.model) == latency_of_site() == Latency(calls=2, p50_us=2_000, p99_us=8_000)


def test_a_models_latency_is_measured_every_half_minute_even_where_nobody_called(
    organization: Organization, sentiment: ModelVersion
) -> None:
    assert latency_of_model(sentiment.model) is None

    record_call(_key_of(organization), sentiment)

    assert latency_of_model(sentiment.model) is None  # Kept.
    cache.clear()
    assert latency_of_model(sentiment.model) is not None
