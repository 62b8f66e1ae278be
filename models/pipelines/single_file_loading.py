"""Loads a whole model from one .safetensors file by diffusers' own conversion, with every tensor accounted for."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from files.opening import from_single_file, tensor_shapes
from models.pipelines.components import Place, component_class, is_network
from models.pipelines.opening import Opening, folder_of, given_components
from models.pipelines.single_files import Shapes
from models.pipelines.sources import FoundPipeline
from models.pipelines.weight_files import choose_variant

_MOST_NAMES = 3


def open_file(kind: Any, found: FoundPipeline, opening: Opening) -> Any:
    """Return the pipeline of a single file; configurations and tokenizers are those of `found.layout`.

    Raises:
        OSError: a component is neither in the file nor beside the configurations.
        ValueError: the file does not fit the configurations; one line.
    """
    assert found.file is not None
    file, folder = found.source.path, folder_of(found.layout, found.index, opening, bare=True)
    if not hasattr(kind, "from_single_file"):
        raise ValueError(
            f"a {kind.__name__} cannot be loaded from a single file: name a folder in the diffusers layout"
        )
    given = given_components(kind, folder, found.index, opening, found.layout.told, bare=True)
    shapes = tensor_shapes(file)
    for name, value in found.index.items():
        if name.startswith("_") or not isinstance(value, list) or value[0] is None or name in given:
            continue
        place = Place(folder, name)
        network = component_class(name, value, place)
        if is_network(network) and name not in opening.left_out and not _is_in_file(name, network, shapes):
            if choose_variant(path.name for path in place.path.iterdir()) is None:
                raise OSError(f"it holds no {name} ({opening.remedy(name)})")
            given[name] = opening.load(name, network, place)
    if "add_watermarker" in inspect.signature(kind.__init__).parameters:
        given["add_watermarker"] = False
    try:
        with _lower_case(file) as named:
            pipeline = from_single_file(kind, named, folder, dtype=opening.dtype, **given)
    except ValueError as error:
        if isinstance(error.__cause__, NotImplementedError):  # torch on parameters that nothing filled
            lacks = f"{found.source.told} lacks tensors that the configurations of {found.layout.told} ask for"
            raise ValueError(lacks) from error
        raise
    _check_whole(pipeline, found.source.told, found.layout.told)
    if found.file.predicts_velocity:
        _predict_velocity(pipeline, found, opening)
    opening.notes.append(f"configurations and tokenizers: {found.layout.told}")
    return pipeline


@contextmanager
def _lower_case(file: Path) -> Iterator[Path]:
    """Yield the file under a name that ends in .safetensors: diffusers takes one in .SAFETENSORS for a pickle."""
    if file.suffix == ".safetensors":
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"{file.stem}.safetensors"
        link.symlink_to(file.resolve())
        yield link


def _is_in_file(name: str, kind: Any, shapes: Shapes) -> bool:
    """Return whether a file holds the weights of a component, by the names that diffusers' conversions look for."""
    from diffusers.loaders.single_file_utils import LDM_VAE_KEYS, is_clip_model_in_single_file, is_t5_in_single_file

    if name == "vae":
        return any(key.startswith(tuple(LDM_VAE_KEYS)) for key in shapes)
    if kind.__module__.startswith("transformers."):
        return bool(is_clip_model_in_single_file(kind, shapes)) or (
            kind.__name__.startswith("T5") and bool(is_t5_in_single_file(shapes))
        )
    return hasattr(kind, "from_single_file")


def _check_whole(pipeline: Any, told: str, layout: str) -> None:
    """Raise ValueError where a network has parameters that no tensor of the file filled."""
    for name, part in pipeline.components.items():
        if not is_network(type(part)):
            continue
        empty = [key for key, weights in part.named_parameters() if weights.is_meta]
        if empty:
            more = f" and {len(empty) - _MOST_NAMES} more" if len(empty) > _MOST_NAMES else ""
            names = ", ".join(empty[:_MOST_NAMES]) + more
            raise ValueError(f"{told} does not fit the configurations of {layout}: {name} lacks {names}")


def _predict_velocity(pipeline: Any, found: FoundPipeline, opening: Opening) -> None:
    """Set the scheduler to what the file's marks say it was trained for; its configuration cannot know."""
    assert found.file is not None
    wanted: dict[str, Any] = {"prediction_type": "v_prediction"}
    if found.file.zero_terminal:
        wanted |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    pipeline.scheduler = type(pipeline.scheduler).from_config(pipeline.scheduler.config, **wanted)
    opening.notes.append(f"the file is marked as one that predicts velocity: {', '.join(wanted)} set in the scheduler")
