"""Ragged rows become padded inputs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.tensors import pad_rows


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=12), min_size=1, max_size=8))
def test_each_row_keeps_its_ids_and_is_padded_at_the_end(rows: list[list[int]]) -> None:
    lengths = np.array([len(row) for row in rows])

    padded = pad_rows(np.concatenate([np.array(row) for row in rows]), lengths, pad_id=0)

    longest = int(lengths.max())
    assert padded.tolist() == [row + [0] * (longest - len(row)) for row in rows]


@pytest.mark.parametrize("lengths", [[], [3], [2, 0], [3, -1], [1, 2]])
def test_lengths_that_do_not_describe_the_ids_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="do not describe"):
        pad_rows(np.array([5, 6]), np.array(lengths, dtype=np.int64), pad_id=0)
