"""Whether a whole PixArt-Sigma folder can be loaded, and its parts belong together, without memory for all of it.

The libraries fill a tensor that a file lacks with noise, and say so in a warning at most. So the names and shapes in
the files are held against networks that have no memory (on the meta device); then all but T5 is really loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from files.opening import from_pretrained, tensor_shapes
from files.paths import resolve_inside
from files.reading import is_regular, read_regular
from models.pipelines.generator import quiet_libraries

# The file that the libraries load of each network; with `.index.json` behind it where it is cut into shards.
WEIGHTS = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".onnx_data")
INDEX_SUFFIX = ".index.json"
# Attention as VAEs of 2022 named it; diffusers renames it while loading.
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
Shapes = dict[str, tuple[int, ...]]


def verify(folder: Path) -> str:
    """Return one line on what was verified of a whole folder: every network's weights, and that the parts fit.

    Raises:
        OSError: a file is missing or damaged.
        ValueError: weights do not fit their configuration, or the parts each other.
    """
    _check_classes(folder)
    counts, configs = {}, {}
    for part, network in _outlines(folder):
        _check_shapes(folder / part, network, read_shapes(folder, part))
        counts[part] = sum(parameter.numel() for parameter in network.parameters())
        configs[part] = network.config
    _check_fit(folder, configs["transformer"], configs["vae"], configs["text_encoder"])
    pipeline = _load_without_t5(folder)
    largest, known = max(pipeline.tokenizer.get_vocab().values()), configs["text_encoder"].vocab_size
    if largest >= known:
        raise ValueError(
            f"{folder}: the tokenizer's tokens go up to {largest}, but the text encoder knows {known}: "
            "take both from one source"
        )
    native = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
    sizes = ", ".join(f"{part} {count / 1e6:.1f} M parameters" for part, count in counts.items())
    return f"{native} px; {sizes}: names and shapes as configured; all but T5 loaded"


def _check_classes(folder: Path) -> None:
    transformer, text_encoder = (read_json(folder / part / "config.json") for part in ("transformer", "text_encoder"))
    read_json(folder / "vae" / "config.json")
    # The published transformer still names the class that it was first saved with.
    name = transformer.get("_class_name")
    if name not in ("PixArtTransformer2DModel", "Transformer2DModel") or "caption_channels" not in transformer:
        raise ValueError(f"{folder}/transformer is a {name}; expected PixArt-Sigma's: check PIXART_MODEL")
    if text_encoder.get("model_type") != "t5":
        raise ValueError(f"{folder}/text_encoder is a {text_encoder.get('model_type')}; expected T5: check PIXART_BASE")


def _check_fit(folder: Path, transformer: Any, vae: Any, text_encoder: Any) -> None:
    pairs = (
        ("caption_channels", transformer.caption_channels, "the text encoder's d_model", text_encoder.d_model),
        ("in_channels", transformer.in_channels, "the VAE's latent_channels", vae.latent_channels),
    )
    for name, asked, other, given in pairs:
        if asked != given:
            raise ValueError(
                f"{folder}: the transformer's {name} is {asked}, {other} {given}: PIXART_MODEL and PIXART_BASE do not "
                "belong together"
            )
    side, patch = transformer.sample_size, transformer.patch_size
    if side <= 0 or side % patch:
        raise ValueError(
            f"{folder}: the transformer's sample_size is {side}; expected a multiple of its patch_size {patch}: "
            "download PIXART_MODEL again"
        )


def _outlines(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield each network without memory for its weights, one at a time."""
    from diffusers import AutoencoderKL, PixArtTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    with quiet_libraries():
        for part, kind in (("transformer", PixArtTransformer2DModel), ("vae", AutoencoderKL)):
            with torch.device("meta"):
                network = kind.from_config(kind.load_config(folder / part))
            yield part, network
        with torch.device("meta"):
            encoder = T5EncoderModel(from_pretrained(T5Config, folder / "text_encoder"))
        yield "text_encoder", encoder


def read_shapes(folder: Path, part: str) -> Shapes:
    """Return the shape of each tensor in a network's files, from their headers alone.

    Raises:
        OSError: a file is missing, cut short or no safetensors file.
    """
    shapes: Shapes = {}
    for path in weight_files(folder / part, part):
        try:
            shapes |= tensor_shapes(path)
        except ValueError as error:
            raise OSError(f"{path} is damaged ({error}): download it again") from error
    return shapes


def _check_shapes(folder: Path, network: torch.nn.Module, found: Shapes) -> None:
    """Raise ValueError where a tensor is missing or of another shape; the libraries would fill it with noise."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = dict(found)
    for name in found:
        for old, new in _OLD_ATTENTION.items():
            if name not in wanted and ".attentions." in name and old in name:
                # Then they were convolutions of 1 x 1.
                given[name.replace(old, new)] = found[name][:2]
    # A file may leave out what the network shares with another tensor.
    tied = getattr(network, "_tied_weights_keys", None) or {}
    for name, shape in wanted.items():
        others = {name, *(pair[1 - pair.index(name)] for pair in tied.items() if name in pair)}
        shapes = [given[other] for other in others if other in given]
        if not shapes or any(other != shape for other in shapes):
            there = f"is {list(shapes[0])}" if shapes else "is not"
            raise ValueError(
                f"{folder}: {name} {there} in the file, its config.json needs {list(shape)}: download the folder again"
            )


def _load_without_t5(folder: Path) -> Any:
    from diffusers import PixArtSigmaPipeline

    with quiet_libraries():
        try:
            return from_pretrained(PixArtSigmaPipeline, folder, text_encoder=None)
        except (OSError, ValueError, TypeError) as error:
            raise OSError(
                f"{folder} cannot be loaded ({' '.join(str(error).split())[:200]}): check its parts"
            ) from error


def weight_files(folder: Path, part: str) -> list[Path]:
    """Return the files that hold a network's weights: one, or the shards that an index names.

    Raises:
        OSError: there are no weights in safetensors, or a shard is missing.
        ValueError: the index is not JSON, or names a file outside of the folder.
    """
    single = folder / WEIGHTS[part]
    index = folder / (WEIGHTS[part] + INDEX_SUFFIX)
    if single.is_file():
        return [single]
    if not index.is_file():
        others = sorted(path.name for path in folder.glob("*") if path.name.endswith(WEIGHT_SUFFIXES))
        found = f"found {others[0]}" if others else "found no weights"
        raise OSError(
            f"{folder} has no {WEIGHTS[part]}, {found}: download the safetensors, or load the {part} once and write it "
            "with save_pretrained"
        )
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise ValueError(f"{index} names no shards: download it again")
    shards = sorted(set(named.values()))
    missing = [name for name in shards if not is_regular(resolve_inside(folder, name))]
    if missing or not shards:
        raise OSError(f"{index} names {missing[0] if missing else 'no file'}, which is not there: download it again")
    return [folder / name for name in shards]


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object. Raises OSError where there is no such file, ValueError where it holds something else."""
    try:
        content = json.loads(read_regular(path))
    except FileNotFoundError as error:
        raise OSError(f"no file {path}: download the folder again") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a JSON object: download it again")
    return content
