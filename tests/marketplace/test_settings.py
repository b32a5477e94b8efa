"""Settings as a fresh process reads them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def read_settings(expression: str, *, var_dir: Path, **environment: str) -> Any:
    """Evaluate an expression over the settings in a process with that environment; nothing is connected to."""
    program = f"import json; from django.conf import settings; print(json.dumps({expression}))"
    names = {**os.environ, "VAR_DIR": str(var_dir), "DJANGO_SETTINGS_MODULE": "marketplace.settings", **environment}
    run = subprocess.run([sys.executable, "-c", program], env=names, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def test_what_the_database_url_asks_of_the_connection_is_kept_beside_our_time_limits(tmp_path: Path) -> None:
    url = "postgresql://farebox:p%40ss%2Fword@db.example/farebox?sslmode=verify-full"

    database = read_settings("settings.DATABASES['default']", var_dir=tmp_path, DATABASE_URL=url)

    assert database["OPTIONS"]["sslmode"] == "verify-full"
    assert "synchronous_commit=on" in database["OPTIONS"]["options"]
    assert (database["HOST"], database["NAME"], database["PASSWORD"]) == ("db.example", "farebox", "p@ss/word")


def test_meters_are_named_by_what_they_count(tmp_path: Path) -> None:
    named = read_settings("settings.STRIPE_METERS", var_dir=tmp_path, STRIPE_METERS="charge=farebox_charge, calls=farebox_calls")

    assert named == {"charge": "farebox_charge", "calls": "farebox_calls"}
    assert read_settings("settings.STRIPE_METERS", var_dir=tmp_path) == {}
    for wrong in ("charges=x", "charge", "charge=x,charge=y", "charge=x,calls=x"):
        with pytest.raises(subprocess.CalledProcessError) as stopped:
            read_settings("settings.STRIPE_METERS", var_dir=tmp_path, STRIPE_METERS=wrong)
        assert "STRIPE_METERS" in stopped.value.stderr
