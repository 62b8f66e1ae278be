"""Whole models in one .safetensors file, as people publish fine-tunes: which one it is, told by its header alone.

diffusers takes a file that it does not know for Stable Diffusion 1. Here a file is one of the kinds below, or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from files.opening import tensor_shapes
from files.reading import shown

# What people keep weights in; all but the first are pickles.
SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf")
_UNET = "model.diffusion_model."
_FIRST_CONVOLUTION = _UNET + "input_blocks.0.0.weight"

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class SingleFile:
    """What a file of weights holds.

    what: for messages, "an SDXL model". class_name: the pipeline that it makes. repository: whose configurations fit,
    or "" where the file does not tell them apart. predicts_velocity, zero_terminal: what its marks say of its schedule.
    """

    what: str
    class_name: str
    repository: str
    predicts_velocity: bool = False
    zero_terminal: bool = False


@dataclass(frozen=True)
class _Kind:
    """marks: tensors that it must have all of, with `prefixes` before them. absent: tensors that it must not have."""

    what: str
    class_name: str
    repository: str
    marks: tuple[str, ...]
    absent: tuple[str, ...] = ()


_SDXL_TEXT = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
SDXL = "an SDXL model"
# Names of tensors as diffusers' single_file_utils tells the kinds apart; the first that fits counts.
_FLUX2_MARK = "single_stream_modulation.lin.weight"
_KINDS = (
    _Kind(
        "a Playground 2.5 model",
        "StableDiffusionXLPipeline",
        "playgroundai/playground-v2.5-1024px-aesthetic",
        (_SDXL_TEXT, "edm_mean"),
    ),
    _Kind(
        SDXL, "StableDiffusionXLPipeline", "stabilityai/stable-diffusion-xl-base-1.0", (_SDXL_TEXT, _FIRST_CONVOLUTION)
    ),
    # Which of its versions a file is, the one that predicts noise or velocity, stands nowhere in it.
    _Kind(
        "a Stable Diffusion 2 model",
        "StableDiffusionPipeline",
        "",
        (_FIRST_CONVOLUTION, "cond_stage_model.model.token_embedding.weight"),
    ),
    _Kind(
        "a Stable Diffusion 1 model",
        "StableDiffusionPipeline",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        (
            _FIRST_CONVOLUTION,
            _UNET + "output_blocks.11.0.skip_connection.weight",
            "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
        ),
    ),
    _Kind(
        "a Stable Diffusion 3.5 Large model",
        "StableDiffusion3Pipeline",
        "stabilityai/stable-diffusion-3.5-large",
        ("joint_blocks.37.x_block.mlp.fc1.weight",),
    ),
    _Kind(
        "a Stable Diffusion 3.5 Medium model",
        "StableDiffusion3Pipeline",
        "stabilityai/stable-diffusion-3.5-medium",
        ("joint_blocks.0.context_block.adaLN_modulation.1.bias", "joint_blocks.0.x_block.attn2.qkv.weight"),
    ),
    _Kind(
        "a Stable Diffusion 3 model",
        "StableDiffusion3Pipeline",
        "stabilityai/stable-diffusion-3-medium-diffusers",
        ("joint_blocks.0.context_block.adaLN_modulation.1.bias",),
    ),
    _Kind("a FLUX.2 model", "Flux2Pipeline", "", (_FLUX2_MARK,)),
    _Kind(
        "a Chroma model", "ChromaPipeline", "lodestones/Chroma1-HD", ("distilled_guidance_layer.in_proj.bias",)
    ),
    _Kind(
        "a FLUX.1 [dev] model",
        "FluxPipeline",
        "black-forest-labs/FLUX.1-dev",
        ("double_blocks.0.img_attn.norm.key_norm.scale", "guidance_in.in_layer.bias"),
    ),
    _Kind(
        "a FLUX.1 [schnell] model",
        "FluxPipeline",
        "black-forest-labs/FLUX.1-schnell",
        ("double_blocks.0.img_attn.norm.key_norm.scale",),
    ),
    _Kind(
        "an AuraFlow model",
        "AuraFlowPipeline",
        "fal/AuraFlow-v0.3",
        ("double_layers.0.attn.w2q.weight", "cond_seq_linear.weight", "t_embedder.mlp.0.weight"),
    ),
    _Kind(
        "a Z-Image model", "ZImagePipeline", "Tongyi-MAI/Z-Image-Turbo", ("layers.0.adaLN_modulation.0.weight",)
    ),
    _Kind(
        "a Lumina 2 model", "Lumina2Pipeline", "Alpha-VLLM/Lumina-Image-2.0", ("cap_embedder.0.weight",)
    ),
)  # fmt: skip
# The first layer of each architecture, with how many channels text-to-image models have there.
_FIRST_LAYERS = {_FIRST_CONVOLUTION: 4, "img_in.weight": 64, "x_embedder.proj.weight": 16}
# Others, by the layer and its channels.
_CHANNELS = {
    (_FIRST_CONVOLUTION, 9): "an inpainting model",
    (_FIRST_CONVOLUTION, 8): "a model that changes images",
    ("img_in.weight", 384): "FLUX.1 Fill, which fills in a part of an image",
    ("img_in.weight", 128): "FLUX.1 Depth or Canny, which follows a control image",
}
# How bitsandbytes (8 and 4 bits), GPTQ, Nunchaku and others name what belongs to quantised weights.
_QUANTISED = (
    ".scale_weight", "scaled_fp8", ".weight_scale", ".weight_scale_2", ".absmax", ".quant_map", ".SCB", ".qweight",
    ".qzeros", ".wscales", ".comfy_quant",
)  # fmt: skip


def check_suffix(path: Path) -> None:
    """Raise OSError where a file, by its name, is no .safetensors file."""
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        return
    if suffix in SUFFIXES:
        raise OSError(
            f"{shown(path)} is a {path.suffix} file: convert it to .safetensors, since such files can hold code "
            "and are not opened here"
        )
    raise OSError(
        f"{shown(path)} is a file, but no .safetensors: give one, a folder in the diffusers layout or a hub id"
    )


def recognise_file(path: Path) -> SingleFile:
    """Return what a .safetensors file holds; only its header is read.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no model for text-to-image that is known; the line says what it looks like.
    """
    check_suffix(path)
    shapes = tensor_shapes(path)
    if part := _part(shapes):
        raise ValueError(f"{shown(path)} holds {part}, expected a whole model in its original layout")
    for layer, expected in _FIRST_LAYERS.items():
        # FLUX.2 has another VAE, whose latents have 128 channels.
        shape = next((shapes[name] for name in (layer, _UNET + layer) if name in shapes), ())
        if len(shape) > 1 and shape[1] != expected and not _has(shapes, _FLUX2_MARK):
            what = _CHANNELS.get((layer, shape[1]), f"a model of {shape[1]} input channels")
            raise ValueError(f"{shown(path)} holds {what}: only text-to-image models can be compared")
    for kind in _KINDS:
        if any(all(prefix + mark in shapes for mark in kind.marks) for prefix in ("", _UNET)):
            velocity = "v_pred" in shapes
            return SingleFile(kind.what, kind.class_name, kind.repository, velocity, velocity and "ztsnr" in shapes)
    begins = ", ".join(list(shapes)[:3]) or "no tensors"
    raise ValueError(f"{shown(path)} holds no text-to-image model that is known (it begins with {shown(begins)})")


def _has(shapes: Shapes, name: str) -> bool:
    return name in shapes or _UNET + name in shapes


def _part(shapes: Shapes) -> str:
    """Return what a file holds where it is a part of a model, or weights that are not to be read as they are."""
    if any("lora_" in key or ".lora." in key for key in shapes):
        return "a LoRA"
    if any(key.startswith(("control_model.", "controlnet_")) for key in shapes):
        return "a ControlNet"
    if any(key.endswith(_QUANTISED) or ".quant_state." in key for key in shapes):
        return "quantised weights, which diffusers does not read"
    if "conditioner.embedders.0.model.text_projection" in shapes:
        return "an SDXL refiner"
    if any(key.startswith(("down_blocks.", "transformer_blocks.", "single_transformer_blocks.")) for key in shapes):
        return "one network in diffusers' layout (name the whole pipeline's folder)"
    return ""
