"""Versions as providers send them, for the tests of publishing."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import onnx

from marketplace.examining import examine_waiting
from marketplace.listing import create_model
from marketplace.models import CatalogueModel, ModelVersion, Organization
from marketplace.publishing import submit_version
from tests.inference import hostile


def a_model(owner: Organization, *, name: str = "relu", public: bool = False) -> CatalogueModel:
    """Make an entry of the catalogue."""
    return create_model(
        owner=owner, name=name, title="Relu", summary="Nothing below zero.", task="tabular", card_markdown="", public=public, by="test"
    )


def files_of(model: onnx.ModelProto | bytes, *, samples: object = None) -> Mapping[str, Iterable[bytes]]:
    """Return a version's files."""
    content = model if isinstance(model, bytes) else model.SerializeToString()
    files: dict[str, Iterable[bytes]] = {"model.onnx": [content]}
    if samples is not None:
        files["samples.json"] = [json.dumps(samples).encode()]
    return files


def submitted(model: CatalogueModel, content: onnx.ModelProto | bytes | None = None, **settings: Any) -> ModelVersion:
    """Submit a version; it waits."""
    fields = {"unit": "row", "unit_nanos": 1_000, "int8_tolerance": None, "by": "test", "samples": [{"x": [[1, -1]]}]} | settings
    samples = fields.pop("samples")
    return submit_version(model=model, files=files_of(content or hostile.relu(), samples=samples), **fields)


def examined(model: CatalogueModel, content: onnx.ModelProto | bytes | None = None, **settings: Any) -> ModelVersion:
    """Submit a version and have it examined, really."""
    version = submitted(model, content, **settings)
    assert examine_waiting() >= 1
    version.refresh_from_db()
    return version
