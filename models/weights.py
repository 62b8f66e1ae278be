"""Finds weight files in a folder or on the hub, reads them safely, and loads them with every tensor accounted for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from files.downloads import show_bar
from files.opening import load_checkpoint, load_tensors
from files.paths import is_inside
from models.needed import file_remedy, hub_file

ShapeT = TypeVar("ShapeT")


def locate(source: str, file: str, variable: str) -> Path:
    """Return the path of `file` in `source`: a local folder, or a hub id (downloaded, or in the hub's cache).

    A folder may hold it as .safetensors instead.

    Raises:
        OSError: it is not there; the line names the file and what `variable` may be set to.
    """
    remedy = file_remedy(file, variable)
    folder = Path(source).expanduser()
    if folder.is_dir():
        for path in (folder / file, (folder / file).with_suffix(".safetensors")):
            if path.is_file():
                if not is_inside(path, folder):
                    raise OSError(
                        f"{variable}={source}: {path.name} leads outside of the folder; copy its target there"
                    )
                return path
        raise OSError(f"{variable}={source}: the folder holds no {file}; {remedy}")
    if folder.is_file():
        raise OSError(f"{variable}={source} is a file, expected the folder that holds {file}; {remedy}")
    return hub_file(variable, source, file, variable).fetch(show_bar) / file


def read_state(path: Path, entry: str = "") -> dict[str, Tensor]:
    """Return the tensors of a .safetensors or a pickled (.pth, .pt, .bin) file by name; nothing in it is executed.

    `entry` names the state dict inside a training checkpoint, "trainer.var_wo_ddp"; it may also be the whole file.

    Raises:
        ValueError: the file is no such file, or holds something else than tensors.
    """
    if path.suffix == ".safetensors":
        return load_tensors(path)
    try:
        content: object = load_checkpoint(path, memory_map=_is_zip(path))
    except ValueError as error:
        raise ValueError(f"{error}; expected a state dict saved by torch, download it again") from error
    content = _enter(content, entry)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        names = ", ".join(map(str, list(content)[:4])) if isinstance(content, Mapping) else type(content).__name__
        guess = f"; {recognise(content)}" if isinstance(content, Mapping) else ""
        raise ValueError(
            f"{path} holds {names}; expected a state dict, or a training checkpoint with {entry or 'one'}{guess}"
        )
    return {str(key): value for key, value in content.items()}


def recognise(state: Mapping[str, object]) -> str:
    """Return what a file that is not the expected one holds, as the end of a message: "it looks like a VQVAE".

    Names that belong to none of our networks are quoted. A training checkpoint is told by the networks inside it.
    """
    networks = _networks_in(state)
    if networks:
        return f"it looks like {' and '.join(networks)}"
    return f"it begins with {', '.join(list(state)[:3])}" if state else "it holds no tensors"


def _networks_in(state: Mapping[str, object]) -> list[str]:
    if "quantize.embedding.weight" in state:
        return ["a VQVAE"]
    if "class_emb.weight" in state and "word_embed.weight" in state:
        blocks = {key.split(".")[1] for key in state if key.startswith("blocks.")}
        return [f"a VAR transformer of depth {len(blocks)}"]
    if "cfg_uncond" in state or "text_proj_for_sos.ca.mat_q" in state:
        return ["an Infinity transformer"]
    bitwise = any(f"decoder.up.0.block.0.conv1{spelling}.weight" in state for spelling in ("", ".conv"))
    # Autoencoders with continuous latents share these names, and have convolutions around the latents.
    if bitwise and "quant_conv.weight" not in state and "post_quant_conv.weight" not in state:
        return ["a BSQ-VAE"]
    return [network for part in state.values() if isinstance(part, Mapping) for network in _networks_in(part)]


def read_shape(
    file: Path, expected: str, state: dict[str, Tensor], read: Callable[[dict[str, Tensor]], ShapeT]
) -> ShapeT:
    """Return `read(state)`, the shape of the network that the file holds; `expected`: "a VQVAE".

    Raises:
        ValueError: `read` raised KeyError (a tensor is missing) or ValueError; the line says what the file looks like.
    """
    try:
        return read(state)
    except (KeyError, ValueError) as error:
        guess = recognise(state)
        what = "does not fit" if expected in guess else f"is not {expected}"
        fault = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{file} {what}: {fault}; {guess}") from error


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], name: str, derivable: Collection[str] = ()) -> None:
    """Load `state` into `module` with every tensor accounted for.

    `derivable` names what a file may hold or lack, since the module makes it itself.

    Raises:
        ValueError: names or shapes do not fit; the line names the first of them and `name`, the file.
    """
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    missing = [key for key in expected if key not in state and key not in derivable]
    unexpected = [key for key in state if key not in expected and key not in derivable]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {shape}"
        for key, shape in expected.items()
        if key in state and tuple(state[key].shape) != shape
    ]
    faults = [
        f"{what} {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if keys
    ]
    if faults:
        raise ValueError(f"{name} does not fit {type(module).__name__}: {'; '.join(faults)}")
    module.load_state_dict({key: state[key] for key in expected if key in state}, strict=False)


def save_half(module: nn.Module, file: Path) -> None:
    """Write the module's tensors in float16 (integers as they are) as .safetensors, making the folder."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    state = {
        key: value.detach().to("cpu", torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        for key, value in module.state_dict().items()
    }
    save_file(state, file)


def _enter(content: object, entry: str) -> object:
    """Return what stands at the dotted path `entry`, or the content itself where its first name is not there."""
    for name in entry.split(".") if entry else ():
        if not isinstance(content, Mapping) or name not in content:
            return content
        content = content[name]
    return content


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"
