"""The rules of versions: submit, go live, weigh, price, retire."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import reduce
from math import gcd
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from billing.errors import PriceInvalid
from billing.models import Price
from billing.prices import set_price, shape_of_price
from billing.pricing import Shape
from billing.shapes import render_shape
from inference import landlock
from inference.gate.examine import Examination, examine
from marketplace import artifact_files, audit
from marketplace.artifact_files import Taken
from marketplace.changes import model_changed
from marketplace.errors import (
    ModelStorageExceeded,
    TooManyWaiting,
    UploadInvalid,
    UploadsRefused,
    VersionStateWrong,
)
from marketplace.listing import Actor, create_model
from marketplace.models import CatalogueModel, ModelVersion, Organization, User
from marketplace.provider_shares import start_share
from marketplace.webhooks.releases import tell_published, tell_retired

# Versions of one organization that may wait to be examined: each costs up to three times GATE_TIMEOUT_S.
_MAX_WAITING: Final = 5
_WAITING: Final = (ModelVersion.State.DRAFT, ModelVersion.State.VALIDATING)


@transaction.atomic
def list_model(*, owner: Organization, name: str, source: Path, public: bool, by: User | str) -> CatalogueModel:
    """Return the catalogue's entry of that name, made from the operator's folder where it is new."""
    if model := owner.models.filter(name=name).first():
        return model
    card = json.loads((source / "card.json").read_text())
    return create_model(
        owner=owner,
        name=name,
        title=card["title"],
        summary=card["summary"],
        task=card["task"],
        card_markdown=(source / "card.md").read_text(),
        public=public,
        by=by,
    )


def submit_version(
    *, model: CatalogueModel, files: Mapping[str, Iterable[bytes]], unit: str, unit_nanos: int, int8_tolerance: float | None, by: Actor
) -> ModelVersion:
    """Take in a version's files; it waits as a draft until it is examined (`examining.py`).

    Args:
        model: Whose next version it becomes.
        files: Name, one of `artifact_files.FILES` -> content in pieces.
        unit: What is counted.
        unit_nanos: Its price.
        int8_tolerance: How far an int8 model may differ on the samples; None makes none.
        by: Who acts.

    Raises:
        UploadsRefused: this kernel cannot keep a stranger's model away from files and the network.
        UploadInvalid, PriceInvalid, ModelStorageExceeded, TooManyWaiting: nothing was kept.
    """
    with _taken_in(model.owner, files, int8_tolerance) as taken:
        return _make_version(model, taken, unit=unit, unit_nanos=unit_nanos, int8_tolerance=int8_tolerance, by=by, checked=False)


def submit_model(
    *,
    owner: Organization,
    facts: Mapping[str, Any],
    files: Mapping[str, Iterable[bytes]],
    unit: str,
    unit_nanos: int,
    int8_tolerance: float | None,
    by: Actor,
) -> ModelVersion:
    """Make a model with its first version, both or neither; `facts` as for `create_model`, the rest as for `submit_version`."""
    with _taken_in(owner, files, int8_tolerance) as taken, transaction.atomic():
        model = create_model(owner=owner, by=by, **facts)
        return _make_version(model, taken, unit=unit, unit_nanos=unit_nanos, int8_tolerance=int8_tolerance, by=by, checked=False)


@contextmanager
def _taken_in(owner: Organization, files: Mapping[str, Iterable[bytes]], int8_tolerance: float | None) -> Iterator[Taken]:
    """Check what can be before the disk is written to, and write the files; no transaction is open meanwhile."""
    if landlock.find_abi() is None:
        raise UploadsRefused
    if int8_tolerance is not None and not 0 < int8_tolerance <= 1:
        message = "The tolerance of int8 is a number above 0, at most 1."
        raise UploadInvalid(message, param="int8_tolerance")
    _check_room(owner, asked_bytes=0)
    taken = artifact_files.take_files(files)
    try:
        yield taken
    finally:
        taken.drop()


@transaction.atomic
def _make_version(
    model: CatalogueModel, taken: Taken, *, unit: str, unit_nanos: int, int8_tolerance: float | None, by: Actor, checked: bool
) -> ModelVersion:
    # Numbers are given one at a time, and room is counted under the same lock.
    owner = Organization.objects.select_for_update().get(pk=model.owner_id)
    if not checked:
        _check_room(owner, asked_bytes=taken.size_bytes)
    newest = model.versions.order_by("-number").first()
    number = newest.number + 1 if newest else 1
    version = ModelVersion(
        model=model,
        number=number,
        digest=taken.digest,
        size_bytes=taken.model_bytes,
        folder=f"{model.pk.hex}/{number}-{taken.digest[:12]}",
        card=_read_card(taken.folder / "card.json"),
        int8_tolerance=int8_tolerance,
        traffic_weight=0,
    )
    version.save(force_insert=True)
    set_price(sku=version.sku, unit=unit, unit_nanos=unit_nanos, meter=model.path, currency=settings.CURRENCY)
    taken.move_to(version.folder)  # Last: where it fails, nothing above stays.
    audit.record(model.owner, action="version.submitted", target=version, by=by, details={"digest": taken.digest})
    return version


def _check_room(owner: Organization, *, asked_bytes: int) -> None:
    versions = ModelVersion.objects.filter(model__owner=owner)
    if versions.filter(state__in=_WAITING).count() >= _MAX_WAITING:
        raise TooManyWaiting
    kept = versions.exclude(state=ModelVersion.State.FAILED)  # Their files are gone.
    sums = kept.aggregate(models=Sum("size_bytes"), int8=Sum("int8_size_bytes"))
    used_bytes = (sums["models"] or 0) + (sums["int8"] or 0)
    limit_bytes = settings.ORGANIZATION_STORAGE_MB * 2**20
    if used_bytes + asked_bytes > limit_bytes:
        raise ModelStorageExceeded(limit_bytes=limit_bytes, used_bytes=used_bytes, asked_bytes=asked_bytes)


def _read_card(path: Path) -> dict[str, Any]:
    """Return the facts of a card, an object of JSON; none where there is no file."""
    if not path.exists():
        return {}
    try:
        card = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        card = None
    if not isinstance(card, dict):
        message = "card.json is no JSON object."
        raise UploadInvalid(message, param="card")
    return card


def examine_folder(source: Path, *, int8_tolerance: float | None = None) -> Examination:
    """Examine the operator's own files, which may be run without Landlock. Takes seconds: open no transaction around it."""
    return examine(source, trusted=True, int8_tolerance=int8_tolerance)


