"""Tensors kept on disk with a digest of all of them, so that a changed bit is seen when they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from files.opening import open_tensors
from files.reading import is_regular, shown
from files.writing import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

_KEY = "digest"


def save_sealed(path: Path, tensors: Mapping[str, Tensor], context: str, *, sync: bool = False) -> None:
    """Write tensors as safetensors, whole or not at all, with a digest of them and of `context`.

    Raises:
        OSError: the file cannot be written; the error names it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with write_atomically(path, sync=sync) as partial:
        try:
            save_file(kept, partial, metadata={_KEY: tensors_digest(kept, context)})
        except SafetensorError as error:  # a full disk shows as this
            raise OSError(f"{shown(path)} cannot be written ({error})") from error


def load_sealed(path: Path, context: str) -> dict[str, Tensor]:
    """Return the tensors of a file that `save_sealed` wrote in the same context, on the CPU.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or was written for something else; the text names it.
    """
    if not is_regular(path):
        raise OSError(f"{shown(path)} is no regular file")
    with open_tensors(path, "pt") as file:
        promised = (file.metadata() or {}).get(_KEY)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    if promised != tensors_digest(tensors, context):
        raise ValueError(f"{shown(path)} does not hold what its digest says")
    return tensors


def tensors_digest(tensors: Mapping[str, Tensor], context: str) -> str:
    """Return the SHA-256 of the tensors' names, types, shapes and bytes, and of `context`."""
    import torch

    digest = hashlib.sha256(f"{context}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}\n{tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
