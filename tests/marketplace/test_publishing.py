import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.errors import PriceInvalid
from billing.models import Price
from billing.prices import price_history
from inference import landlock
from inference.gate.examine import Examination
from inference.gate.report import Report, failed, passed
from marketplace.errors import (
    ModelNameTaken,
    ModelStorageExceeded,
    TooManyWaiting,
    UploadInvalid,
    UploadsRefused,
    VersionStateWrong,
)
from marketplace.gateway.versions import load_model
from marketplace.listing import describe_model
from marketplace.models import AuditEvent, CatalogueModel, ModelVersion, Organization
from marketplace.publishing import (
    go_live,
    note_examination,
    publish_version,
    retire_version,
    set_share,
    set_version_price,
)
from tests.inference import hostile
from tests.marketplace.uploaded import a_model, submitted

pytestmark = pytest.mark.skipif(landlock.find_abi() is None, reason="this kernel has no Landlock, so uploads are refused")
PASSED = Examination(Report(checks=[passed("load", "It loads.")]))
FAILED = Examination(Report(checks=[failed("load", "It does not load.")]))


@pytest.fixture
def model(organization: Organization) -> CatalogueModel:
    return a_model(organization)


def ready(model: CatalogueModel, content: Any = None) -> ModelVersion:
    version = submitted(model, content)
    note_examination(version, PASSED)
    return version


def weights(model: CatalogueModel) -> list[int]:
    return list(model.versions.order_by("number").values_list("traffic_weight", flat=True))


def test_what_is_submitted_waits_and_can_not_be_called(model: CatalogueModel, settings: Any) -> None:
    version = submitted(model)

    assert (version.number, version.state, version.traffic_weight, version.published_at) == (1, "draft", 0, None)
    content = (settings.ARTIFACTS_DIR / version.folder / "model.onnx").read_bytes()
    assert hashlib.sha256(content).hexdigest() == version.digest
    assert len(content) == version.size_bytes
    served = load_model(model.path)
    assert served is not None
    assert served.versions == []


def test_a_name_is_one_owners_once(organization: Organization, other_organization: Organization, model: CatalogueModel) -> None:
    with pytest.raises(ModelNameTaken):
        a_model(organization)

    assert a_model(other_organization).path == "other/relu"
    assert organization.models.count() == 1


