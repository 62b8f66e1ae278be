"""Writes small pipelines as one .safetensors file in the layout that people publish fine-tunes in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from diffusers_folders import build_sdxl, build_stable_diffusion

_RESNET = (
    ("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection"),
)  # fmt: skip
_UNET = (
    ("time_embedding.linear_1", "time_embed.0"), ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"), ("add_embedding.linear_2", "label_emb.0.2"),
    ("conv_in", "input_blocks.0.0"), ("conv_norm_out", "out.0"), ("conv_out", "out.2"),
)  # fmt: skip
_VAE = (
    ("mid_block.resnets.0", "mid.block_1"), ("mid_block.resnets.1", "mid.block_2"), ("conv_norm_out", "norm_out"),
    ("mid_block.attentions.0", "mid.attn_1"), ("conv_shortcut", "nin_shortcut"), ("group_norm", "norm"),
    ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out"),
)  # fmt: skip
_OPEN_CLIP = (
    ("text_model.encoder.layers.", "transformer.resblocks."), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"),
    (".fc1.", ".c_fc."), (".fc2.", ".c_proj."), (".self_attn.", ".attn."),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text_model.final_layer_norm", "ln_final"),
)  # fmt: skip


def build_file_sdxl() -> Any:
    """Return a StableDiffusionXLPipeline of 32 px, whose text encoders differ in size as the real ones do."""
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModelWithProjection

    pipeline = build_sdxl()
    torch.manual_seed(1)
    config = pipeline.text_encoder_2.config
    config.hidden_size, config.num_hidden_layers = 24, 10
    unet = UNet2DConditionModel.from_config(dict(pipeline.unet.config) | {"cross_attention_dim": 40})
    pipeline.register_modules(unet=unet.eval(), text_encoder_2=CLIPTextModelWithProjection(config).eval())
    return pipeline


def build_file_sd1() -> Any:
    """Return a StableDiffusionPipeline of 32 px with as many blocks as the real one has."""
    import torch
    from diffusers import UNet2DConditionModel

    pipeline = build_stable_diffusion()
    torch.manual_seed(1)
    changes = {
        "block_out_channels": (8, 16, 16, 16),
        "layers_per_block": 2,
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    }
    pipeline.register_modules(unet=UNet2DConditionModel.from_config(dict(pipeline.unet.config) | changes).eval())
    return pipeline


def write_file(file: Path, pipeline: Any, without: str = "", **marks: Any) -> Path:
    """Write the weights of an SDXL or SD 1 pipeline as one file. without: a component to leave out.

    marks: further tensors.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Any] = dict(marks)
    tensors |= {f"model.diffusion_model.{key}": value for key, value in _unet(pipeline.unet).items()}
    if without != "vae":
        tensors |= {f"first_stage_model.{key}": value for key, value in _vae(pipeline.vae).items()}
    is_xl = hasattr(pipeline, "text_encoder_2")
    first = "conditioner.embedders.0.transformer." if is_xl else "cond_stage_model.transformer."
    for key, value in pipeline.text_encoder.state_dict().items():
        tensors[f"{first}text_model.{key.removeprefix('text_model.')}"] = value
    if is_xl:
        encoder = _open_clip(pipeline.text_encoder_2)
        tensors |= {f"conditioner.embedders.1.model.{key}": value for key, value in encoder.items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, file)
    return file


def write_layout(folder: Path, pipeline: Any) -> Path:
    """Write the configurations and tokenizers of a pipeline alone."""
    pipeline.save_pretrained(folder)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    return folder


def _renamed(key: str, names: tuple[tuple[str, str], ...]) -> str:
    for new, old in names:
        key = key.replace(new, old)
    return key


def _unet(unet: Any) -> dict[str, Any]:
    state = unet.state_dict()
    each = unet.config.layers_per_block + 1
    with_attention = {key.split(".")[1] for key in state if key.startswith("up_blocks.") and ".attentions." in key}

    def place(key: str) -> str:
        found = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", key)
        if found is None:
            if key.startswith("mid_block.resnets."):
                index, rest = key.removeprefix("mid_block.resnets.").split(".", 1)
                return f"middle_block.{2 * int(index)}.{_renamed(rest, _RESNET)}"
            if key.startswith("mid_block.attentions.0."):
                return key.replace("mid_block.attentions.0.", "middle_block.1.")
            return next(old + key.removeprefix(new) for new, old in _UNET if key.startswith(new))
        way, block, part, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        side, first = ("input_blocks", block * each + 1) if way == "down" else ("output_blocks", block * each)
        if part == "resnets":
            return f"{side}.{first + layer}.0.{_renamed(rest, _RESNET)}"
        if part == "attentions":
            return f"{side}.{first + layer}.1.{rest}"
        if part == "downsamplers":
            return f"{side}.{first + each - 1}.0.op.{rest.removeprefix('conv.')}"
        return f"{side}.{first + each - 1}.{2 if str(block) in with_attention else 1}.{rest}"

    return {place(key): value for key, value in state.items()}


def _vae(vae: Any) -> dict[str, Any]:
    blocks = len(vae.config.block_out_channels)

    def place(key: str) -> str:
        if found := re.fullmatch(r"encoder\.down_blocks\.(\d+)\.(resnets|downsamplers)\.(\d+)\.(.+)", key):
            rest = _renamed(found[4], _VAE)
            kind = f"block.{found[3]}.{rest}" if found[2] == "resnets" else f"downsample.{rest}"
            return f"encoder.down.{found[1]}.{kind}"
        if found := re.fullmatch(r"decoder\.up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)\.(.+)", key):
            rest = _renamed(found[4], _VAE)
            kind = f"block.{found[3]}.{rest}" if found[2] == "resnets" else f"upsample.{rest}"
            return f"decoder.up.{blocks - 1 - int(found[1])}.{kind}"
        return _renamed(key, _VAE)

    def shaped(key: str, value: Any) -> Any:
        is_linear = "attn_1" in key and value.dim() == 2
        return value[:, :, None, None] if is_linear else value

    return {place(key): shaped(place(key), value) for key, value in vae.state_dict().items()}


def _open_clip(encoder: Any) -> dict[str, Any]:
    import torch

    state = encoder.state_dict()
    tensors: dict[str, Any] = {"text_projection": state["text_projection.weight"].T}
    for key, value in state.items():
        if key == "text_projection.weight" or ".k_proj." in key or ".v_proj." in key:
            continue
        if ".q_proj." in key:
            kind = key.rsplit(".", 1)[1]
            stem = _renamed(key.removesuffix(f"q_proj.{kind}"), _OPEN_CLIP)
            whole = torch.cat([state[key.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            tensors[f"{stem}in_proj_{kind}"] = whole
        else:
            tensors[_renamed(key, _OPEN_CLIP)] = value
    return tensors
