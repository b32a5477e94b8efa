"""Providers publish over real HTTP: a sound model becomes callable, hostile ones cost nobody else anything."""

import http.client
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from inference import landlock
from tests.flows.calls import Answer, Caller
from tests.flows.server import Site, start_site
from tests.inference import hostile

pytestmark = pytest.mark.skipif(landlock.find_abi() is None, reason="this kernel has no Landlock, so uploads are refused")


def upload(site: Site, name: str, content: bytes, *, tolerance: bytes = b"0.02", **files: bytes) -> Answer:
    """Upload a version as multipart/form-data, in pieces."""
    boundary = uuid4().hex
    fields: dict[str, bytes] = {"unit": b"row", "unit_price": b"0.000001", "int8_tolerance": tolerance}
    body = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (boundary.encode(), field.encode(), value)
        for field, value in fields.items()
    )
    for field, value in {"model": content, **files}.items():
        head = b'--%b\r\nContent-Disposition: form-data; name="%b"; filename="%b.bin"\r\n\r\n'
        body += head % (boundary.encode(), field.encode(), field.encode()) + value + b"\r\n"
    body += b"--%b--\r\n" % boundary.encode()
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Authorization": f"Bearer {site.key}"}
    connection.request("POST", f"/v1/models/demo/{name}/versions", body, headers)
    response = connection.getresponse()
    answer = Answer(response.status, {header.lower(): value for header, value in response.getheaders()}, response.read())
    connection.close()
    return answer


def make_model(site: Site, name: str) -> None:
    facts = {"name": name, "title": name.title(), "summary": "Made by a test.", "task": "tabular"}
    answer = Caller(site.port, site.key).post("/v1/models", facts)
    assert answer.status == 201, answer.body


def version_of(site: Site, name: str, number: int = 1) -> Any:
    return Caller(site.port, site.key).get(f"/v1/models/demo/{name}/versions/{number}").json()


def wait_until_examined(site: Site, name: str, number: int = 1, *, within_s: float = 90) -> Any:
    deadline = time.monotonic() + within_s
    while (version := version_of(site, name, number))["state"] in {"draft", "validating"}:
        assert time.monotonic() < deadline, version
        time.sleep(0.3)
    return version


def test_a_provider_publishes_and_a_caller_pays(site: Site) -> None:
    make_model(site, "relu")
    sent = upload(site, "relu", hostile.relu().SerializeToString(), samples=json.dumps([{"x": [[1.0, -1.0]]}]).encode())
    assert sent.status == 201, sent.body

    assert wait_until_examined(site, "relu")["state"] == "ready"
    caller = Caller(site.port, site.key)
    early = caller.post("/v1/models/demo/relu/predict", {"input_data": {"x": [[1.5, -2.0]]}})
    live = caller.post("/v1/models/demo/relu/versions/1/live", {"share_percent": 100})
    assert live.status == 200, live.body
    deadline = time.monotonic() + 10
    while (answer := caller.post("/v1/models/demo/relu/predict", {"input_data": {"x": [[1.5, -2.0]]}})).status == 404:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert early.status == 404
    assert answer.status == 200, answer.body
    assert answer.json()["prediction"]["y"] == [[1.5, 0.0]]
    assert answer.headers["farebox-cost"] == "0.000001000"
    assert answer.headers["farebox-model-digest"] == live.json()["digest"]


def test_a_text_model_is_served_in_int8_and_says_so(site: Site) -> None:
    starter = Path(__file__).resolve().parents[2] / "inference" / "starter" / "sentiment"
    make_model(site, "reviews")
    parts = {"pipeline": "pipeline.json", "vocabulary": "vocabulary.txt", "samples": "samples.json"}
    sent = upload(
        site, "reviews", (starter / "model.onnx").read_bytes(), tolerance=b"0.1",
        **{part: (starter / name).read_bytes() for part, name in parts.items()},
    )  # fmt: skip
    assert sent.status == 201, sent.body
    version = wait_until_examined(site, "reviews")
    caller = Caller(site.port, site.key)
    caller.post("/v1/models/demo/reviews/versions/1/live", {})

    answer = caller.post("/v1/models/demo/reviews/predict", {"input_data": ["a moving, funny film"]})

    assert version["report"]["figures"]["int8"]["kept"]
    assert answer.status == 200, answer.body
    assert answer.headers["farebox-model-digest"] == version["int8"]["digest"] != version["digest"]
    assert answer.json()["prediction"][0][0]["label"] == "positive"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_hostile_uploads_are_refused_while_others_calls_see_no_error() -> None:
    with start_site(GATE_TIMEOUT_S="5") as site:
        corpus = {
            "crash": hostile.crashes(),
            "hang": hostile.loops_for_ever(),
            "greed": hostile.asks_for_186_gb_when_run(),
            "deep": hostile.nests(9),
        }
        for name in corpus:
            make_model(site, name)
        stop, answers = threading.Event(), []

        def call() -> None:
            caller = Caller(site.port, site.key)
            while not stop.is_set():
                answers.append(caller.predict().status)

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for name, model in corpus.items():
                sent = upload(site, name, model.SerializeToString())
                assert sent.status == 201, sent.body
            found = {name: wait_until_examined(site, name) for name in corpus}
        finally:
            stop.set()
            for thread in threads:
                thread.join()

        failed = {
            name: {check["name"] for check in version["report"]["checks"] if check["outcome"] == "failed"}
            for name, version in found.items()
        }
        assert failed == {"crash": {"survival"}, "hang": {"survival"}, "greed": {"made_inputs"}, "deep": {"graph"}}
        assert len(answers) > 50
        assert set(answers) == {200}
        assert Caller(site.port, site.key).post("/v1/models/demo/hang/versions/1/live", {}).status == 409
        assert not [path for path in (site.var_dir / "artifacts").rglob("*.onnx") if "demo" in str(path)]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_examination_survives_kill_9_of_celery_and_of_the_examiner() -> None:
    with start_site(GATE_TIMEOUT_S="8") as site:
        make_model(site, "hang")
        assert upload(site, "hang", hostile.loops_for_ever().SerializeToString()).status == 201
        deadline = time.monotonic() + 60
        while version_of(site, "hang")["state"] != "validating":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1)

        killed = [pid for pid in processes_of(site) if kill(pid)]

        version = wait_until_examined(site, "hang", within_s=100)
        assert killed
        assert version["state"] == "failed"
        assert "killed" in next(check["detail"] for check in version["report"]["checks"] if check["name"] == "survival")
        deadline = time.monotonic() + 15
        while processes_of(site, "examine"):  # It says what it found, and then ends.
            assert time.monotonic() < deadline
            time.sleep(0.1)


def processes_of(site: Site, *names: str) -> list[int]:
    """Return the site's Celery worker and its examiner, by their command lines and this site's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            wanted = names or ("examine", "celery worker", "marketplace.celery --quiet worker")
            if str(site.var_dir).encode() in environment and any(name in line for name in wanted):
                found.append(int(entry.name))
    return found


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
