import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from inference import landlock
from marketplace.examining import examine_waiting
from marketplace.models import ModelVersion, Organization
from tests.inference import hostile
from tests.marketplace.uploaded import a_model, examined, submitted

pytestmark = pytest.mark.skipif(landlock.find_abi() is None, reason="this kernel has no Landlock, so uploads are refused")


def form(content: bytes | None = None, **fields: Any) -> dict[str, Any]:
    """A filled form of a new model."""
    return {
        "name": "relu",
        "title": "Relu",
        "summary": "Nothing below zero.",
        "task": "tabular",
        "unit": "row",
        "unit_price": "0.000001",
        "model": SimpleUploadedFile("relu.onnx", hostile.relu().SerializeToString() if content is None else content),
        "samples": SimpleUploadedFile("samples.json", json.dumps([{"x": [[1, -1]]}]).encode()),
        **fields,
    }


def page(name: str, *place: object) -> str:
    return reverse(name, args=place)


def test_a_provider_publishes_from_the_pages(member: Client, organization: Organization) -> None:
    sent = member.post(page("publish_new"), form())
    assert (sent.status_code, sent["Location"]) == (302, page("publish_version", "relu", 1))
    assert b"It waits to be examined" in member.get(sent["Location"]).content
    assert "HX-Refresh" not in member.get(page("publish_state", "relu", 1))

    examine_waiting()

    assert member.get(page("publish_state", "relu", 1))["HX-Refresh"] == "true"
    report = member.get(sent["Location"]).content.decode()
    assert "parity" in report
    assert "p50" in report
    member.post(page("publish_live", "relu", 1), {"share_percent": 100})
    version = organization.models.get().versions.get()
    assert (version.state, version.traffic_weight) == ("live", 1)
    assert b"100" in member.get(page("publish_model", "relu")).content
    member.post(page("publish_price", "relu", 1), {"unit_price": "0"})
    assert b"from" in member.get(sent["Location"]).content
    member.post(page("publish_retire", "relu", 1), {"reason": "done"})
    version.refresh_from_db()
    assert version.state == "retired"


def test_a_form_that_is_wrong_makes_neither_model_nor_version(member: Client, organization: Organization, settings: Any) -> None:
    for wrong in ({"name": "Not A Name"}, {"unit_price": ""}, {"unit_price": "x"}, {"int8_tolerance": "2"}, {"model": ""}):
        assert member.post(page("publish_new"), form(**wrong)).status_code == 422
    a_model(organization, name="taken")

    taken = member.post(page("publish_new"), form(name="taken"))

    assert taken.status_code == 422
    assert b"Name taken" in taken.content
    assert [model.name for model in organization.models.all()] == ["taken"]
    assert not ModelVersion.objects.exists()
    assert [path for path in settings.ARTIFACTS_DIR.rglob("*") if path.is_file()] == []


def test_a_failed_version_shows_why_and_offers_nothing_to_do(member: Client, organization: Organization) -> None:
    version = examined(a_model(organization), b"PK\x03\x04 a zip")

    shown = member.get(page("publish_version", "relu", version.number)).content.decode()
    refused = member.post(page("publish_live", "relu", version.number), {"share_percent": 100})

    assert "zip archive" in shown
    assert page("publish_live", "relu", version.number) not in shown
    assert refused.status_code == 422
    version.refresh_from_db()
    assert version.state == "failed"


def test_a_higher_price_without_notice_is_refused_at_its_form(member: Client, organization: Organization) -> None:
    version = examined(a_model(organization))
    member.post(page("publish_live", "relu", 1), {"share_percent": 100})

    reply = member.post(page("publish_price", "relu", version.number), {"unit_price": "5"})

    assert reply.status_code == 422
    assert b"alert--bad" in reply.content


def test_a_description_is_changed_and_shown_to_others(member: Client, organization: Organization) -> None:
    a_model(organization)

    member.post(page("publish_model", "relu"), {"title": "<b>Better</b>", "summary": "S", "task": "t", "public": "on"})

    model = organization.models.get()
    assert (model.title, model.public) == ("<b>Better</b>", True)
    assert b"&lt;b&gt;Better" in member.get(page("publish_model", "relu")).content


def test_names_from_a_hostile_report_are_escaped(member: Client, organization: Organization) -> None:
    version = submitted(a_model(organization))
    report = {
        "gate": 1,
        "passed": False,
        "checks": [{"name": "<i>", "outcome": "<i>", "detail": "<script>x</script>"}],
        "figures": {"p50_ms": "<i>"},
    }
    ModelVersion.objects.filter(pk=version.pk).update(state="failed", report=report)

    shown = member.get(page("publish_version", "relu", 1)).content.decode()

    assert "<script>x" not in shown
    assert "<i>" not in shown


def test_the_models_own_page_shows_both_figures(member: Client, organization: Organization) -> None:
    version = examined(a_model(organization, public=True))
    figures = {
        "kept": True, "difference": 0.004, "tolerance": 0.02, "samples": 12, "p50_ms": 0.1, "p99_ms": 0.2,
        "float32_p50_ms": 0.3, "float32_p99_ms": 0.4, "size_bytes": 2_900_000, "float32_size_bytes": 11_500_000,
    }  # fmt: skip
    report = {**version.report, "figures": {**version.report["figures"], "int8": figures}}
    ModelVersion.objects.filter(pk=version.pk).update(report=report, int8_digest="a" * 64)
    member.post(page("publish_live", "relu", 1), {"share_percent": 100})

    shown = member.get("/models/acme/relu/").content.decode()

    assert "One row, int8" in shown
    assert "0.004" in shown
    assert "a" * 64 in shown
