"""The one place that opens weights, checkpoints, arrays and models' folders: nothing that a file holds is ever run.

`tests/files/test_openings.py` looks through the tree for any other opening, and lists those of libraries that are safe
with the reason why.
"""

from __future__ import annotations

import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from files.reading import is_regular, shown
from files.writing import naming

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

MOST_HEADER_BYTES = 10_000


def load_checkpoint(path: Path, *, memory_map: bool = False) -> Any:
    """Return what torch saved in `path`, on the CPU: tensors and plain containers; nothing in the file is executed.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or holds anything else than tensors and plain containers.
    """
    import torch

    _check_regular(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch asks to file an issue where a pickle is of an unusual kind
            return torch.load(path, map_location="cpu", weights_only=True, mmap=memory_map)
    except OSError:
        raise
    # torch and pickle report damage with nearly every type: struct.error, KeyError, AssertionError, ...
    except Exception as error:
        raise ValueError(f"{shown(path)} is no checkpoint of tensors ({_reason(error)})") from error


def _check_regular(path: Path) -> None:
    """Raise OSError for a folder, a pipe or a device: a library would wait for it, or read it without an end."""
    if path.exists() and not is_regular(path):
        raise OSError(f"{shown(path)} is no regular file (a folder, pipe or device)")


def _reason(error: Exception) -> str:
    """Return why a library refused a file as one line, without torch's advice to run what is in it."""
    if isinstance(error, pickle.UnpicklingError):
        named = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
        return f"it holds an object of {named[1]}" if named else "it holds not only tensors"
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and "weights_only" not in line]
    return (lines[0] if lines else type(error).__name__)[:300]


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file by name, on the CPU.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no safetensors file, or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check_regular(path)
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

    _check_regular(path)
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
    with _open_archive(path) as members:
        if missing := [name for name in shapes if name not in members]:
            raise ValueError(f"it holds {', '.join(list(members)[:5]) or 'nothing'}, and no {missing[0]}")
        wanted = {**shapes, **{name: () for name in optional if name in members}}
        return {name: _read_array(members[name](), name, tuple(shape)) for name, shape in wanted.items()}


def array_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the arrays of an .npz file declare, by name; the arrays are not read.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no .npz file; the text names the file.
    """
    with _open_archive(path) as members:
        return {name: _read_header(open_member(), name)[0] for name, open_member in members.items()}


@contextmanager
def _open_archive(path: Path) -> Iterator[dict[str, Callable[[], IO[bytes]]]]:
    """Yield what opens each array of an .npz file, by name; errors of any kind in the block are told as the file's.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no .npz file, or the block raised anything else; the text names the file.
    """
    _check_regular(path)
    try:
        with naming(path), zipfile.ZipFile(path) as archive, ExitStack() as opened:

            def opener(name: str) -> Callable[[], IO[bytes]]:
                return lambda: opened.enter_context(archive.open(name))

            yield {name.removesuffix(".npy"): opener(name) for name in archive.namelist()}
    except (OSError, MemoryError):
        raise
    # A damaged archive shows as nearly anything: BadZipFile, zlib.error, struct.error, NotImplementedError, ...
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{shown(path)} is not a valid .npz file: {reason}") from error


def _read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether it is in Fortran's order, and type that an open .npy file declares."""
    import numpy as np

    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read_header:
        raise ValueError(f"{name} is written in .npy version {version}; expected 1.0 or 2.0")
    return read_header[version](file, max_header_size=MOST_HEADER_BYTES)


