"""Publish model versions: files into the store, rows into the catalogue, a price beside them."""

import hashlib
import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from billing.errors import PriceInvalid
from billing.models import Price
from billing.money import CURRENCY
from billing.prices import set_price, shape_of_price
from billing.pricing import Shape
from billing.shapes import render_shape
from inference.artifacts import load_bundle
from marketplace import audit
from marketplace.changes import model_changed
from marketplace.models import CatalogueModel, ModelVersion, Organization, User
from marketplace.webhooks.releases import tell_published, tell_retired

# Every file a version may consist of; anything else in the folder is left behind.
_FILES = ("model.onnx", "pipeline.json", "vocabulary.txt", "card.json", "card.md", "learning-curve.svg")


@transaction.atomic
def publish_version(*, model: CatalogueModel, source: Path, unit: str, unit_nanos: int, by: User | str) -> ModelVersion:
    """Publish the artifact in a folder as the model's next live version, with its price.

    The files are copied under a name of ours and never change again. Publishing an artifact
    that is live already returns that version and changes nothing.

    Raises:
        ModelLoadFailed: the folder's pipeline or artifact cannot be used; nothing was published.
    """
    model = CatalogueModel.objects.select_for_update().get(pk=model.pk)  # One number at a time.
    digest = hashlib.sha256((source / "model.onnx").read_bytes()).hexdigest()
    if existing := model.versions.filter(digest=digest, state=ModelVersion.State.LIVE).first():
        return existing
    bundle = load_bundle(source, artifact="model.onnx", sha256=digest)
    newest = model.versions.order_by("-number").first()
    number = newest.number + 1 if newest else 1
    version = ModelVersion(
        model=model,
        number=number,
        state=ModelVersion.State.LIVE,
        digest=digest,
        size_bytes=bundle.size_bytes,
        card=json.loads((source / "card.json").read_text()),
        published_at=timezone.now(),
    )
    version.folder = f"{model.pk.hex}/{number}-{digest[:12]}"
    _copy_files(source, settings.ARTIFACTS_DIR / version.folder)
    version.save(force_insert=True)
    # Calls that name no version follow the newest; older ones stay callable by number.
    model.versions.exclude(pk=version.pk).update(traffic_weight=0)
    set_price(sku=version.sku, unit=unit, unit_nanos=unit_nanos, meter=model.path, currency=settings.CURRENCY)
    model_changed(model)
    audit.record(model.owner, action="version.published", target=version, by=by, details={"digest": digest})
    tell_published(version)
    return version


def _copy_files(source: Path, target: Path) -> None:
    """Copy a version's files, whole or not at all: into a neighbour first, then by one rename."""
    fresh = target.with_name(target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)  # Left by a publication that was rolled back.
    fresh.mkdir(parents=True)
    for name in _FILES:
        if (source / name).exists():
            shutil.copyfile(source / name, fresh / name)
    fresh.rename(target)


@transaction.atomic
def list_model(*, owner: Organization, name: str, source: Path, public: bool, by: User | str) -> CatalogueModel:
    """Return the catalogue's entry of that name, made from the folder's card where it is new."""
    card = json.loads((source / "card.json").read_text())
    facts = {
        "title": card["title"],
        "summary": card["summary"],
        "task": card["task"],
        "card_markdown": (source / "card.md").read_text(),
        "public": public,
    }
    model, created = CatalogueModel.objects.get_or_create(owner=owner, name=name, defaults=facts)
    if created:
        audit.record(owner, action="model.listed", target=model, by=by)
    return model


@transaction.atomic
def set_version_price(
    version: ModelVersion,
    *,
    unit_nanos: int | None = None,
    shape: Shape | None = None,
    currency: str = CURRENCY,
    effective_from: datetime | None,
    by: User | str,
) -> Price:
    """Give a version a new price, from now or a later moment on; calls admitted before keep theirs.

    What a month used of any of the model's versions counts together towards tiers.

    Args:
        version: Whose.
        unit_nanos: The price of each unit, for a plain price.
        shape: Any other price.
        currency: The accounts that pay it; prices in other currencies stay.
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
    price = set_price(
        sku=version.sku,
        unit=last.unit,
        unit_nanos=unit_nanos,
        shape=shape,
        meter=version.model.path,
        effective_from=effective_from,
        currency=currency,
        notice=timedelta(days=settings.PRICE_NOTICE_DAYS),
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
def set_traffic_weight(version: ModelVersion, *, weight: int, by: User | str) -> None:
    """Set a version's share of the calls that name none, relative to the model's other live versions."""
    before = version.traffic_weight
    version.traffic_weight = weight
    version.save(update_fields=["traffic_weight"])
    model_changed(version.model)
    audit.record(version.model.owner, action="version.weighted", target=version, by=by, details={"from": before, "to": weight})


@transaction.atomic
def retire_version(version: ModelVersion, *, reason: str, by: User | str) -> None:
    """Stop selling a version within a second; it stays on the bills. Retiring twice changes nothing."""
    version = ModelVersion.objects.select_for_update().get(pk=version.pk)
    if version.state == ModelVersion.State.RETIRED:
        return
    version.state = ModelVersion.State.RETIRED
    version.save(update_fields=["state"])
    model_changed(version.model)
    audit.record(version.model.owner, action="version.retired", target=version, by=by, details={"reason": reason})
    tell_retired(version)


@transaction.atomic
def set_visibility(model: CatalogueModel, *, public: bool, by: User | str) -> None:
    """Show a model to all organizations, or to its owner alone. Others lose it within a second."""
    model.public = public
    model.save(update_fields=["public"])
    model_changed(model)
    audit.record(model.owner, action="model.shown" if public else "model.hidden", target=model, by=by)
