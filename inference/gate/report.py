"""A gate's findings as data: checks, each passed, failed, warned of or skipped, and what was measured."""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from inference.gate.limits import GATE_VERSION


class Outcome(enum.StrEnum):
    """How a check ended. Only FAILED keeps a version from being published."""

    PASSED = "passed"
    FAILED = "failed"
    WARNED = "warned"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One question, its answer, and a sentence for the provider that says why."""

    name: str
    outcome: Outcome
    detail: str

    def as_json(self) -> dict[str, str]:
        """Return its fields."""
        return {"name": self.name, "outcome": str(self.outcome), "detail": self.detail}


@dataclass(slots=True, kw_only=True)
class Report:
    """All checks in the order they were made, and the figures that were measured on the way."""

    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    gate: int = GATE_VERSION

    @property
    def passed(self) -> bool:
        """Whether a version may be published: something was checked, and nothing failed."""
        return bool(self.checks) and not any(check.outcome == Outcome.FAILED for check in self.checks)

    @property
    def failures(self) -> list[Check]:
        """The checks that keep it from being published."""
        return [check for check in self.checks if check.outcome == Outcome.FAILED]

    def add(self, checks: "Iterator[Check] | list[Check]") -> None:
        """Append checks."""
        self.checks.extend(checks)

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {
            "gate": self.gate,
            "passed": self.passed,
            "checks": [check.as_json() for check in self.checks],
            "figures": self.figures,
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Return the report that `as_json` described."""
        checks = [Check(one["name"], Outcome(one["outcome"]), one["detail"]) for one in fields["checks"]]
        return cls(checks=checks, figures=dict(fields["figures"]), gate=fields["gate"])


def passed(name: str, detail: str) -> Check:
    """Return a check that was met."""
    return Check(name, Outcome.PASSED, detail)


def failed(name: str, detail: str) -> Check:
    """Return a check that was not met: the version cannot be published."""
    return Check(name, Outcome.FAILED, detail)


def warned(name: str, detail: str) -> Check:
    """Return a finding that the provider should know of, and that stops nothing."""
    return Check(name, Outcome.WARNED, detail)


def skipped(name: str, detail: str) -> Check:
    """Return a check that was not made, and why."""
    return Check(name, Outcome.SKIPPED, detail)