def _read_array(file: IO[bytes], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the array of an open .npy file, after its header was held against `shape`."""
    import numpy as np

    declared, is_fortran, dtype = _read_header(file, name)
    if declared != shape:
        raise ValueError(f"{name} has shape {declared}; expected {shape}")
    if dtype.hasobject or (dtype.kind not in "fiu" and not (shape == () and dtype.kind == "U")):
        raise ValueError(f"{name} holds {dtype}; expected numbers")
    if dtype.itemsize > MOST_HEADER_BYTES:
        raise ValueError(f"{name} holds a text of {dtype.itemsize} bytes")
    content = file.read(math.prod(shape) * dtype.itemsize)
    array = np.frombuffer(content, dtype=dtype)
    return array.reshape(shape, order="F" if is_fortran else "C")


@contextmanager
def open_rows(path: Path, name: str = "") -> Iterator[tuple[tuple[int, ...], np.dtype[Any], Iterator[np.ndarray]]]:
    """Yield shape, type and the rows along the first axis of an array; the rows are read one by one.

    path: an .npy file, or an .npz file with an array `name`. Pickled objects are refused.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, is damaged, or is stored column by column; the text names the file.
    """
    _check_regular(path)
    if path.suffix.lower() == ".npz":
        with _open_archive(path) as members:
            if name not in members:
                raise ValueError(f"it holds {', '.join(list(members)[:5]) or 'nothing'}, and no {name}")
            yield _rows_of(members[name](), name)
        return
    with naming(path), path.open("rb") as file:
        try:
            found = _rows_of(file, path.name)
        except (OSError, MemoryError, _Unfit):
            raise
        except Exception as error:  # as in an archive
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{shown(path)} is not a valid .npy file: {reason}") from error
        yield found


class _Unfit(ValueError):
    """A valid array that is of no use here."""


def _rows_of(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype[Any], Iterator[np.ndarray]]:
    import numpy as np

    shape, is_fortran, dtype = _read_header(file, name)
    if dtype.hasobject or dtype.kind not in "fiu" or not shape or is_fortran:
        order = " in Fortran's order" if is_fortran else ""
        raise _Unfit(f"{name} holds {dtype} of {shape}{order}; expected numbers, row by row")
    row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def rows() -> Iterator[np.ndarray]:
        for index in range(shape[0]):
            content = file.read(row_bytes)
            if len(content) != row_bytes:
                raise ValueError(f"{name} ends in row {index} of {shape[0]}; copy it again")
            yield np.frombuffer(content, dtype=dtype).reshape(shape[1:])

    return shape, dtype, rows()


def from_pretrained(kind: Any, source: str | Path, **options: Any) -> Any:
    """Return `kind.from_pretrained(source, **options)`: a model, tokenizer, scheduler, configuration or pipeline.

    `source` is a folder: what comes from a hub is downloaded first, and checked where it lies. What `check_folder` and
    `check_pipeline` refuse is refused before the library reads anything, and the library is told never to run code. So
    transformers does not ask on the terminal whether it may.

    Raises:
        OSError: there is no such folder, or files are missing.
        ValueError: the folder brings code, or does not fit `kind`; one line.
    """
    from files.model_folders import PIPELINE_INDEX, check_folder, check_pipeline

    assert "trust_remote_code" not in options
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise OSError(f"no folder {shown(folder)}; expected one that holds a {kind.__name__}")
    if getattr(kind, "config_name", None) == PIPELINE_INDEX:
        check_pipeline(folder)
    else:
        check_folder(folder / (options.get("subfolder") or ""), folder)
    if kind.__module__.startswith("transformers."):
        options["trust_remote_code"] = False
    try:
        return getattr(kind, "from_pretrained")(folder, **options)  # noqa: B009 (the one place where it may be called)
    except (OSError, MemoryError):
        raise
    # The libraries report files that do not fit with nearly every type, mostly in many lines.
    except Exception as error:
        raise ValueError(f"{shown(folder)} does not load as a {kind.__name__}: {_reason(error)}") from error


def from_single_file(kind: Any, file: Path, layout: Path, **options: Any) -> Any:
    """Return the pipeline `kind` with the weights of a .safetensors file, by diffusers' own conversion.

    layout: the folder with the configurations and tokenizers; it is checked as in `from_pretrained`. With a folder
    named, the library asks no hub for others.

    Raises:
        OSError: files are missing.
        ValueError: the folder brings code, or the file does not fit; one line.
    """
    from files.model_folders import check_pipeline

    assert file.suffix == ".safetensors"
    assert layout.is_dir()
    _check_regular(file)
    check_pipeline(layout)
    try:
        load = getattr(kind, "from_single_file")  # noqa: B009 (the one place where it may be called)
        return load(str(file), config=str(layout), local_files_only=True, **options)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{shown(file)} does not load as a {kind.__name__}: {_reason(error)}") from error
