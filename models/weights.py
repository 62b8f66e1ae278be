"""Finds weight files in a folder or on the hub, reads them safely, and loads them with every tensor accounted for."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from files.downloads import show_bar
from files.opening import load_checkpoint, load_tensors
from files.paths import is_inside
from models.checkpoints import here, named, weight_files
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


def find_network(
    source: str, published: str, network: str, variable: str, *, depth: int | None = None, beside: bool = False
) -> Path:
    """Return the file that holds a network: by its published name, or, among a user's own files, by what is in it.

    source: a hub id, a folder, or a file; `beside`: a file that is named holds the other network, and perhaps this one
    as well, and else the files beside it are meant. network: as `recognise` says it, "a VAR transformer". depth: of the
    transformer, where another one is not meant.

    Raises:
        OSError: no file holds it, or several do; the line names them.
        ValueError: the file that was named is no file of tensors.
    """
    place = here(source)
    if place is None:
        return locate(source, published, variable)
    if place.is_file() and (not beside or _holds(read_networks(place), network)):
        return place
    folder = place if place.is_dir() else place.parent
    if place.is_dir() and (path := named(folder, published)):
        return locate(source, published, variable)
    if path := named(folder, published):
        return path
    found = {path: networks for path in weight_files(folder) if (networks := _networks_of(path)) is not None}
    fitting = [path for path, networks in found.items() if _holds(networks, network, depth)]
    # A training checkpoint holds its tokenizer too: a file of the network alone is meant before it.
    alone = [path for path in fitting if len(found[path]) == 1]
    chosen = alone or fitting
    if len(chosen) == 1:
        if not is_inside(chosen[0], folder):
            raise OSError(f"{variable}={source}: {chosen[0].name} leads outside of the folder; copy its target there")
        return chosen[0]
    if chosen:
        names = ", ".join(path.name for path in chosen[:4])
        raise OSError(f"{variable}={source}: {names} hold {network} each; leave one in the folder, or name the file")
    said = "".join(f"; {path.name} holds {' and '.join(networks)}" for path, networks in found.items() if networks)
    missing = f"no {published}" if place.is_dir() else f"not {network}, and beside it is no {published}"
    raise OSError(
        f"{variable}={source}: the {'folder' if place.is_dir() else 'file'} holds {missing}; "
        f"{file_remedy(published, variable)}{said}"
    )


def _holds(networks: Sequence[str], network: str, depth: int | None = None) -> bool:
    wanted = network if depth is None else f"{network} of depth {depth}"
    return any(found == wanted or (depth is None and found.startswith(f"{network} ")) for found in networks)


def _networks_of(path: Path) -> list[str] | None:
    """Return the networks in a file, or None where it cannot be read: it is none of those that are looked for."""
    try:
        return read_networks(path)
    except (OSError, ValueError):
        return None


def file_notes(files: Mapping[str, Path]) -> tuple[str, ...]:
    """Return the footer's note on weights from files under other names than the published ones, which are the keys."""
    others = dict.fromkeys(file.name for name, file in files.items() if file.stem != Path(name).stem)
    return (f"weights: {', '.join(others)}",) if others else ()


def read_networks(path: Path) -> list[str]:
    """Return which of our networks a file holds, "a VAR transformer of depth 16"; its tensors are not read.

    Raises:
        OSError, ValueError: as `read_state`.
    """
    return _networks_in(_open(path))


def read_state(path: Path, entry: str = "", network: str = "") -> dict[str, Tensor]:
    """Return the tensors of a .safetensors or a pickled (.pth, .pt, .bin) file by name; nothing in it is executed.

    What training puts before the names (DataParallel's `module.`, torch.compile's `_orig_mod.`, FSDP's) is left out.
    `entry` names the state dict inside a training checkpoint, "trainer.var_wo_ddp"; it may also be the whole file.
    Where it is neither, the file is looked through for `network`, "a VAR transformer": the weights themselves before
    their moving average.

    Raises:
        ValueError: the file is no such file, or holds something else than tensors, or a tensor twice.
    """
    content = _enter(_open(path), entry)
    if network and not _is_state(content):
        content = _find_inside(content, network, path)
    if not isinstance(content, Mapping) or not _is_state(content):
        names = ", ".join(map(str, list(content)[:4])) if isinstance(content, Mapping) else type(content).__name__
        guess = f"; {recognise(content)}" if isinstance(content, Mapping) else ""
        raise ValueError(
            f"{path} holds {names}; expected a state dict, or a training checkpoint with {entry or 'one'}{guess}"
        )
    return _unwrapped(content, path)


def _open(path: Path) -> object:
    if path.suffix == ".safetensors":
        return load_tensors(path)
    try:
        content: object = load_checkpoint(path, memory_map=_is_zip(path))
    except ValueError as error:
        raise ValueError(f"{error}; expected a state dict saved by torch, download it again") from error
    return content


def _is_state(content: object) -> bool:
    return isinstance(content, Mapping) and all(isinstance(value, Tensor) for value in content.values())


def _find_inside(content: object, network: str, path: Path) -> object:
    """Return the one state dict inside `content` that is this network's, or the content itself where there is none.

    Raises:
        ValueError: there are several, beside moving averages.
    """
    found = {place: state for place, state in _states_in(content, "") if _holds(_networks_in(state), network)}
    plain = {place: state for place, state in found.items() if "ema" not in place.lower()} or found
    if len(plain) > 1:
        raise ValueError(f"{path} holds {network} as {', '.join(list(plain)[:4])}; save the one that is meant alone")
    return next(iter(plain.values()), content)


def _states_in(content: object, place: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    if not isinstance(content, Mapping):
        return
    if _is_state(content) and content:
        yield place, content
        return
    for name, part in content.items():
        yield from _states_in(part, f"{place}.{name}" if place else str(name))


# FSDP's and torch.compile's stand before parts of a network too; DataParallel wraps the whole.
_WRAPPERS = re.compile(r"(^|\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?=\.)")
_WHOLE = re.compile(r"^(module\.)+")


def _plain_name(name: str) -> str:
    """Return a tensor's name without what training put before it and its parts."""
    while (shorter := _WHOLE.sub("", _WRAPPERS.sub("", name).removeprefix("."))) != name:
        name = shorter
    return name


def _unwrapped(content: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for key, value in content.items():
        name = _plain_name(str(key))
        if name in state:
            raise ValueError(f"{path} holds {name} twice, once as {key}: save one network alone")
        state[name] = value
    return state


def recognise(state: Mapping[str, object]) -> str:
    """Return what a file that is not the expected one holds, as the end of a message: "it looks like a VQVAE".

    Names that belong to none of our networks are quoted. A training checkpoint is told by the networks inside it.
    """
    networks = _networks_in(state)
    if networks:
        return f"it looks like {' and '.join(networks)}"
    return f"it begins with {', '.join(list(state)[:3])}" if state else "it holds no tensors"


def _networks_in(content: object) -> list[str]:
    if not isinstance(content, Mapping):
        return []
    state = {_plain_name(str(key)): value for key, value in content.items()}
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
    return [network for part in state.values() for network in _networks_in(part)]


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
