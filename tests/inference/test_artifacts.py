"""A version's files: what is served is what was published."""

import hashlib
from pathlib import Path

import pytest

from inference.artifacts import load_bundle, read_model
from inference.errors import ModelLoadFailed
from tests.inference.models import mean_model, write_bundle


def test_a_bundle_knows_its_files_hash_and_size(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, mean_model())

    model = (tmp_path / "model.onnx").read_bytes()
    assert bundle.digest == hashlib.sha256(model).hexdigest()
    assert bundle.size_bytes == len(model)
    assert read_model(bundle) == model
    assert load_bundle(tmp_path, sha256=bundle.digest.upper()).key == bundle.key


def test_another_pipeline_over_the_same_artifact_is_another_version_to_the_engine(tmp_path: Path) -> None:
    one = write_bundle(tmp_path / "one", mean_model())
    other = write_bundle(tmp_path / "other", mean_model(), pad_id=1)

    assert one.digest == other.digest
    assert one.key != other.key


def test_a_file_that_is_not_the_one_published_is_refused(tmp_path: Path) -> None:
    write_bundle(tmp_path, mean_model())

    with pytest.raises(ModelLoadFailed, match="hashes to"):
        load_bundle(tmp_path, sha256="0" * 64)


def test_a_file_that_changed_since_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, mean_model())
    bundle.path.write_bytes(b"another model")

    with pytest.raises(ModelLoadFailed, match="hashes to"):
        read_model(bundle)


@pytest.mark.parametrize("artifact", ["absent.onnx", "../model.onnx", "/etc/passwd", ".."])
def test_a_file_outside_the_folder_or_absent_is_refused(tmp_path: Path, artifact: str) -> None:
    write_bundle(tmp_path / "folder", mean_model())
    (tmp_path / "model.onnx").write_bytes(b"not published")

    with pytest.raises(ModelLoadFailed):
        load_bundle(tmp_path / "folder", artifact=artifact, sha256=None)
