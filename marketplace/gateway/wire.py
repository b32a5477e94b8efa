"""What differs between the addresses that run a model: how a body is read, run, answered and refused.

The line (`app.Gateway`) is the same for all of them: who calls, what it costs and how it is
charged never depends on the format.
"""

from collections.abc import Awaitable, Mapping
from typing import Protocol, TypeVar

from billing.pricing import Terms
from inference.engine import Engine, Inferred, Priority
from marketplace.gateway.options import GatewaySettings
from marketplace.gateway.replies import Reply
from marketplace.gateway.request import Request
from marketplace.gateway.versions import ServedVersion


class Call(Protocol):
    """One request, checked and counted."""

    @property
    def units(self) -> int:
        """What it uses in its price's unit, known before it runs."""

    @property
    def rows(self) -> int:
        """How many rows it runs."""

    @property
    def timeout_us(self) -> int | None:
        """The time limit that its body asks for, in microseconds."""


C = TypeVar("C", bound=Call)


class Wire(Protocol[C]):
    """One format of requests and replies."""

    def parse(self, request: Request, body: bytes, version: ServedVersion, terms: Terms, *, limits: GatewaySettings) -> C:
        """Read and check a body against the version, and count its units.

        Raises:
            RequestMalformed, HeaderInvalid, BodyTooLarge: it is not of this format (400, 413).
            InvalidInput: the version does not take it (422).
        """

    def infer(
        self, engine: Engine, call: C, version: ServedVersion, *, tenant: str, deadline: float, priority: Priority
    ) -> Awaitable[Inferred]:
        """Run the call; raises what `Engine.infer` raises."""

    def identify(self, call: C) -> bytes:
        """Return a hash of all that the call's answer depends on, beside the version: equal ones may share an answer."""

    def render(self, call: C, inferred: Inferred, *, request: Request, version: ServedVersion) -> Reply:
        """Return the reply of an answered call, still without its bill: what it costs is known when it is charged.

        Raises:
            ModelFailed: what the model answered is no answer. Nothing is charged.
        """

    def bill(self, draft: Reply, usage: Mapping[str, object], receipt: str) -> Reply:
        """Return a new reply that says the usage and the receipt as this format says it; every bill's headers are added to it.

        Called once the charge is known, and again each time that the commit is tried: it may change nothing of the draft.
        """

    def finish(self, reply: Reply, request: Request) -> Reply:
        """Return a settled reply, just run or repeated, as this request wants it encoded."""

    def refuse(self, error: Exception, request: Request) -> Reply:
        """Return what an error is to its caller. Unknown errors become a plain 500."""
