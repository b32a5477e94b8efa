"""The provider of a site that collects no money: credit is free or given by the operator."""

from typing import Any, Final, NoReturn

from billing.errors import PaymentsOff


class OfflineProvider:
    """Refuses everything, at once and without effect."""

    name: Final = "offline"

    def __getattr__(self, name: str) -> Any:
        """Return a method that refuses: whatever is asked, there is nobody to ask."""
        if name.startswith("_"):
            raise AttributeError(name)
        return _refuse


def _refuse(*_args: object, **_named: object) -> NoReturn:
    raise PaymentsOff
