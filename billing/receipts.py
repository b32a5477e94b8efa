"""Receipts: what a metered call came to, signed. Pure, and without Django: whoever checks one offline runs this file.

A receipt is a JSON object, hashed as a leaf of two trees: that of the group of calls it was committed
with, whose root is signed (one signature a group), and that of the invoice line it is billed on. It
names the hash of the account's receipt before it, and its number in that chain, without a gap.
`docs/receipts.md` describes the format byte by byte.

Source: RFC 9162, section 2.1 (Merkle trees, inclusion proofs); RFC 8032 (Ed25519).
"""

import json
from base64 import urlsafe_b64decode
from binascii import Error as Base64Error
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct
from struct import error as StructError  # noqa: N812 (a class, as its name says here)
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

VERSION: Final = 1
# What the first receipt of an account names as the one before it.
GENESIS: Final = bytes(32)
_SIGNED: Final = b"farebox receipts v1\n"
_PREFIX: Final = "fbr1"
_PLACE: Final = Struct(">HHB")  # Index, size, steps of the path.
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, slots=True)
class Signed:
    """A receipt with what proves it: its place in its group, and the signature of the group's root."""

    body: Mapping[str, Any]
    key_id: str
    index: int
    size: int
    path: Sequence[bytes]
    signature: bytes


class Signer:
    """Signs groups of receipts with one Ed25519 key."""

    def __init__(self, secret: str) -> None:
        """Derive the key from a secret text, so that any random text will do."""
        self._private = Ed25519PrivateKey.from_private_bytes(sha256(b"farebox receipt key\n" + secret.encode()).digest())
        self.public: bytes = self._private.public_key().public_bytes_raw()
        self.key_id: str = key_id_of(self.public)

    def sign(self, root: bytes, size: int) -> bytes:
        """Return the signature of a tree's root: 64 bytes, some 40 us."""
        return self._private.sign(_message(root, size))


def key_id_of(public: bytes) -> str:
    """Return the name of a public key: the beginning of its hash."""
    return sha256(public).hexdigest()[:16]


def canonical(body: Mapping[str, Any]) -> bytes:
    """Return the bytes of a receipt that are hashed: JSON in UTF-8, keys sorted, without spaces."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def leaf_hash(body: bytes) -> bytes:
    """Return the hash of a receipt's canonical bytes."""
    return sha256(b"\0" + body).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root of a tree over at least one leaf hash."""
    level = list(leaves)
    while len(level) > 1:
        level = _next_level(level)
    return level[0]


def merkle_paths(leaves: Sequence[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """Return the root, and each leaf's path: the hashes that it is joined with on the way up."""
    paths: list[list[bytes]] = [[] for _ in leaves]
    level, places = list(leaves), list(range(len(leaves)))
    while len(level) > 1:
        for path, place in zip(paths, places, strict=True):
            neighbour = place ^ 1
            if neighbour < len(level):
                path.append(level[neighbour])
        places = [place >> 1 for place in places]
        level = _next_level(level)
    return level[0], paths


def merkle_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return one leaf's path."""
    path, level, place = [], list(leaves), index
    while len(level) > 1:
        if place ^ 1 < len(level):
            path.append(level[place ^ 1])
        level, place = _next_level(level), place >> 1
    return path


def root_of_path(leaf: bytes, *, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a leaf and its path lead to, or None where the path does not fit the tree."""
    node, place, last, used = leaf, index, size - 1, 0
    if not 0 <= index < size:
        return None
    while last > 0:
        if place & 1 or place < last:
            if used == len(path):
                return None
            node = _join(path[used], node) if place & 1 else _join(node, path[used])
            used += 1
        place, last = place >> 1, last >> 1
    return node if used == len(path) else None


def is_signed(receipt: Signed, public: bytes) -> bool:
    """Whether the receipt's group was signed with that key, and the receipt is in it as it stands."""
    root = root_of_path(leaf_hash(canonical(receipt.body)), index=receipt.index, size=receipt.size, path=receipt.path)
    if root is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(receipt.signature, _message(root, receipt.size))
    except (InvalidSignature, ValueError):
        return False
    return True


def render_token(body: bytes, *, key_id: str, index: int, size: int, path: Sequence[bytes], signature: bytes) -> str:
    """Return a receipt in one line, as replies carry it: prefix, key, and base64url of signature, place, path and body."""
    packed = b"".join((signature, _PLACE.pack(index, size, len(path)), *path, body))
    # One base64 of all: a call of it costs more than its bytes do.
    return f"{_PREFIX}.{key_id}.{b2a_base64(packed, newline=False).translate(_URL_SAFE).rstrip(b'=').decode()}"


def parse_token(text: str) -> Signed | None:
    """Return the receipt in a line that `render_token` made, or None for any other text."""
    prefix, *parts = text.strip().split(".")
    if prefix != _PREFIX or len(parts) != 2:
        return None
    try:
        packed = urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        index, size, steps = _PLACE.unpack_from(packed, 64)
        start = 64 + _PLACE.size
        body = packed[start + 32 * steps :]
        fields = json.loads(body)
    except (ValueError, Base64Error, StructError):
        return None
    if not isinstance(fields, dict) or canonical(fields) != body:
        return None
    path = [packed[start + 32 * step : start + 32 * step + 32] for step in range(steps)]
    return Signed(fields, parts[0], index, size, path, packed[:64])


def render_json(receipt: Signed) -> dict[str, Any]:
    """Return a receipt as an object of JSON, as exports and the API show it."""
    proof = {"index": receipt.index, "size": receipt.size, "path": [step.hex() for step in receipt.path]}
    return {"receipt": dict(receipt.body), "key": receipt.key_id, "proof": proof, "signature": receipt.signature.hex()}


def parse_json(fields: Any) -> Signed | None:
    """Return the receipt in an object that `render_json` made, or None for any other."""
    try:
        proof = fields["proof"]
        path = [bytes.fromhex(step) for step in proof["path"]]
        return Signed(
            dict(fields["receipt"]), fields["key"], int(proof["index"]), int(proof["size"]), path, bytes.fromhex(fields["signature"])
        )
    except (KeyError, TypeError, ValueError):
        return None


def _next_level(level: Sequence[bytes]) -> list[bytes]:
    """Join neighbours; one without a neighbour goes up as it is, which is RFC 9162's tree."""
    joined = [_join(level[place], level[place + 1]) for place in range(0, len(level) - 1, 2)]
    if len(level) % 2:
        joined.append(level[-1])
    return joined


def _join(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


def _message(root: bytes, size: int) -> bytes:
    return b"%b%d\n%b" % (_SIGNED, size, root)
