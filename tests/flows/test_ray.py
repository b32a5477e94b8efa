"""A whole site whose models run on Ray: the same answers and the same bill, and nothing lost with an actor."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.flows.calls import Answer, Caller
from tests.flows.server import Site, start_site

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
FIXED = ("farebox-units", "farebox-cost", "farebox-currency", "farebox-model-version", "farebox-model-digest", "farebox-provider")


def carriers(site: Site) -> list[int]:
    """Return the processes that sandboxed workers of this site are children of: the actors."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"inference.worker" in (entry / "cmdline").read_bytes():
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if f"VAR_DIR={site.var_dir}".encode() in Path(f"/proc/{parent}/environ").read_bytes():
                    found.append(parent)
        except OSError:
            continue
    return found


def told(answer: Answer) -> object:
    """What must not depend on where the model ran."""
    body = answer.json()
    return body["prediction"], body["usage"], [answer.headers[name] for name in FIXED]


def test_a_site_on_ray_answers_and_charges_as_any_and_loses_nothing_with_an_actor(site: Site) -> None:
    texts = [{"input_data": ["a moving, funny film", "two hours I want back"]}, {"input_data": "fine " * 30}]
    with start_site(ENGINE="ray", INFERENCE_WORKERS="2") as on_ray:
        here, there = Caller(site.port, site.key), Caller(on_ray.port, on_ray.key)
        assert [told(there.predict(body)) for body in texts] == [told(here.predict(body)) for body in texts]

        events = int(on_ray.query("SELECT COUNT(*) FROM billing_usageevent"))
        answers: list[int] = []
        end = time.monotonic() + 6

        def call() -> None:
            caller = Caller(on_ray.port, on_ray.key)
            while time.monotonic() < end:
                answers.append(caller.predict(texts[1]).status)

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(2)
        (first, *others) = carriers(on_ray)
        assert len(others) == 1
        os.kill(first, signal.SIGKILL)
        for thread in threads:
            thread.join()

        assert set(answers) == {200}
        assert len(answers) > 20
        assert int(on_ray.query("SELECT COUNT(*) FROM billing_usageevent")) - events == len(answers)
        assert "died or was killed; it is restarted" in on_ray.log_text()
