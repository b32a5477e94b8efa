"""Publishes small graphs without a pipeline on a running site, beside its own model."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

from tests.flows.server import ROOT, Site

_PUBLISH = """
from pathlib import Path
from marketplace.models import Organization
from marketplace.publishing import list_model, publish_version
house = Organization.objects.get(slug="farebox")
model = list_model(owner=house, name={name!r}, source=Path({source!r}), public=True, by="test")
publish_version(model=model, source=Path({source!r}), unit={unit!r}, unit_nanos=1000, by="test")
"""


def publish_raw(site: Site, model: onnx.ModelProto, *, name: str, unit: str = "row") -> str:
    """Publish a graph as `farebox/<name>` at 1,000 nanos a unit; return the address of its calls."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        (source / "model.onnx").write_bytes(model.SerializeToString())
        (source / "card.json").write_text(json.dumps({"title": name.title(), "summary": "A graph.", "task": "other"}))
        (source / "card.md").write_text("# A graph\n")
        run_on(site, _PUBLISH.format(name=name, source=folder, unit=unit))
    return f"/v1/models/farebox/{name}"


def run_on(site: Site, program: str) -> None:
    """Run Python with the site's settings and models, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in {"ARTIFACTS_DIR", "DATABASE_URL"}}
    environment |= {"VAR_DIR": str(site.var_dir)} | ({"DATABASE_URL": site.database_url} if site.database_url else {})
    subprocess.run([sys.executable, "manage.py", "shell", "-v", "0", "-c", program], cwd=ROOT, env=environment, check=True, timeout=60)
