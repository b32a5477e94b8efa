"""A canary key and a canary payload go in at every door; afterwards they are looked for in all that is kept or shown."""

import json
import re
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from marketplace.logs import hide_secrets
from tests.flows.calls import Answer, Caller
from tests.flows.server import Site, start_site
from tests.flows.test_serving import run_manage

PAYLOAD = "a-canary-sang-xyzzy-in-the-mine"


@pytest.fixture(scope="module")
def told() -> Iterator[tuple[Site, str, list[Answer]]]:
    """A site that logs all it can, after a canary key was used in every right and wrong way; with what it answered."""
    with start_site(key="unknown", fresh=True, LOG_FORMAT="json", LOG_LEVEL="DEBUG", LOG_CALLS="yes") as site:
        issued = run_manage("issue_key", "demo", "--name", "canary", var_dir=site.var_dir)
        canary = issued.stdout.strip()
        assert len(canary) == 49, issued.stderr
        site.key = canary
        yield site, canary, list(misuse(site, canary))


def misuse(site: Site, canary: str) -> Iterator[Answer]:
    """Send the canary key, and the canary payload, wherever somebody might."""
    good, stranger = Caller(site.port, canary), Caller(site.port, None)
    predict = "/v1/models/farebox/sentiment/predict"
    yield good.predict({"input_data": PAYLOAD})
    yield good.predict({"input_data": f"{PAYLOAD} {canary}"})
    yield good.predict({"input_data": PAYLOAD}, idempotency_key="once")
    yield good.post(predict, raw=f'{{"input_data": "{PAYLOAD} {canary}'.encode())
    yield good.predict({PAYLOAD: canary})
    yield good.predict({"input_data": {canary: PAYLOAD}})
    yield good.predict({"input_data": PAYLOAD}, x_timeout_ms=canary, x_max_cost="0.1")
    yield good.predict({"input_data": PAYLOAD}, x_max_cost=canary)
    yield Caller(site.port, canary[:-1]).predict({"input_data": PAYLOAD})
    yield Caller(site.port, canary[:-1] + ("a" if canary[-1] != "a" else "b")).predict({"input_data": PAYLOAD})
    yield stranger.post(f"/v1/models/{canary}/x/predict", {"input_data": PAYLOAD})
    yield stranger.get(f"/v1/keys?key={canary}")
    yield stranger.get(f"/{canary}/{PAYLOAD}")
    yield stranger.get(f"/admin/{canary}")
    yield good.get(f"/v1/keys/{canary}")
    yield good.get("/v1/keys")
    yield good.get("/v1/requests")
    yield good.get("/v1/usage")
    yield good.post("/v1/keys", {"name": PAYLOAD, "nonsense": canary})
    yield good.get("/metrics")


def test_every_call_was_told_of_and_none_failed(told: tuple[Site, str, list[Answer]]) -> None:
    _, _, answers = told

    assert [answer.status for answer in answers[:3]] == [200, 200, 200]
    assert {answer.status for answer in answers} <= {200, 302, 400, 401, 404, 422}
    assert all(answer.headers["request-id"].startswith("req_") for answer in answers)


def test_no_answer_repeats_the_key(told: tuple[Site, str, list[Answer]]) -> None:
    _, canary, answers = told
    # But for a page's language switch, which leads back to the address that was asked for.
    spoken = [re.sub(rb'name="next" value="[^"]*"', b"", answer.body) for answer in answers]

    assert not [body for body in spoken if canary[15:].encode() in body]


def test_the_log_is_one_object_a_line_and_has_neither_key_nor_payload(told: tuple[Site, str, list[Answer]]) -> None:
    site, canary, answers = told
    text = (site.var_dir / "site.log").read_text()
    lines = [json.loads(line) for line in text.splitlines()]

    calls = {line["request_id"]: line for line in lines if line["logger"] == "farebox.calls"}
    assert {answer.headers["request-id"] for answer in answers[:10]} <= set(calls)
    first = calls[answers[0].headers["request-id"]]
    assert (first["outcome"], first["model"], first["units"]) == ("answered", "farebox/sentiment", answers[0].json()["usage"]["units"])
    assert {"auth_us", "limit_us", "queue_us", "infer_us", "settle_us", "total_us"} <= set(first)
    assert calls[answers[3].headers["request-id"]]["outcome"] == "refused"
    assert canary[15:] not in text  # Its secret part, however it is cut.
    # A path may say anything, and is told where it leads nowhere; what was in a body is not.
    assert not [line for line in lines if PAYLOAD in str(line) and PAYLOAD not in line["message"].partition("/")[2]]
    assert hide_secrets(text) == text


def test_database_files_and_backup_have_neither(told: tuple[Site, str, list[Answer]], tmp_path: Path) -> None:
    site, canary, _ = told
    target = tmp_path / "backup.tar.gz"
    made = run_manage("backup", str(target), var_dir=site.var_dir)
    assert made.returncode == 0, made.stderr
    with tarfile.open(target) as archive:
        archive.extractall(tmp_path / "restored", filter="data")

    everything = {
        path: path.read_bytes() for folder in (site.var_dir, tmp_path / "restored") for path in folder.rglob("*") if path.is_file()
    }

    assert any(path.suffix == ".sqlite3" and path.is_relative_to(tmp_path) for path in everything)
    assert not [path for path, content in everything.items() if canary[15:].encode() in content]
    assert not [path for path, content in everything.items() if PAYLOAD.encode() in content and path.name != "site.log"]
    # The search would find it: what is shown of the key is there.
    assert [path for path, content in everything.items() if path.suffix == ".sqlite3" and canary[:15].encode() in content]


def test_the_search_finds_what_is_there(told: tuple[Site, str, list[Answer]]) -> None:
    site, canary, _ = told
    with closing(sqlite3.connect(site.var_dir / "control.sqlite3")) as database:
        database.execute("CREATE TABLE leak (text)")
        database.execute("INSERT INTO leak VALUES (?)", [canary])
        database.commit()

    assert canary[15:].encode() in (site.var_dir / "control.sqlite3").read_bytes()
    (site.var_dir / "control.sqlite3").unlink()
