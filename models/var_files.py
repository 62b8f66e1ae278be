"""VAR's two networks from files, in the published layout and the embedded one, or with random weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.base import NetworkSize

if TYPE_CHECKING:
    from models.networks.var_transformer import VAR
    from models.networks.vqvae import VQVAE

PUBLISHED_DEPTHS = (16, 20, 24, 30, 36)
VQVAE_FILE = "vae_ch160v4096z32.pth"
# As messages call the two networks.
TRANSFORMER, TOKENIZER = "a VAR transformer", "a VQVAE"


def load_networks(
    var_file: Path, vqvae_file: Path, device: str, dtype: str, depth: int | None = None
) -> tuple[VAR, VQVAE]:
    """Return the two networks on `device` in `dtype`, every size and variant read from the files.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is another one than expected, not of the `depth` asked for, or of another pair.
    """
    import torch

    from models.networks.var_transformer import VAR, read_var_shape
    from models.networks.vqvae import VQVAE, read_vqvae_shape
    from models.random_weights import build_random
    from models.weights import load_strictly, read_shape, read_state

    var_state = read_state(var_file, "trainer.var_wo_ddp", TRANSFORMER)
    vqvae_state = read_state(vqvae_file, "trainer.vae_local", TOKENIZER)
    var_shape = read_shape(var_file, TRANSFORMER, var_state, read_var_shape)
    if depth is not None and var_shape.depth != depth:
        raise ValueError(
            f"{var_file} holds a VAR of depth {var_shape.depth}, expected {depth}; "
            f"set VAR_DEPTH={var_shape.depth} and name the file var_d{var_shape.depth}{var_file.suffix}"
        )
    vqvae_shape = read_shape(
        vqvae_file, TOKENIZER, vqvae_state, lambda state: read_vqvae_shape(state, var_shape.patch_nums)
    )
    codebook = (vqvae_shape.vocabulary, vqvae_shape.convolutions.latent_channels)
    if codebook != (var_shape.vocabulary, var_shape.codebook_dim):
        raise ValueError(
            f"{vqvae_file.name} has a codebook of {codebook[0]} x {codebook[1]}, but {var_file.name} was trained with "
            f"{var_shape.vocabulary} x {var_shape.codebook_dim}; give the VQVAE that belongs to it"
        )
    # The initialisation is thrown away; built so, the process's random state stays as it was.
    var = build_random(lambda: VAR(var_shape), device, torch.float32)
    vqvae = build_random(lambda: VQVAE(vqvae_shape), device, torch.float32)
    load_strictly(var, var_state, str(var_file), var.derivable_keys)
    load_strictly(vqvae, vqvae_state, str(vqvae_file), vqvae.derivable_keys)
    return var.cast(getattr(torch, dtype)), vqvae.cast(getattr(torch, dtype))


def random_networks(depth: int, device: str, dtype: str, size: NetworkSize = "full") -> tuple[VAR, VQVAE]:
    """Return the published architecture of this depth with random weights.

    size: "small" keeps its variants and kinds of layers, with two blocks and four scales.

    Raises:
        ValueError: there is no VAR of this depth.
    """
    import torch

    from models.networks.convolutions import ConvolutionShape
    from models.networks.var_transformer import VAR, VARShape, var_shape
    from models.networks.vqvae import VQVAE, VQVAEShape, vqvae_shape
    from models.random_weights import build_random

    check_published(depth, "WEIGHTS=random")
    shape = var_shape(depth)
    vqvae_sizes = vqvae_shape(shape.patch_nums)
    if size == "small":
        shape = VARShape(2, 64, 2, (1, 2, 3, 4), 8, 64, shared_aln=shape.shared_aln)
        vqvae_sizes = VQVAEShape(ConvolutionShape((32, 32), 1, 8), 64, shape.patch_nums)
    var = build_random(lambda: VAR(shape), device, torch.float32).cast(getattr(torch, dtype))
    # In float32 first: the quantiser's resizing tables must be exact.
    vqvae = build_random(lambda: VQVAE(vqvae_sizes), device, torch.float32)
    return var, vqvae.cast(getattr(torch, dtype))


def check_published(depth: int, where: str) -> None:
    """Raise ValueError where there is no VAR of this depth. where: WEIGHTS=random, or a hub id."""
    if depth not in PUBLISHED_DEPTHS:
        depths = ", ".join(map(str, PUBLISHED_DEPTHS))
        raise ValueError(
            f"VAR_DEPTH={depth} (var-d{depth} in MODELS) with {where}: expected a published depth, one of {depths}"
        )


def save_embedded(folder: Path, var: VAR, class_names: Sequence[str]) -> None:
    """Write the embedded transformer beside its VQVAE: float16 weights under their published names, and config.json."""
    from models.weights import save_half

    save_half(var, folder / "var.safetensors")
    config = json.dumps({"class_names": list(class_names)}, indent=1)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")
