"""VAR and its VQVAE: sizes and names as published, variants read from the state dict."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from models.networks import next_scale
from models.networks.convolutions import ConvolutionShape
from models.networks.var_transformer import (
    VAR,
    read_var_shape,
    var_shape,
)
from models.networks.vqvae import VQVAE, VQVAEShape, read_vqvae_shape, vqvae_shape

EIGHT = (1, 2, 3, 4, 5, 6, 7, 8)
Shapes = dict[str, tuple[int, ...]]


def shapes_of(module: nn.Module) -> Shapes:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


def count(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def var_table(depth: int, width: int, heads: int, scales: int, tokens: int, shared_aln: bool) -> Shapes:
    """Return the published state dict's table, constants included."""
    table: Shapes = {
        "pos_start": (1, 1, width), "pos_1LC": (1, tokens, width), "lvl_1L": (1, tokens),
        "attn_bias_for_masking": (1, 1, tokens, tokens), "word_embed.weight": (width, 32), "word_embed.bias": (width,),
        "class_emb.weight": (1001, width), "lvl_embed.weight": (scales, width),
        "head_nm.ada_lin.1.weight": (2 * width, width), "head_nm.ada_lin.1.bias": (2 * width,),
        "head.weight": (4096, width), "head.bias": (4096,),
    }  # fmt: skip
    block: Shapes = {
        "attn.scale_mul_1H11": (1, heads, 1, 1), "attn.q_bias": (width,), "attn.v_bias": (width,),
        "attn.zero_k_bias": (width,), "attn.mat_qkv.weight": (3 * width, width), "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,), "ffn.fc1.weight": (4 * width, width), "ffn.fc1.bias": (4 * width,),
        "ffn.fc2.weight": (width, 4 * width), "ffn.fc2.bias": (width,),
    }  # fmt: skip
    if shared_aln:
        table |= {"shared_ada_lin.1.weight": (6 * width, width), "shared_ada_lin.1.bias": (6 * width,)}
        block["ada_gss"] = (1, 1, 6, width)
    else:
        block |= {"ada_lin.1.weight": (6 * width, width), "ada_lin.1.bias": (6 * width,)}
    return table | {f"blocks.{i}.{name}": shape for i in range(depth) for name, shape in block.items()}


def normalization(prefix: str, width: int) -> Shapes:
    return {f"{prefix}.weight": (width,), f"{prefix}.bias": (width,)}


def convolution(prefix: str, inputs: int, outputs: int, side: int = 3) -> Shapes:
    return {f"{prefix}.weight": (outputs, inputs, side, side), f"{prefix}.bias": (outputs,)}


def residual(prefix: str, inputs: int, outputs: int) -> Shapes:
    table = normalization(f"{prefix}.norm1", inputs) | convolution(f"{prefix}.conv1", inputs, outputs)
    table |= normalization(f"{prefix}.norm2", outputs) | convolution(f"{prefix}.conv2", outputs, outputs)
    return table | (convolution(f"{prefix}.nin_shortcut", inputs, outputs, 1) if inputs != outputs else {})


def attention(prefix: str, width: int) -> Shapes:
    table = normalization(f"{prefix}.norm", width) | convolution(f"{prefix}.qkv", width, 3 * width, 1)
    return table | convolution(f"{prefix}.proj_out", width, width, 1)


