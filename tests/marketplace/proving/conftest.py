"""Proofs commit, as the command's do: their database is empty again after each."""

from tests.billing.conftest import _emptied

__all__ = ["_emptied"]
