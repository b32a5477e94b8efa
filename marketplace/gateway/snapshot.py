"""Control data in memory: keys and models, loaded on first use, dropped when the feed says so."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from marketplace.credentials import bearer_secret, check_form, digest
from marketplace.errors import ControlDataStale, KeyUnknown, ModelNotFound
from marketplace.gateway.callers import Caller
from marketplace.gateway.request import Request
from marketplace.gateway.versions import ServedModel, ServedVersion

T = TypeVar("T")
V = TypeVar("V")

# Entries kept of each kind, and misses beside them: who guesses names pushes out guesses, not entries.
_MAX_ENTRIES: Final = 200_000
_MAX_MISSES: Final = 10_000
_MAX_DIGESTS: Final = 10_000
# Without a look at the change feed for this long nobody is let in: a key may have been revoked.
STALE_AFTER_S: Final = 2.0


class ReadThrough(Generic[T]):
    """Loads each entry once, however many ask at the same time; remembers misses as None.

    The race it avoids: a load that read the old row, finishing after the feed dropped the
    entry, would keep the old row for ever. So `forget` marks running loads, and they go again.
    """

    def __init__(self, load: Callable[[str], Awaitable[T | None]]) -> None:
        self._load = load
        self._entries: dict[str, T] = {}
        self._misses: dict[str, None] = {}
        self._loading: dict[str, asyncio.Future[T | None]] = {}
        self._outdated: set[str] = set()

    async def get(self, name: str) -> T | None:
        """Return the entry, loading it where it is not in memory."""
        entry = self._entries.get(name)
        if entry is not None:
            return entry
        if name in self._misses:
            return None
        loading = self._loading.get(name)
        if loading is None:
            loading = self._loading[name] = asyncio.ensure_future(self._load_fresh(name))
        return await asyncio.shield(loading)  # One caller's hang-up must not fail the others.

    async def _load_fresh(self, name: str) -> T | None:
        try:
            while True:
                self._outdated.discard(name)
                entry = await self._load(name)
                if name not in self._outdated:
                    break
            if entry is None:
                _remember(self._misses, name, None, limit=_MAX_MISSES)
            else:
                _remember(self._entries, name, entry, limit=_MAX_ENTRIES)
            return entry
        finally:
            self._outdated.discard(name)
            del self._loading[name]

    def forget(self, name: str) -> None:
        """Drop one entry."""
        self._entries.pop(name, None)
        self._misses.pop(name, None)
        if name in self._loading:
            self._outdated.add(name)

    def forget_where(self, is_meant: Callable[[T], bool]) -> None:
        """Drop the entries that `is_meant` chooses, and reload whatever is being loaded."""
        for name in [name for name, entry in self._entries.items() if is_meant(entry)]:
            del self._entries[name]
        self._outdated.update(self._loading)


def _remember(cache: dict[str, V], name: str, value: V, *, limit: int) -> None:
    """Put a value into a cache; the oldest makes room."""
    if len(cache) >= limit:
        del cache[next(iter(cache))]
    cache[name] = value


class Snapshot:
    """What the gateway knows of keys and models."""

    def __init__(
        self,
        *,
        load_caller: Callable[[str], Awaitable[Caller | None]],
        load_model: Callable[[str], Awaitable[ServedModel | None]],
        trusted_proxies: frozenset[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.callers = ReadThrough(load_caller)
        self.models = ReadThrough(load_model)
        self._trusted_proxies = trusted_proxies
        self._clock = clock
        self._fresh_at = float("-inf")
        self._digests: dict[str, str] = {}  # By secret. Whoever can read our memory sees them in requests, too.

    def mark_fresh(self, *, at: float) -> None:
        """Note that all changes committed before `at` (the snapshot's clock, s) have been applied."""
        self._fresh_at = at

    def is_fresh(self) -> bool:
        """Whether the change feed was read lately enough to trust what is cached."""
        return self._clock() - self._fresh_at < STALE_AFTER_S

    async def authenticate(self, request: Request) -> Caller:
        """Return who is calling; fails closed when the database cannot be read.

        Raises:
            KeyMissing, KeyMalformed, KeyMistyped, KeyUnknown, KeyRevoked, KeyExpired: 401.
            OrganizationSuspended, AddressNotAllowed: 403.
            ControlDataStale: revocations may have been missed.
        """
        secret = bearer_secret(request.header(b"authorization"))
        if not self.is_fresh():
            raise ControlDataStale
        caller = await self.callers.get(self._digest_of(secret))
        if caller is None:
            raise KeyUnknown
        caller.check_usable(now=time.time(), address=request.client_address(self._trusted_proxies))
        return caller

    def _digest_of(self, secret: str) -> str:
        """Check a key's form and return its digest; keys seen lately cost one look-up instead of 20 us."""
        known = self._digests.get(secret)
        if known is None:
            check_form(secret)
            known = digest(secret)
            _remember(self._digests, secret, known, limit=_MAX_DIGESTS)
        return known

    async def resolve(self, caller: Caller, model_path: str, number: int | None) -> ServedVersion:
        """Return the version this caller gets.

        Raises:
            ModelNotFound: it is absent, private to others, or not on the key's list.
        """
        model = await self._find_model(caller, model_path)
        return model.choose(organization_id=caller.organization_id, number=number)

    async def find_versions(self, caller: Caller, model_path: str) -> Sequence[ServedVersion]:
        """Return all versions of a model that this caller may name, the one that most unnamed calls get first.

        Raises:
            ModelNotFound: the model is absent, private to others, or not on the key's list.
        """
        model = await self._find_model(caller, model_path)
        return model.all_for(caller.organization_id)

    async def _find_model(self, caller: Caller, model_path: str) -> ServedModel:
        caller.check_model(model_path)
        model = await self.models.get(model_path)
        if model is None:
            raise ModelNotFound
        return model