def publish_version(
    *,
    model: CatalogueModel,
    source: Path,
    unit: str,
    unit_nanos: int,
    by: User | str,
    int8_tolerance: float | None = None,
    examination: Examination | None = None,
) -> ModelVersion:
    """Publish the operator's own model from a folder, examined and live in one step, as the model's next version.

    Publishing an artifact that is live already returns that version and changes nothing.

    Args:
        model: Whose version it becomes; all its traffic goes there.
        source: The files, trusted.
        unit: What is counted.
        unit_nanos: Its price.
        by: Who acts.
        int8_tolerance: How far an int8 model may differ on the samples; None makes none.
        examination: What `examine_folder` found, where that was asked before.

    Raises:
        UploadInvalid: the gate refuses it, and says why; nothing was published.
    """
    examination = examination or examine_folder(source, int8_tolerance=int8_tolerance)
    if failures := examination.report.failures:
        message = " ".join(f"{check.name}: {check.detail}" for check in failures)
        raise UploadInvalid(message)
    taken = artifact_files.take_files(artifact_files.read_folder(source))
    try:
        with transaction.atomic():
            if existing := model.versions.filter(digest=taken.digest, state=ModelVersion.State.LIVE).first():
                return existing
            version = _make_version(model, taken, unit=unit, unit_nanos=unit_nanos, int8_tolerance=int8_tolerance, by=by, checked=True)
            note_examination(version, examination)
            go_live(version, share_percent=100, by=by, pays_owner=False)  # The operator's own: the site keeps all.
            return version
    finally:
        taken.drop()


def note_examination(version: ModelVersion, examination: Examination) -> None:
    """Write down what the gate found: the version is ready, or it failed and its files go."""
    report = examination.report
    version.report = report.as_json()
    version.state = ModelVersion.State.READY if report.passed else ModelVersion.State.FAILED
    version.claimed_until = None
    if report.passed and examination.int8 is not None:
        version.int8_digest = artifact_files.write_int8(version.folder, examination.int8)
        version.int8_size_bytes = len(examination.int8)
    version.save(update_fields=["report", "state", "claimed_until", "int8_digest", "int8_size_bytes"])
    if not report.passed:
        folder = version.folder
        transaction.on_commit(lambda: artifact_files.delete_files(folder))
    details = {"passed": report.passed, "failed": [check.name for check in report.failures]}
    audit.record(version.model.owner, action="version.examined", target=version, by="gate", details=details)


@transaction.atomic
def go_live(version: ModelVersion, *, share_percent: int, by: Actor, pays_owner: bool = True) -> None:
    """Let a version that passed be called, with a share of the calls that name no version; its owner earns from now on.

    Raises:
        VersionStateWrong: it has not passed, or is live or retired; nothing was changed.
        UploadInvalid: the share is not between 0 and 100.
    """
    locked = ModelVersion.objects.select_for_update().select_related("model__owner").get(pk=version.pk)
    if locked.state != ModelVersion.State.READY:
        raise VersionStateWrong(state=locked.state, wanted=ModelVersion.State.READY)
    locked.state = version.state = ModelVersion.State.LIVE
    locked.published_at = version.published_at = timezone.now()
    locked.save(update_fields=["state", "published_at"])
    _share_traffic(locked, share_percent)
    version.traffic_weight = locked.traffic_weight
    if pays_owner:
        start_share(locked.model, by=str(by))
    model_changed(locked.model)
    details = {"digest": locked.digest, "share_percent": share_percent}
    audit.record(locked.model.owner, action="version.published", target=locked, by=by, details=details)
    tell_published(locked)


