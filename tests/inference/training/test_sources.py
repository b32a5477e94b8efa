"""A pinned package is fetched whole or refused."""

import hashlib
from pathlib import Path

import pytest

from inference.training.errors import SourceUnavailable
from inference.training.sources import PinnedPackage, fetch_package, sha256_of


def _package(content: bytes) -> PinnedPackage:
    digest = hashlib.sha256(content).hexdigest()
    return PinnedPackage(requirement="reviews==1.0", filename="reviews-1.0.tar.gz", sha256=digest, is_sdist=True)


def test_a_package_that_is_there_is_used_without_asking_the_index(tmp_path: Path) -> None:
    (tmp_path / "reviews-1.0.tar.gz").write_bytes(b"as pinned")

    path = fetch_package(_package(b"as pinned"), datasets=tmp_path)

    assert sha256_of(path) == hashlib.sha256(b"as pinned").hexdigest()


def test_a_package_that_was_changed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "reviews-1.0.tar.gz").write_bytes(b"something else")

    with pytest.raises(SourceUnavailable, match="has sha256"):
        fetch_package(_package(b"as pinned"), datasets=tmp_path)
