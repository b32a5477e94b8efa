"""Webhooks out (Standard Webhooks): `emit` tells an organization's endpoints that something happened.

`emit` writes the outbox inside the caller's transaction, `delivering` sends what is due, `signing`
and `sending` are the wire. Source: standardwebhooks.com, specification of 2023-12.
"""

from marketplace.webhooks.outbox import EVENTS, emit

__all__ = ["EVENTS", "emit"]
