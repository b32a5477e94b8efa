"""Change the database as who has its password could; `marketplace/proving/tampering.py` does it."""

from marketplace.proving.tampering import behind_our_back

__all__ = ["behind_our_back"]
