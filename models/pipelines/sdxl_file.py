"""SDXL from a single .safetensors file, as fine-tunes are published: SDXL_MODEL=FILE."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from files.downloads import HubFiles
from files.sources import check_source, expanded, is_file
from models.base import Runtime
from models.pipelines.single_files import SDXL, check_suffix, recognise_file
from models.pipelines.sources import find_pipeline, hub_files

if TYPE_CHECKING:
    from models.pipelines.loading import OpenedPipeline


@dataclass(frozen=True)
class FilePipeline:
    """A file as `models.pipelines.sources` takes it: `id` is its path, the rest as HUB_COMPONENTS and HUB_CONFIG."""

    id: str
    components: str
    config: str


def is_single(source: str) -> bool:
    """Return whether a model is named by a file."""
    return is_file(expanded(source))


def check_model(source: str) -> None:
    """Raise OSError where SDXL_MODEL is neither a folder, a hub id nor a .safetensors file."""
    if is_single(source):
        check_suffix(expanded(source))
    else:
        check_source(source)


def check_file(source: str) -> None:
    """Check what a file holds, by its header.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no SDXL model; the line says what it is.
    """
    found = recognise_file(expanded(source))
    if found.what != SDXL:
        raise ValueError(f"SDXL_MODEL={source} is {found.what}, and not {SDXL}: name it as MODELS=hub:{source}")


def file_needs(source: str, vae: str, config: str) -> Sequence[HubFiles]:
    """Return what a file needs of the hub: configurations and tokenizers, some MB, and a VAE that was named."""
    check_file(source)
    pipeline = _pipeline(source, vae, config)
    try:
        found = find_pipeline(pipeline)
    except OSError as error:
        raise OSError(
            f"SDXL_MODEL={source} holds weights alone, and its configurations and tokenizers cannot be fetched "
            f"({error}): set SDXL_CONFIG to a folder of an SDXL model; it needs no weights"
        ) from error
    return hub_files(found, pipeline, "pretrained")


def open_file_model(source: str, vae: str, config: str, runtime: Runtime) -> OpenedPipeline:
    """Return the pipeline of a file. Raises as `models.pipelines.loading.open_pipeline`."""
    from models.pipelines.loading import open_pipeline

    check_file(source)
    pipeline = _pipeline(source, vae, config)
    return open_pipeline(pipeline, runtime, find_pipeline(pipeline), settings={"vae": "SDXL_VAE"})


def _pipeline(source: str, vae: str, config: str) -> FilePipeline:
    components: dict[str, Any] = {"vae": vae} if vae else {}
    return FilePipeline(source, json.dumps(components) if components else "", config)
