"""A receiver of webhooks on this machine; `marketplace/proving/receiver.py` is it."""

from marketplace.proving.receiver import Receiver, receiver

__all__ = ["Receiver", "receiver"]
