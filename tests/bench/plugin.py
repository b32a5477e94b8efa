"""Farebox as a server in a benchmark of several: a plug-in of one function, `peer(ctx)`.

`run.py bench --plugin tests/bench/plugin.py` of a benchmark that asks its plug-ins for a start command,
a path, headers, and how a list of token ids becomes a body and an answer a probability. It runs under
the benchmark's own Python, so it imports nothing of ours; the site runs in this repository's environment.

Settings: `int8=1` publishes the int8 model, made and measured as for any provider; `rate` is calls a minute.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
PYTHON: Final = ROOT / ".venv" / "bin" / "python"
NAME: Final = "farebox"
SETTINGS: Final = {"rate": 100_000_000, "int8": 0, "workers": 0}

# Ids become words ("w17"), so that calls are priced by the token and batched by their length.
_WORDS: Final = 25_002
_PIPELINE: Final = {
    "kind": "text",
    "tokenizer": "words",
    "vocabulary": "vocabulary.txt",
    "pad_id": 1,
    "unknown_id": 0,
    "max_tokens": 512,
    "inputs": {"ids": "ids", "lengths": "lengths"},
    "output": "prob",
    "postprocess": "binary",
    "labels": ["no", "yes"],
}
_PUBLISH: Final = """
import sys
import django
django.setup()
from pathlib import Path
from marketplace.models import Organization
from marketplace.publishing import list_model, publish_version
owner, source = Organization.objects.get(slug="farebox"), Path(sys.argv[1])
model = list_model(owner=owner, name="bench", source=source, public=True, by="bench")
publish_version(model=model, source=source, unit="token", unit_nanos=1, by="bench", int8_tolerance=float(sys.argv[2]) or None)
"""


def peer(ctx: Any) -> Any:
    """Set a site up in the benchmark's scratch directory, and tell how to start and call it."""
    from registry import Peer  # type: ignore[import-not-found]  # The benchmark's.

    rate = str(ctx.opt["rate"])
    environment = {
        "VAR_DIR": str(ctx.tmp / "var"),
        "PORT": str(ctx.port),
        "HOST": "127.0.0.1",
        "LIVE_KEY_RATE_PER_MINUTE": rate,
        "ORGANIZATION_RATE_PER_MINUTE": rate,
        "ORGANIZATION_CONCURRENCY": "1024",
        "INFERENCE_WORKERS": str(ctx.opt["workers"]),
        "DJANGO_SETTINGS_MODULE": "marketplace.settings",
        "PYTHONPATH": str(ROOT),
    }
    key = _set_up(environment)
    folder = _write_folder(ctx.model, ctx.tmp / "model")
    tolerance = "0.05" if int(ctx.opt["int8"]) else "0"
    subprocess.run([str(PYTHON), "-c", _PUBLISH, str(folder), tolerance], cwd=ROOT, env=os.environ | environment, check=True)
    return Peer(
        cmd=[str(PYTHON), str(ROOT / "manage.py"), "serve"],
        path="/v1/models/farebox/bench/predict",
        env=environment,
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        wrap=lambda ids: json.dumps({"input_data": " ".join(f"w{number}" for number in ids)}),
        unwrap=lambda answer: next(entry["score"] for entry in answer["prediction"][0] if entry["label"] == "yes"),
    )


def _set_up(environment: dict[str, str]) -> str:
    """Make the site's database, catalogue and demo organization; return its key."""
    command = [str(PYTHON), "manage.py", "setup"]
    printed = subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=True, capture_output=True, text=True).stdout
    found = re.search(r"fb_sk_live_[0-9A-Za-z]{38}", printed)
    assert found, printed
    return found[0]


def _write_folder(model: Path, folder: Path) -> Path:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model.read_bytes())
    (folder / "vocabulary.txt").write_text("".join(f"w{number}\n" for number in range(_WORDS)))
    (folder / "pipeline.json").write_text(json.dumps(_PIPELINE))
    (folder / "card.json").write_text(json.dumps({"title": "Bench", "summary": "For measuring.", "task": "text-classification"}))
    (folder / "card.md").write_text("For measuring.\n")
    (folder / "samples.json").write_text(
        json.dumps([" ".join(f"w{(seed * 97 + place) % _WORDS}" for place in range(40)) for seed in range(32)])
    )
    return folder
