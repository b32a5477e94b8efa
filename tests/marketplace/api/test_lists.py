from collections.abc import Callable
from typing import Any

import pytest

from marketplace.keys import KeySettings, issue_key
from marketplace.models import ApiKey, Organization

KEYS = "/v1/keys"


@pytest.fixture
def names(organization: Organization, api: Any) -> list[str]:
    """The names of seven keys, the newest first."""
    made = [issue_key(organization=organization, name=f"key {number}", settings=KeySettings(), by="test")[0].name for number in range(6)]
    return [*reversed(made), "Live"]


def walk(api: Any, size: int, cursor: str) -> list[str]:
    """Page through all keys in one direction."""
    seen: list[str] = []
    query: dict[str, Any] = {"limit": size}
    while True:
        page = api.get(KEYS, query).json()
        rows = page["data"]
        seen = [*seen, *(row["name"] for row in rows)] if cursor == "starting_after" else [*(row["name"] for row in rows), *seen]
        if not page["has_more"]:
            return seen
        query[cursor] = rows[-1 if cursor == "starting_after" else 0]["id"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_paging_forward_shows_each_row_once(api: Any, names: list[str], size: int) -> None:
    assert walk(api, size, "starting_after") == names


@pytest.mark.parametrize("size", [1, 2, 5])
def test_paging_backward_shows_each_newer_row_once(api: Any, names: list[str], size: int) -> None:
    last = api.get(KEYS, {"limit": 100}).json()["data"][-1]["id"]
    query: dict[str, Any] = {"limit": size, "ending_before": last}
    seen: list[str] = []
    while True:
        page = api.get(KEYS, query).json()
        seen = [*(row["name"] for row in page["data"]), *seen]
        if not page["has_more"]:
            break
        query["ending_before"] = page["data"][0]["id"]

    assert seen == names[:-1]


def test_rows_of_one_moment_are_neither_lost_nor_repeated(api: Any, names: list[str]) -> None:
    moment = ApiKey.objects.latest("created_at").created_at
    ApiKey.objects.update(created_at=moment)

    assert sorted(walk(api, 2, "starting_after")) == sorted(names)


def test_a_list_says_what_it_is(api: Any) -> None:
    page = api.get(KEYS).json()

    assert (page["object"], page["has_more"], page["url"]) == ("list", False, KEYS)


@pytest.mark.parametrize(
    "query",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "many"},
        {"starting_after": "key_short"},
        {"starting_after": "org_" + "0" * 22},
        {"page": 2},
        {"limit": 5, "offset": 10},
    ],
)
def test_a_malformed_query_is_refused(api: Any, query: dict[str, Any]) -> None:
    reply = api.get(KEYS, query)

    assert (reply.status_code, reply.json()["code"]) == (400, "request_malformed")
    assert reply.json()["errors"]


def test_both_cursors_at_once_are_refused(api: Any, names: list[str]) -> None:
    first = api.get(KEYS).json()["data"][0]["id"]

    assert api.get(KEYS, {"starting_after": first, "ending_before": first}).status_code == 400


def test_a_foreign_cursor_is_answered_as_an_absent_one(
    api: Any, other_organization: Organization, same_but_id: Callable[..., bool]
) -> None:
    from billing.ids import public_id, uuid7

    foreign = issue_key(organization=other_organization, name="Theirs", settings=KeySettings(), by="test")[0]

    replies = [api.get(KEYS, {"starting_after": public_id("key", pk)}) for pk in (foreign.pk, uuid7())]

    assert replies[0].status_code == 400
    assert same_but_id(*replies)
