"""Calls over real HTTP, as a client makes them; and a record of what each was told."""

import http.client
import json
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PREDICT = "/v1/models/farebox/sentiment/predict"
FILM = {"input_data": ["a moving, funny film"]}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]  # Lowercase names.
    body: bytes

    def json(self) -> Any:
        """Return the body, parsed."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The problem's code, or nothing for an answer that is none."""
        return str(self.json().get("code", "")) if self.status >= 400 else ""


class Caller:
    """A keep-alive connection with a key."""

    def __init__(self, port: int, key: str | None) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        weakref.finalize(self, self._connection.close)  # Tests drop callers as they like.
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def post(self, path: str, body: object = None, *, headers: Mapping[str, str] | None = None, raw: bytes | None = None) -> Answer:
        """POST a JSON body (or raw bytes) and read the whole answer."""
        payload = raw if raw is not None else json.dumps(body).encode()
        return self._send("POST", path, payload, {"Content-Type": "application/json", **(headers or {})})

    def predict(self, body: object = FILM, **headers: str) -> Answer:
        """Call the starter model. Header names take underscores: `idempotency_key="a"`."""
        return self.post(PREDICT, body, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def get(self, path: str) -> Answer:
        """GET a path."""
        return self._send("GET", path, None, {})

    def patch(self, path: str, body: object) -> Answer:
        """PATCH with a JSON body."""
        return self._send("PATCH", path, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def delete(self, path: str) -> Answer:
        """DELETE a path."""
        return self._send("DELETE", path, None, {})

    def send(self, method: str, path: str, body: object = None) -> Answer:
        """Send any method, with a JSON body if there is one."""
        headers = {} if body is None else {"Content-Type": "application/json"}
        return self._send(method, path, None if body is None else json.dumps(body).encode(), headers)

    def _send(self, method: str, path: str, payload: bytes | None, headers: Mapping[str, str]) -> Answer:
        try:
            self._connection.request(method, path, payload, {**self._headers, **headers})
            response = self._connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # The next request connects anew.
            raise
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def at_once(count: int, work: Callable[[int], Any]) -> list[Any]:
    """Run `work(0..count-1)` in that many threads that start together; return results in order.

    What a thread raises is returned in its place.
    """
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(index: int) -> None:
        barrier.wait()
        try:
            results[index] = work(index)
        except Exception as error:  # noqa: BLE001 (the test looks at it)
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def statuses(answers: Iterable[Any]) -> dict[int, int]:
    """Count answers by status."""
    counts: dict[int, int] = {}
    for answer in answers:
        assert isinstance(answer, Answer), answer
        counts[answer.status] = counts.get(answer.status, 0) + 1
    return counts