def test_files_are_taken_by_our_names_and_sizes_alone(model: CatalogueModel, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from marketplace.publishing import submit_version

    fields: dict[str, Any] = {"model": model, "unit": "row", "unit_nanos": 1, "int8_tolerance": None, "by": "test"}
    monkeypatch.setitem(__import__("marketplace.artifact_files").artifact_files.FILES, "pipeline.json", 10)
    refused = [
        ({"../../passwd": [b"x"], "model.onnx": [b"x"]}, "no file"),
        ({"pipeline.json": [b"{}"]}, "Send the ONNX file"),
        ({"model.onnx": []}, "Send the ONNX file"),
        ({"model.onnx": [b"x"], "pipeline.json": [b"12345", b"67890", b"1"]}, "more than 10 bytes"),
        ({"model.onnx": [b"x"], "card.json": [b"[1]"]}, "no JSON object"),
        ({"model.onnx": [b"x"], "card.json": [b"[" * 100_000]}, "no JSON object"),
    ]
    for files, told in refused:
        with pytest.raises(UploadInvalid, match=told):
            submit_version(files=files, **fields)

    assert not model.versions.exists()
    assert not Price.objects.filter(sku__startswith=model.path).exists()
    assert [path for path in settings.ARTIFACTS_DIR.rglob("*") if path.is_file()] == []


def test_a_bad_price_or_tolerance_keeps_nothing(model: CatalogueModel, settings: Any) -> None:
    with pytest.raises(PriceInvalid):
        submitted(model, unit_nanos=-1)
    with pytest.raises(PriceInvalid):
        submitted(model, unit="parsec")
    for tolerance in (0, -1, 1.5, float("nan")):
        with pytest.raises(UploadInvalid):
            submitted(model, int8_tolerance=tolerance)

    assert not model.versions.exists()
    assert [path for path in settings.ARTIFACTS_DIR.rglob("*") if path.is_file()] == []


def test_room_and_waiting_versions_are_bounded(model: CatalogueModel, settings: Any) -> None:
    settings.ORGANIZATION_STORAGE_MB = 1
    ModelVersion.objects.filter(pk=submitted(model).pk).update(size_bytes=2**20 - 50, state="ready", report={})

    with pytest.raises(ModelStorageExceeded):
        submitted(model)

    settings.ORGANIZATION_STORAGE_MB = 100
    for _ in range(5):
        submitted(model)
    with pytest.raises(TooManyWaiting):
        submitted(model)
    assert model.versions.count() == 6


def test_without_landlock_uploads_are_refused_and_nothing_is_written(
    model: CatalogueModel, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landlock, "find_abi", lambda: None)

    with pytest.raises(UploadsRefused):
        submitted(model)

    assert not model.versions.exists()
    assert not settings.ARTIFACTS_DIR.exists()


def test_a_version_that_failed_loses_its_files_and_never_goes_live(
    model: CatalogueModel, settings: Any, django_capture_on_commit_callbacks: Any
) -> None:
    version = submitted(model)

    with django_capture_on_commit_callbacks(execute=True):
        note_examination(version, FAILED)

    assert version.state == "failed"
    assert not (settings.ARTIFACTS_DIR / version.folder).exists()
    with pytest.raises(VersionStateWrong):
        go_live(version, share_percent=100, by="test")
    version.refresh_from_db()
    assert (version.state, version.report["passed"]) == ("failed", False)


@pytest.mark.parametrize("state", ["draft", "validating", "failed", "live", "retired"])
def test_only_what_is_ready_goes_live(model: CatalogueModel, state: str) -> None:
    version = submitted(model)
    ModelVersion.objects.filter(pk=version.pk).update(state=state, claimed_until=timezone.now())

    with pytest.raises(VersionStateWrong):
        go_live(version, share_percent=100, by="test")

    version.refresh_from_db()
    assert (version.state, version.published_at) == (state, None)


def test_a_version_goes_live_as_a_canary_takes_over_and_retires(model: CatalogueModel) -> None:
    first, second, third = (ready(model) for _ in range(3))

    go_live(first, share_percent=100, by="test")
    assert weights(model) == [1, 0, 0]
    go_live(second, share_percent=10, by="test")
    assert weights(model) == [9, 1, 0]
    go_live(third, share_percent=50, by="test")
    assert weights(model) == [9, 1, 10]  # The first two keep nine to one.
    set_share(second, share_percent=0, by="test")
    assert weights(model) == [9, 0, 10]
    set_share(third, share_percent=100, by="test")
    assert weights(model) == [0, 0, 1]
    retire_version(first, reason="old", by="test")
    served = load_model(model.path)
    assert served is not None
    assert sorted(version.number for version in served.versions) == [2, 3]
    assert [event.action for event in AuditEvent.objects.filter(target=first.sku).order_by("sequence")] == [
        "version.submitted",
        "version.examined",
        "version.published",
        "version.retired",
    ]


def test_a_share_beyond_all_changes_nothing(model: CatalogueModel) -> None:
    version = ready(model)

    with pytest.raises(UploadInvalid):
        go_live(version, share_percent=101, by="test")
    with pytest.raises(VersionStateWrong):
        set_share(version, share_percent=50, by="test")

    version.refresh_from_db()
    assert (version.state, version.traffic_weight) == ("ready", 0)


def test_what_waits_or_failed_is_not_retired(model: CatalogueModel) -> None:
    version = submitted(model)

    with pytest.raises(VersionStateWrong):
        retire_version(version, reason="", by="test")

    version.refresh_from_db()
    assert version.state == "draft"


def test_a_higher_price_of_a_live_version_needs_notice_and_a_lower_one_none(model: CatalogueModel, settings: Any) -> None:
    settings.PRICE_NOTICE_DAYS = 14
    version = ready(model)
    set_version_price(version, unit_nanos=3_000, effective_from=None, by="test")  # Nobody calls it yet.
    go_live(version, share_percent=100, by="test")
    soon, later = (timezone.now() + timedelta(days=days) for days in (13, 15))

    for moment in (None, soon):
        with pytest.raises(PriceInvalid):
            set_version_price(version, unit_nanos=4_000, effective_from=moment, by="test")
    set_version_price(version, unit_nanos=4_000, effective_from=later, by="test")
    set_version_price(version, unit_nanos=2_000, effective_from=None, by="test")

    assert [terms.unit_nanos for _, terms in price_history(version.sku)] == [1_000, 3_000, 2_000, 4_000]


def test_a_new_price_is_in_the_sites_currency_unless_another_is_said(model: CatalogueModel, settings: Any) -> None:
    settings.CURRENCY = "eur"
    version = ready(model)

    set_version_price(version, unit_nanos=500, effective_from=None, by="test")
    set_version_price(version, unit_nanos=600, currency="usd", effective_from=None, by="test")

    assert [[terms.unit_nanos for _, terms in price_history(version.sku, currency=one)] for one in ("eur", "usd")] == [[1_000, 500], [600]]


def test_int8_is_what_is_served_on_a_cpu_unless_the_operator_says_no(model: CatalogueModel, settings: Any) -> None:
    version = submitted(model)
    int8 = hostile.model([hostile.helper.make_node("Neg", ["x"], ["y"])]).SerializeToString()
    note_examination(version, Examination(PASSED.report, int8))
    go_live(version, share_percent=100, by="test")

    served = load_model(model.path)
    settings.SERVE_INT8 = False
    plain = load_model(model.path)

    assert served is not None
    assert plain is not None
    assert served.versions[0].bundle.digest == version.int8_digest == hashlib.sha256(int8).hexdigest()
    assert plain.versions[0].bundle.digest == version.digest


def test_what_is_said_of_a_model_changes_by_name(model: CatalogueModel) -> None:
    describe_model(model, facts={"title": "Better", "name": "stolen"}, by="test")

    model.refresh_from_db()
    assert (model.title, model.name, model.summary) == ("Better", "relu", "Nothing below zero.")


def test_the_operators_folder_is_examined_and_live_in_one_step_and_only_once(model: CatalogueModel, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(hostile.relu().SerializeToString())
    (tmp_path / "card.json").write_text(json.dumps({"licence": "MIT"}))

    version = publish_version(model=model, source=tmp_path, unit="row", unit_nanos=5, by="test")
    again = publish_version(model=model, source=tmp_path, unit="row", unit_nanos=5, by="test", examination=PASSED)

    assert again.pk == version.pk
    version.refresh_from_db()
    assert (version.state, version.traffic_weight, version.card) == ("live", 1, {"licence": "MIT"})
    assert version.report["passed"]


def test_the_operators_hostile_folder_is_refused_too(model: CatalogueModel, tmp_path: Path, settings: Any) -> None:
    (tmp_path / "model.onnx").write_bytes(hostile.outside_in_initializer().SerializeToString())

    with pytest.raises(UploadInvalid, match="external_data"):
        publish_version(model=model, source=tmp_path, unit="row", unit_nanos=5, by="test")

    assert not model.versions.exists()
    assert not settings.ARTIFACTS_DIR.exists()


@pytest.mark.parametrize("fields", [{"state": "sold"}, {"state": "ready", "report": None}, {"state": "validating", "claimed_until": None}])
def test_the_database_refuses_states_that_cannot_be(model: CatalogueModel, fields: dict[str, Any]) -> None:
    version = submitted(model)

    with pytest.raises(IntegrityError), transaction.atomic():
        ModelVersion.objects.filter(pk=version.pk).update(**fields)