@transaction.atomic
def set_share(version: ModelVersion, *, share_percent: int, by: Actor) -> None:
    """Give a live version a share of the calls that name none; the others keep theirs relative to each other.

    Raises:
        VersionStateWrong: it is not live; nothing was changed.
        UploadInvalid: the share is not between 0 and 100.
    """
    locked = ModelVersion.objects.select_for_update().select_related("model__owner").get(pk=version.pk)
    if locked.state != ModelVersion.State.LIVE:
        raise VersionStateWrong(state=locked.state, wanted=ModelVersion.State.LIVE)
    _share_traffic(locked, share_percent)
    version.traffic_weight = locked.traffic_weight
    model_changed(locked.model)
    audit.record(locked.model.owner, action="version.shared", target=locked, by=by, details={"share_percent": share_percent})


def _share_traffic(version: ModelVersion, percent: int) -> None:
    """Set the weights of a model's live versions so that this one gets the share, exactly."""
    if not 0 <= percent <= 100:
        message = "A share of the traffic is a whole number of percent, from 0 to 100."
        raise UploadInvalid(message, param="share_percent")
    others = {one: one.traffic_weight for one in version.model.versions.filter(state=ModelVersion.State.LIVE).exclude(pk=version.pk)}
    rest = sum(others.values())
    if not rest:  # Nobody to share with: all or nothing.
        weights = dict.fromkeys(others, 0) | {version: min(percent, 1)}
    else:
        weights = {one: weight * (100 - percent) for one, weight in others.items()} | {version: rest * percent}
    common = reduce(gcd, weights.values()) or 1
    for one, weight in weights.items():
        one.traffic_weight = weight // common
        one.save(update_fields=["traffic_weight"])


@transaction.atomic
def set_version_price(
    version: ModelVersion,
    *,
    unit_nanos: int | None = None,
    shape: Shape | None = None,
    currency: str | None = None,
    effective_from: datetime | None,
    by: Actor,
) -> Price:
    """Give a version a new price, from now or a later moment on; calls admitted before keep theirs.

    What a month used of any of the model's versions counts together towards tiers.

    Args:
        version: Whose.
        unit_nanos: The price of each unit, for a plain price.
        shape: Any other price.
        currency: The accounts that pay it; prices in other currencies stay. None: the site's.
        effective_from: None for now. A price that can be dearer must come `PRICE_NOTICE_DAYS` after today.
        by: Who sets it.

    Raises:
        PriceInvalid: it is negative or absurd, lies in the past or comes too soon, or another takes
            effect at that very moment. No price was changed.
    """
    last = Price.objects.filter(sku=version.sku).order_by("-effective_from").first()
    if last is None:
        message = f"{version.sku} was never priced: publish it with a unit first."
        raise PriceInvalid(message)
    currency = currency or settings.CURRENCY
    price = set_price(
        sku=version.sku,
        unit=last.unit,
        unit_nanos=unit_nanos,
        shape=shape,
        meter=version.model.path,
        effective_from=effective_from,
        currency=currency,
        # Who calls it was told a price; before that, nobody was.
        notice=timedelta(days=settings.PRICE_NOTICE_DAYS if version.published_at else 0),
    )
    model_changed(version.model)
    details = {
        "unit": price.unit,
        "currency": currency,
        "price": render_shape(shape_of_price(price)),
        "effective_from": price.effective_from.isoformat(),
    }
    audit.record(version.model.owner, action="price.set", target=version, by=by, details=details)
    return price


@transaction.atomic
def set_traffic_weight(version: ModelVersion, *, weight: int, by: Actor) -> None:
    """Set a version's share of the calls that name none, relative to the model's other live versions."""
    before = version.traffic_weight
    version.traffic_weight = weight
    version.save(update_fields=["traffic_weight"])
    model_changed(version.model)
    audit.record(version.model.owner, action="version.weighted", target=version, by=by, details={"from": before, "to": weight})


@transaction.atomic
def retire_version(version: ModelVersion, *, reason: str, by: Actor) -> None:
    """Stop selling a version within a second; it stays on the bills. Retiring twice changes nothing.

    Raises:
        VersionStateWrong: it waits to be examined, or has failed; nothing was changed.
    """
    version = ModelVersion.objects.select_for_update().get(pk=version.pk)
    if version.state == ModelVersion.State.RETIRED:
        return
    if version.state not in {ModelVersion.State.READY, ModelVersion.State.LIVE}:
        raise VersionStateWrong(state=version.state, wanted=ModelVersion.State.LIVE)
    version.state = ModelVersion.State.RETIRED
    version.traffic_weight = 0
    version.save(update_fields=["state", "traffic_weight"])
    model_changed(version.model)
    audit.record(version.model.owner, action="version.retired", target=version, by=by, details={"reason": reason})
    if version.published_at is not None:
        tell_retired(version)
