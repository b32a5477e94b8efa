"""Calls over real HTTP, as a client makes them; `marketplace/proving/calls.py` makes them."""

from marketplace.proving.calls import FILM, PREDICT, Answer, Caller, at_once, statuses

__all__ = ["FILM", "PREDICT", "Answer", "Caller", "at_once", "statuses"]
