"""A file of weights or arrays from a stranger: nothing in it runs, and the refusal is one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_files import Payload, refusal

from files.opening import array_shapes, load_arrays, load_checkpoint, load_tensors, tensor_shapes


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.npz"])
def test_a_pipe_in_the_place_of_a_file_is_refused_without_waiting(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    calls: dict[str, list[Callable[[Path], object]]] = {
        "a.pth": [load_checkpoint],
        "a.safetensors": [load_tensors, tensor_shapes],
        "a.npz": [array_shapes],
    }
    for call in calls[name]:
        assert "is no regular file" in refusal(lambda call=call: call(tmp_path / name), OSError)


@pytest.mark.parametrize("memory_map", [False, True])
def test_a_pickle_is_refused_by_the_name_of_its_object(nothing_runs: Path, memory_map: bool) -> None:
    torch.save({"w": Payload()}, nothing_runs / "m.pth")
    line = refusal(lambda: load_checkpoint(nothing_runs / "m.pth", memory_map=memory_map))
    assert "m.pth is no checkpoint of tensors (it holds an object of posix.mkdir)" in line


def test_a_pickle_of_the_old_format_and_a_plain_one_are_refused(nothing_runs: Path) -> None:
    import pickle

    torch.save({"w": Payload()}, nothing_runs / "old.pth", _use_new_zipfile_serialization=False)
    (nothing_runs / "plain.pth").write_bytes(pickle.dumps(Payload()))
    for name in ("old.pth", "plain.pth"):
        assert name in refusal(lambda name=name: load_checkpoint(nothing_runs / name))


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"\xff" * 64, (1 << 60).to_bytes(8, "little") + b"{}"])
def test_a_damaged_safetensors_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    for call in (load_tensors, tensor_shapes):
        assert "m.safetensors is no safetensors file" in refusal(lambda call=call: call(tmp_path / "m.safetensors"))


def test_shapes_of_arrays_are_what_their_headers_say(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", mu=np.zeros(3), sigma=np.eye(3, dtype=np.float32), name=np.array("x"))
    assert array_shapes(tmp_path / "a.npz") == {"mu": (3,), "sigma": (3, 3), "name": ()}
    found = load_arrays(tmp_path / "a.npz", {"sigma": (3, 3)}, optional=("name", "other"))
    assert (found["sigma"].tolist(), str(found["name"]), len(found)) == (np.eye(3).tolist(), "x", 2)


def test_an_array_of_objects_is_refused(nothing_runs: Path) -> None:
    np.savez(nothing_runs / "a.npz", mu=np.array([Payload()], dtype=object))
    assert "mu holds object" in refusal(lambda: load_arrays(nothing_runs / "a.npz", {"mu": (1,)}))


@pytest.mark.parametrize(
    "content", [b"GIF89a", b"", b"\x80", b"\x80\x02", b"PK\x03\x04", b"\x00" * 40, b"1", b"\x80\x32."]
)
def test_a_checkpoint_that_is_something_else_is_one_line(
    tmp_path: Path, content: bytes, recwarn: pytest.WarningsRecorder
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pth is no checkpoint of tensors") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not recwarn.list
