"""Claims on Idempotency-Keys, as several processes write them."""

from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from billing.ids import uuid7
from marketplace.gateway.idempotency import MAKE, _Wanted
from marketplace.models import IdempotencyRecord, Organization

pytestmark = pytest.mark.django_db


def wanted(organization: Organization, key: str, *, identity: UUID | None = None) -> _Wanted:
    return _Wanted(
        id=identity or uuid7(),
        organization_id=organization.pk,
        livemode=True,
        route="/v1/models/farebox/sentiment/predict",
        key=key,
        fingerprint="0" * 64,
        process=uuid7(),
    )


def test_claims_are_written_in_one_order_and_answered_in_the_callers(organization: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    make = type(MAKE)._make
    monkeypatch.setattr(type(MAKE), "_make", lambda self, item: (written.append(item.key), make(self, item))[1])
    IdempotencyRecord.objects.create(
        id=UUID(int=7), organization=organization, livemode=True, route="/v1/models/farebox/sentiment/predict",
        key="b", fingerprint="0" * 64, process=uuid7(), status=200, created_at=timezone.now(),
    )  # fmt: skip

    results = MAKE.write([wanted(organization, key) for key in ("c", "b", "a")])

    assert written == ["a", "b", "c"]
    assert [result and result.pk for result in results] == [None, UUID(int=7), None]


def test_a_claim_that_another_process_made_and_dropped_meanwhile_is_made_again(
    organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's row stopped our INSERT, and was gone when we looked who was first."""
    manager = type(IdempotencyRecord.objects)
    insert = manager.bulk_create
    stopped: list[Any] = []

    def stop_once(self: Any, rows: list[IdempotencyRecord], **options: Any) -> Any:
        if stopped:
            return insert(self, rows, **options)
        stopped.append(rows)
        return rows

    monkeypatch.setattr(manager, "bulk_create", stop_once)
    mine = wanted(organization, "a")

    assert MAKE.write([mine]) == [None]

    assert IdempotencyRecord.objects.get().pk == mine.id
