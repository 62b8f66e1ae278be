"""The one place that opens weights, checkpoints, arrays and models' folders: nothing that a file holds is ever run.

`tests/files/test_openings.py` looks through the tree for any other opening, and lists those of libraries that are safe
with the reason why.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from files.reading import shown

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

MOST_HEADER_BYTES = 10_000
# A configuration, a tokenizer's vocabulary: nothing that names code may stand in it.
REMOTE_CODE_KEYS = ("auto_map", "custom_pipelines")


def load_checkpoint(path: Path, *, memory_map: bool = False) -> Any:
    """Return what torch saved in `path`, on the CPU: tensors and plain containers; nothing in the file is executed.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or holds anything else than tensors and plain containers.
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=memory_map)
    except (
        pickle.UnpicklingError, RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError,
        AssertionError, RecursionError, MemoryError,
    ) as error:  # fmt: skip
        raise ValueError(f"{shown(path)} is no file of tensors saved by torch ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """Return why torch refused a file, without its advice to run what is in it."""
    if isinstance(error, pickle.UnpicklingError):
        text = str(error)
        names = [part for part in text.split() if "." in part and part.replace(".", "").replace("_", "").isalnum()]
        return f"it holds an object of {names[0]}" if "Unsupported global" in text and names else "not only tensors"
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:200]


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name, on the CPU.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no safetensors file, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{shown(path)} is no safetensors file ({error})") from error
    return tensors


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a safetensors file's tensors by name; the tensors are not read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no safetensors file, or damaged.
    """
    with open_tensors(path) as file:
        return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no mapping)


@contextmanager
def open_tensors(path: Path, framework: str = "np") -> Iterator[Any]:
    """Yield safetensors' open file, whose tensors are read one by one. Raises as `load_tensors`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework) as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{shown(path)} is no safetensors file ({error})") from error


def load_arrays(path: Path, shapes: Mapping[str, Sequence[int]], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Return arrays of an .npz file by name: those of `shapes`, whose shapes must be these, and scalars of `optional`.

    What the file declares is checked before an array is read. Pickled objects are refused.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no .npz file, lacks an array, or declares another shape or kind; the text names the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            stored = {name.removesuffix(".npy"): archive.getinfo(name) for name in archive.namelist()}
            found: dict[str, np.ndarray] = {}
            for name, shape in shapes.items():
                if name not in stored:
                    raise ValueError(f"it holds {', '.join(list(stored)[:5]) or 'nothing'}, and no {name}")
                with archive.open(stored[name]) as file:
                    found[name] = _read_array(file, name, tuple(shape))
            for name in optional:
                if name in stored:
                    with archive.open(stored[name]) as file:
                        found[name] = _read_array(file, name, ())
            return found
    except OSError:
        raise
    # A damaged archive shows as nearly anything: BadZipFile, zlib.error, struct.error, NotImplementedError, ...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{shown(path)} is no .npz file as expected: {reason}") from error


def _read_array(file: IO[bytes], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array of an open .npy file, after its header was held against `shape`."""
    import numpy as np

    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"{name} is written in .npy version {version}; expected 1.0 or 2.0")
    declared, is_fortran, dtype = read_header[version](file, max_header_size=MOST_HEADER_BYTES)
    if declared != shape:
        raise ValueError(f"{name} has shape {declared}; expected {shape}")
    if dtype.hasobject or (dtype.kind not in "fiu" and not (shape == () and dtype.kind == "U")):
        raise ValueError(f"{name} holds {dtype}; expected numbers")
    if dtype.itemsize > MOST_HEADER_BYTES:
        raise ValueError(f"{name} holds a text of {dtype.itemsize} bytes")
    content = file.read(math.prod(shape) * dtype.itemsize)
    array = np.frombuffer(content, dtype=dtype)
    return array.reshape(shape, order="F" if is_fortran else "C")


def from_pretrained(kind: Any, source: str | Path, **options: Any) -> Any:
    """Return `kind.from_pretrained(source, **options)`: a model, tokenizer, scheduler or configuration of a library.

    Code that the folder brings is refused before anything is read, and the library is told never to run any. So
    transformers does not ask on the terminal whether it may.

    Raises:
        OSError: files are missing.
        ValueError: the folder brings code, or does not fit `kind`.
    """
    assert "trust_remote_code" not in options
    subfolder = options.get("subfolder") or ""
    folder = Path(source).expanduser() / subfolder
    if folder.is_dir():
        refuse_code(folder)
    loader = getattr(kind, "from_pretrained")  # noqa: B009 (the one place where the attribute may be called)
    if kind.__module__.startswith("transformers."):
        options["trust_remote_code"] = False
    return loader(source, **options)


def refuse_code(folder: Path) -> None:
    """Raise ValueError where a model's folder names code of its own in a configuration: such code is never run."""
    import json

    for path in sorted(folder.glob("*.json")):
        if not path.name.endswith(("config.json", "model_index.json")):
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue  # the library that reads it says what is wrong
        if isinstance(content, dict) and (named := [key for key in REMOTE_CODE_KEYS if content.get(key)]):
            raise ValueError(
                f"{shown(path)} names code of its own ({named[0]}), which is never run here: "
                "use a model of the library's own classes, or remove that entry"
            )
