"""The pipeline that is fine-tuned: a whole local folder in the diffusers layout, known by its configurations."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from files.model_folders import check_folder, check_pipeline
from files.opening import from_pretrained
from finetuning.verification import read_json
from models import pixart
from models.loras.files import holds_lora, is_lora
from models.pipelines.generator import quiet_libraries

PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True)
class Base:
    """A PixArt-Sigma pipeline on disk. sample_size: latent pixels a side. vae_factor: pixels to a latent pixel."""

    folder: Path
    sample_size: int
    patch_size: int
    vae_factor: int

    @property
    def native_side(self) -> int:
        """The side in pixels that the transformer was trained at."""
        return self.sample_size * self.vae_factor

    def check_side(self, side: int) -> None:
        """Raise ValueError where images of this side cannot be cut into patches."""
        multiple = self.vae_factor * self.patch_size
        if side <= 0 or side % multiple:
            raise ValueError(f"resolution={side}: this base needs a multiple of {multiple}")

    def tokens(self, side: int) -> int:
        """Return how many patches the transformer sees of an image."""
        return int((side // self.vae_factor // self.patch_size) ** 2)

    def load_transformer(self, dtype: torch.dtype) -> Any:
        """Return the transformer with its weights, on the CPU."""
        from diffusers import PixArtTransformer2DModel

        with quiet_libraries():
            return from_pretrained(PixArtTransformer2DModel, self.folder / "transformer", dtype=dtype)

    def outline_transformer(self) -> Any:
        """Return the transformer without memory for its weights (on the meta device)."""
        from diffusers import PixArtTransformer2DModel

        with torch.device("meta"), quiet_libraries():
            config = PixArtTransformer2DModel.load_config(self.folder / "transformer")
            return PixArtTransformer2DModel.from_config(config)

    def load_scheduler(self) -> Any:
        from diffusers import DPMSolverMultistepScheduler

        with quiet_libraries():
            return from_pretrained(DPMSolverMultistepScheduler, self.folder / "scheduler")


def open_base(folder: Path) -> Base:
    """Return the pipeline in a folder.

    Raises:
        OSError: it is no whole pipeline; the line says what makes one.
        ValueError: it brings code of its own, or a configuration lacks what training needs.
    """
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise OSError(
            f"{folder} has no {missing[0]}/; expected a whole PixArt-Sigma folder in the diffusers layout: make one "
            "with scripts/pixart_scripts/common/build_combined_base.py, or name it in COMBINED_BASE"
        )
    check_base(folder)
    transformer, vae = (read_json(folder / part / "config.json") for part in ("transformer", "vae"))
    blocks, side, patch = vae.get("block_out_channels"), transformer.get("sample_size"), transformer.get("patch_size")
    if not (isinstance(blocks, list) and blocks and isinstance(side, int) and isinstance(patch, int)):
        raise ValueError(
            f"{folder}: the configurations of transformer and vae lack sample_size, patch_size or block_out_channels: "
            "download them again"
        )
    return Base(folder, side, patch, 2 ** (len(blocks) - 1))


def check_base(folder: Path) -> None:
    """Raise ValueError or OSError where a pipeline's folder brings code or leads outside; see `files.model_folders`."""
    check_pipeline(folder)
    for part in PARTS:
        check_folder(folder / part, folder)


def find_lora(base_dir: Path, named: Path | None) -> Path:
    """Return the LoRA that was named, or that training leaves in a data set's folder. Raises OSError for neither."""
    place = named or base_dir / pixart.FAMILY.lora_folder
    if not (is_lora(place) if named is None else holds_lora(place)):
        raise OSError(f"{place} holds no LoRA; train one first, or name it with --lora")
    return place


def combined_base(weights: str) -> Path:
    """Return where the combined base lies, whether it is there or not: COMBINED_BASE, or its usual place."""
    root = Path("local_repo/tiny") if weights == "tiny" else Path("local_repo")
    return Path(os.environ.get("COMBINED_BASE") or root / "pixart_base")


def base_options(options: pixart.Options, weights: str) -> pixart.Options:
    """Return PixArt's options with the combined base as the model, where it is there and no other was named."""
    folder = combined_base(weights)
    if options.model or weights != "pretrained" or not folder.is_dir():
        return options
    return replace(options, model=str(folder))
