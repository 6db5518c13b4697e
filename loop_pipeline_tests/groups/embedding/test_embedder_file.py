"""A file of an embedder is read to its end, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loop_pipeline.groups.embedding.embedder_file import check_array, read_arrays


def test_every_damage_of_a_file_is_one_line(tmp_path: Path):
    file = tmp_path / "e.npz"
    np.savez(file, a=np.arange(5_000.0), b=np.ones(3))
    whole = file.read_bytes()
    assert set(read_arrays(file)) == {"a", "b"}
    damages = [whole[:n] for n in (0, 1, 10, 100, len(whole) // 2, len(whole) - 1)]
    damages += [b"text", b"PK", whole[:400] + bytes([whole[400] ^ 1]) + whole[401:]]
    for content in damages:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"e\.npz is damaged or no embedder") as caught:
            read_arrays(file)
        assert "\n" not in str(caught.value)


def test_no_pickle_runs(tmp_path: Path):
    np.savez(tmp_path / "e.npz", a=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="is damaged or no embedder"):
        read_arrays(tmp_path / "e.npz")


@pytest.mark.parametrize(
    "array",
    [np.zeros(2), np.zeros((3, 1)), np.array([1.0, np.nan, 1.0]), np.array(["a", "b", "c"])],
)
def test_an_array_of_another_shape_or_without_numbers_is_said(array):
    with pytest.raises(ValueError, match=r"^x: "):
        check_array(array, (3,), "x:")
    check_array(np.zeros(3), (3,), "x:")
