"""What is called: a model's live versions with their bundles and prices, as kept in memory."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.utils import timezone

from billing.prices import prices_by_currency
from billing.pricing import Terms
from inference.artifacts import Bundle, load_bundle
from inference.devices import expects_cuda
from inference.pipelines.pipeline import takes_text
from marketplace.artifact_files import INT8_ARTIFACT
from marketplace.errors import ModelNotFound, PriceMissing
from marketplace.models import CatalogueModel, ModelVersion
from marketplace.version_limits import batch_limits_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """One live version."""

    id: UUID
    model_path: str
    number: int
    sku: str
    bundle: Bundle
    weight: int
    max_body_bytes: int  # Of a call's body.
    allow_nonfinite: bool  # Whether callers may send NaN and the infinities.
    prices: Mapping[str, Sequence[tuple[datetime, Terms]]]  # By currency; ascending by the time each takes effect.

    def terms_now(self, currency: str) -> Terms:
        """Return the price that holds at this moment in a currency; a call keeps it to its end.

        Raises:
            PriceMissing: none has taken effect yet.
        """
        prices = self.prices.get(currency, ())
        if len(prices) == 1 and prices[0][0] <= _STARTED:  # The usual case, without a clock.
            return prices[0][1]
        return self.terms_at(timezone.now(), currency)

    def terms_at(self, moment: datetime, currency: str) -> Terms:
        """Return the price that held at a moment: a call made later keeps the price it was accepted at.

        Raises:
            PriceMissing: none had taken effect.
        """
        for effective_from, terms in reversed(self.prices.get(currency, ())):
            if effective_from <= moment:
                return terms
        raise PriceMissing


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One model of the catalogue with its live versions."""

    path: str
    public: bool
    owner_id: UUID
    versions: Sequence[ServedVersion]

    def choose(self, *, organization_id: UUID, number: int | None) -> ServedVersion:
        """Return the version a caller gets: the one named, or one by traffic weight.

        Raises:
            ModelNotFound: the model is somebody's private one, or has no such live version.
        """
        self._check_visible(organization_id)
        if number is not None:
            for version in self.versions:
                if version.number == number:
                    return version
            raise ModelNotFound
        open_versions = [version for version in self.versions if version.weight]
        if not open_versions:
            raise ModelNotFound
        if len(open_versions) == 1:
            return open_versions[0]
        # Not a secret: which customer meets the canary may be guessed.
        return random.choices(open_versions, [version.weight for version in open_versions])[0]  # noqa: S311 (no secret)

    def all_for(self, organization_id: UUID) -> Sequence[ServedVersion]:
        """Return the live versions: the one that most unnamed calls get first, of equal ones the newest.

        Raises:
            ModelNotFound: the model is somebody's private one.
        """
        self._check_visible(organization_id)
        return sorted(self.versions, key=lambda version: (-version.weight, -version.number))

    def _check_visible(self, organization_id: UUID) -> None:
        if not self.public and self.owner_id != organization_id:
            raise ModelNotFound


class ListedVersion(NamedTuple):
    """A live version as a list of them names it."""

    model_path: str
    number: int


def list_versions(organization_id: UUID) -> list[ListedVersion]:
    """Return every live version that an organization may call, by name and number. Blocks on I/O."""
    visible = Q(model__public=True) | Q(model__owner=organization_id)
    live = ModelVersion.objects.filter(visible, state=ModelVersion.State.LIVE)
    rows = live.order_by("model__owner__slug", "model__name", "number").values_list("model__owner__slug", "model__name", "number")
    return [ListedVersion(f"{owner}/{name}", number) for owner, name, number in rows]


def load_model(path: str) -> ServedModel | None:
    """Read a model and its live versions from database and disk; None where there is none. Blocks on I/O.

    Raises:
        ModelLoadFailed: an artifact is missing, or is not the one that was published.
    """
    owner, _, name = path.partition("/")
    model = CatalogueModel.objects.select_related("owner").filter(owner__slug=owner, name=name).first()
    if model is None:
        return None
    owner_id: UUID = model.owner_id
    live = model.versions.filter(state=ModelVersion.State.LIVE)
    return ServedModel(path=path, public=model.public, owner_id=owner_id, versions=[_load_version(version, path) for version in live])


def _load_version(version: ModelVersion, path: str) -> ServedVersion:
    sku = f"{path}@{version.number}"
    # int8 kernels are the CPU's alone, and are served only where the gate measured that they agree.
    is_int8 = version.has_int8 and settings.SERVE_INT8 and not expects_cuda(settings.INFERENCE_DEVICE)
    artifact, digest = (INT8_ARTIFACT, version.int8_digest) if is_int8 else (version.artifact, version.digest)
    folder, limits = settings.ARTIFACTS_DIR / version.folder, batch_limits_of(version)
    bundle = load_bundle(folder, artifact=artifact, sha256=digest, limits=limits)
    return ServedVersion(
        id=version.pk,
        model_path=path,
        number=version.number,
        sku=sku,
        bundle=bundle,
        weight=version.traffic_weight,
        max_body_bytes=version.max_body_bytes
        or (settings.MAX_BODY_BYTES if takes_text(bundle.pipeline) else settings.MAX_TENSOR_BODY_BYTES),
        allow_nonfinite=version.allow_nonfinite,
        prices=prices_by_currency(sku),
    )


_STARTED = timezone.now()
