"""What the fake remembers: objects, answers by idempotency key, and events to deliver, in one SQLite file."""

import json
import secrets
import sqlite3
import string
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from billing.providers.fake.errors import ApiError, missing

# An API object, as JSON. Names that begin with an underscore are the fake's own and never shown.
Obj = dict[str, Any]

_LETTERS: Final = string.ascii_letters + string.digits
# Objects that do not say whether they are live.
_NO_MODE: Final = ("refund", "account", "account_link", "transfer_reversal")
# Objects that do not say when they were made.
_NO_TIME: Final = ("tax.calculation",)
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS object (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, kind TEXT, body TEXT);
CREATE INDEX IF NOT EXISTS object_by_kind ON object (kind, seq);
CREATE TABLE IF NOT EXISTS answer (key TEXT PRIMARY KEY, fingerprint TEXT, status INTEGER, body TEXT);
CREATE TABLE IF NOT EXISTS delivery (seq INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT, due REAL, attempts INTEGER);
"""


class Store:
    """Objects by id. Used from the server's one thread."""

    def __init__(self, file: Path | None = None) -> None:
        """`None` keeps everything in memory."""
        self._database = sqlite3.connect(str(file) if file else ":memory:", isolation_level=None, check_same_thread=False)
        self._database.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; {_SCHEMA}")

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    # ------------------------------------------------------------ Objects

    def add(self, kind: str, prefix: str, fields: Obj) -> Obj:
        """Keep a new object under a new id; return it."""
        identity = f"{prefix}_{''.join(secrets.choice(_LETTERS) for _ in range(24))}"
        made = {"id": identity, "object": kind, "created": int(time.time()), "livemode": False, **fields}
        if kind in _NO_MODE:
            del made["livemode"]
        if kind in _NO_TIME:
            del made["created"]
        self._database.execute("INSERT INTO object (id, kind, body) VALUES (?, ?, ?)", (identity, kind, json.dumps(made)))
        return made

    def save(self, thing: Obj) -> Obj:
        """Keep an object's new state; return it."""
        self._database.execute("UPDATE object SET body = ? WHERE id = ?", (json.dumps(thing), thing["id"]))
        return thing

    def remove(self, identity: str) -> None:
        """Forget an object."""
        self._database.execute("DELETE FROM object WHERE id = ?", (identity,))

    def find(self, kind: str, identity: str) -> Obj | None:
        """Return an object, or None."""
        row = self._database.execute("SELECT body FROM object WHERE id = ? AND kind = ?", (identity, kind)).fetchone()
        return json.loads(row[0]) if row else None

    def get(self, kind: str, identity: str, *, param: str = "id") -> Obj:
        """Return an object.

        Raises:
            ApiError: 404, there is none.
        """
        found = self.find(kind, identity)
        if found is None:
            raise missing(kind, identity, param=param)
        return found

    def all(self, kind: str, keep: Callable[[Obj], bool] = lambda _: True) -> list[Obj]:
        """Return the objects of a kind, the newest first."""
        rows = self._database.execute("SELECT body FROM object WHERE kind = ? ORDER BY seq DESC", (kind,))
        return [thing for (body,) in rows if keep(thing := json.loads(body))]

    def page(self, things: list[Obj], params: Obj, url: str) -> Obj:
        """Return a page of a list as the API pages: newest first, 10 unless told, cursors by id.

        Raises:
            ApiError: the limit is out of range.
        """
        limit = int(params.get("limit", 10))
        if not 1 <= limit <= 100:
            message = "Limit must be between 1 and 100."
            raise ApiError(message, param="limit")
        ids = [thing["id"] for thing in things]
        if (after := params.get("starting_after")) in ids:
            things = things[ids.index(after) + 1 :]
        elif (before := params.get("ending_before")) in ids:
            things = things[: ids.index(before)][-limit:]
        return {"object": "list", "data": things[:limit], "has_more": len(things) > limit, "url": url}

    # ------------------------------------------------------------ Answers by idempotency key

    def keep_answer(self, key: str, fingerprint: str, status: int, body: Obj) -> None:
        """Keep the first answer to a key."""
        row = (key, fingerprint, status, json.dumps(body))
        self._database.execute("INSERT OR IGNORE INTO answer VALUES (?, ?, ?, ?)", row)

    def find_answer(self, key: str) -> tuple[str, int, Obj] | None:
        """Return fingerprint, status and body of what a key was answered, or None."""
        row = self._database.execute("SELECT fingerprint, status, body FROM answer WHERE key = ?", (key,)).fetchone()
        return (row[0], row[1], json.loads(row[2])) if row else None

    def forget_answers(self) -> None:
        """Forget all keys, as Stripe does after a day."""
        self._database.execute("DELETE FROM answer")

    # ------------------------------------------------------------ Events to deliver

    def queue(self, event_id: str, *, due: float) -> None:
        """Have an event delivered from a moment on."""
        self._database.execute("INSERT INTO delivery (event, due, attempts) VALUES (?, ?, 0)", (event_id, due))

    def due_deliveries(self, now: float) -> list[tuple[int, str, int]]:
        """Return number, event and attempts of the deliveries that are due, in order."""
        return self._database.execute("SELECT seq, event, attempts FROM delivery WHERE due <= ? ORDER BY seq LIMIT 50", (now,)).fetchall()

    def delivered(self, number: int) -> None:
        """Forget a delivery that arrived or was given up."""
        self._database.execute("DELETE FROM delivery WHERE seq = ?", (number,))

    def postpone(self, number: int, *, due: float) -> None:
        """Have a delivery tried again."""
        self._database.execute("UPDATE delivery SET due = ?, attempts = attempts + 1 WHERE seq = ?", (due, number))

    def waiting_deliveries(self) -> int:
        """Return how many deliveries have not arrived."""
        return int(self._database.execute("SELECT COUNT(*) FROM delivery").fetchone()[0])


def shown(thing: Any) -> Any:
    """Return an object as the API shows it: without the fake's own fields."""
    if isinstance(thing, dict):
        return {name: shown(value) for name, value in thing.items() if not name.startswith("_")}
    return [shown(item) for item in thing] if isinstance(thing, list) else thing