def vqvae_table() -> Shapes:
    """Return the table of vae_ch160v4096z32.pth."""
    table = convolution("encoder.conv_in", 3, 160) | convolution("decoder.conv_in", 32, 640)
    for level, (inputs, outputs) in enumerate([(160, 160), (160, 160), (160, 320), (320, 320), (320, 640)]):
        table |= residual(f"encoder.down.{level}.block.0", inputs, outputs)
        table |= residual(f"encoder.down.{level}.block.1", outputs, outputs)
        if level < 4:
            table |= convolution(f"encoder.down.{level}.downsample.conv", outputs, outputs)
    for level, (inputs, outputs) in enumerate([(160, 160), (320, 160), (320, 320), (640, 320), (640, 640)]):
        table |= residual(f"decoder.up.{level}.block.0", inputs, outputs)
        table |= residual(f"decoder.up.{level}.block.1", outputs, outputs)
        table |= residual(f"decoder.up.{level}.block.2", outputs, outputs)
        if level > 0:
            table |= convolution(f"decoder.up.{level}.upsample.conv", outputs, outputs)
    for block in (*(f"encoder.down.4.attn.{i}" for i in range(2)), *(f"decoder.up.4.attn.{i}" for i in range(3))):
        table |= attention(block, 640)
    for half in ("encoder", "decoder"):
        table |= residual(f"{half}.mid.block_1", 640, 640) | attention(f"{half}.mid.attn_1", 640)
        table |= residual(f"{half}.mid.block_2", 640, 640)
    table |= normalization("encoder.norm_out", 640) | convolution("encoder.conv_out", 640, 32)
    table |= normalization("decoder.norm_out", 160) | convolution("decoder.conv_out", 160, 3)
    for i in range(4):
        table |= convolution(f"quantize.quant_resi.qresi_ls.{i}", 32, 32)
    table |= {"quantize.ema_vocab_hit_SV": (10, 4096), "quantize.embedding.weight": (4096, 32)}
    return table | convolution("quant_conv", 32, 32) | convolution("post_quant_conv", 32, 32)


@pytest.mark.parametrize(
    ("depth", "scales", "tokens", "shared_aln", "keys", "parameters"),
    [(16, 10, 680, False, 220, 310_283_520), (36, 10, 2240, True, 446, 2_353_893_904)],
)
def test_names_and_shapes_of_the_published_transformers(
    depth: int, scales: int, tokens: int, shared_aln: bool, keys: int, parameters: int
) -> None:
    with torch.device("meta"):
        model = VAR(var_shape(depth))
    published = var_table(depth, 64 * depth, depth, scales, tokens, shared_aln)
    assert len(published) == keys
    assert published.keys() == model.state_dict().keys() | model.derivable_keys
    assert shapes_of(model) == {key: published[key] for key in shapes_of(model)}
    # What the model has no tensor for follows from the shape.
    assert published.keys() - shapes_of(model).keys() <= model.derivable_keys
    learnt = {key: shape for key, shape in published.items() if key not in model.derivable_keys}
    assert model.parameter_count == count(learnt) == parameters


def test_names_and_shapes_of_the_published_vqvae() -> None:
    with torch.device("meta"):
        model = VQVAE(vqvae_shape(var_shape(16).patch_nums))
    published = vqvae_table()
    assert len(published) == 324
    statistics = published.pop("quantize.ema_vocab_hit_SV")
    assert model.derivable_keys == {"quantize.ema_vocab_hit_SV"}
    assert shapes_of(model) == published
    assert count(published) == sum(parameter.numel() for parameter in model.parameters()) == 108_948_355
    assert statistics == (len(model.quantize.patch_nums), model.shape.vocabulary)
    assert sum(parameter.numel() for parameter in model.encoder.parameters()) == 44_107_872
    assert sum(parameter.numel() for parameter in model.decoder.parameters()) == 64_653_923
    assert model.shape.image_size == 256


@pytest.mark.parametrize("depth", [16, 20, 24, 30, 36])
def test_shape_of_every_published_size_is_read_from_its_state_dict(depth: int) -> None:
    with torch.device("meta"):
        state = VAR(var_shape(depth)).state_dict()
    state["lvl_1L"] = next_scale.token_levels(var_shape(depth).patch_nums)[None]
    assert read_var_shape(state) == var_shape(depth)
    del state["lvl_1L"]
    assert read_var_shape(state) == var_shape(depth)


def test_vqvae_shape_is_read_from_its_state_dict() -> None:
    for shape in (
        VQVAEShape(ConvolutionShape((32, 32, 64), 1, 8, attention=False), 16, (1, 2, 4)),
        VQVAEShape(ConvolutionShape((32, 64), 2, 4), 32, (1, 2, 3), phis=2),
        VQVAEShape(ConvolutionShape((32,), 1, 4, middle_attention=False, image_channels=1), 32, (1, 3), phis=1),
        vqvae_shape(EIGHT),
    ):
        with torch.device("meta"):
            state = VQVAE(shape).state_dict()
        assert read_vqvae_shape(state, shape.patch_nums) == shape
