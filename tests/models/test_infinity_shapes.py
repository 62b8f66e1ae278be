"""Infinity and its BSQ-VAE: sizes and names as published, variants read from the state dict."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import Tensor

from models.networks.bsq_vae import (
    BSQVAE,
    bsq_vae_shape,
    plain_names,
    read_bsq_vae_shape,
)
from models.networks.convolutions import ConvolutionShape
from models.networks.infinity_transformer import (
    Infinity,
    infinity_2b_shape,
    plain_block_names,
    read_infinity_shape,
)

Shapes = dict[str, tuple[int, ...]]


def shapes_of(state: dict[str, Tensor]) -> Shapes:
    return {key: tuple(value.shape) for key, value in state.items()}


def count(shapes: Shapes) -> int:
    return sum(math.prod(shape) for shape in shapes.values())


def on_meta(shapes: Shapes) -> dict[str, Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def infinity_table() -> Shapes:
    """Return the table of infinity_2b_reg.pth."""
    table: Shapes = {
        "cfg_uncond": (512, 2048), "pos_start": (1, 1, 2048), "text_norm.weight": (2048,),
        "text_proj_for_sos.ca.mat_q": (1, 16, 128), "text_proj_for_sos.ca.v_bias": (2048,),
        "text_proj_for_sos.ca.zero_k_bias": (2048,), "text_proj_for_sos.ca.mat_kv.weight": (4096, 2048),
        "text_proj_for_sos.ca.proj.weight": (2048, 2048), "text_proj_for_sos.ca.proj.bias": (2048,),
        "text_proj_for_ca.0.weight": (2048, 2048), "text_proj_for_ca.0.bias": (2048,),
        "text_proj_for_ca.2.weight": (2048, 2048), "text_proj_for_ca.2.bias": (2048,),
        "lvl_embed.weight": (15, 2048), "word_embed.weight": (2048, 32), "word_embed.bias": (2048,),
        "shared_ada_lin.1.weight": (12288, 2048), "shared_ada_lin.1.bias": (12288,),
        "head_nm.ada_lin.1.weight": (4096, 2048), "head_nm.ada_lin.1.bias": (4096,),
        "head.weight": (64, 2048), "head.bias": (64,),
    }  # fmt: skip
    block: Shapes = {
        "ada_gss": (1, 1, 6, 2048), "sa.scale_mul_1H11": (1, 16, 1, 1), "sa.q_bias": (2048,), "sa.v_bias": (2048,),
        "sa.zero_k_bias": (2048,), "sa.mat_qkv.weight": (6144, 2048), "sa.proj.weight": (2048, 2048),
        "sa.proj.bias": (2048,), "ca.v_bias": (2048,), "ca.zero_k_bias": (2048,), "ca.mat_q.weight": (2048, 2048),
        "ca.mat_q.bias": (2048,), "ca.mat_kv.weight": (4096, 2048), "ca.proj.weight": (2048, 2048),
        "ca.proj.bias": (2048,), "ffn.fc1.weight": (8192, 2048), "ffn.fc1.bias": (8192,),
        "ffn.fc2.weight": (2048, 8192), "ffn.fc2.bias": (2048,), "ca_norm.weight": (2048,), "ca_norm.bias": (2048,),
    }  # fmt: skip
    for chunk in range(8):
        for member in range(4):
            table |= {f"block_chunks.{chunk}.module.{member}.{name}": shape for name, shape in block.items()}
    return table


def convolution(prefix: str, inputs: int, outputs: int, side: int = 3) -> Shapes:
    return {f"{prefix}.conv.weight": (outputs, inputs, side, side), f"{prefix}.conv.bias": (outputs,)}


def normalization(prefix: str, width: int) -> Shapes:
    return {f"{prefix}.norm.weight": (width,), f"{prefix}.norm.bias": (width,)}


def residual(prefix: str, inputs: int, outputs: int) -> Shapes:
    table = normalization(f"{prefix}.norm1", inputs) | convolution(f"{prefix}.conv1", inputs, outputs)
    table |= normalization(f"{prefix}.norm2", outputs) | convolution(f"{prefix}.conv2", outputs, outputs)
    return table | (convolution(f"{prefix}.nin_shortcut", inputs, outputs, 1) if inputs != outputs else {})


def bsq_vae_table() -> Shapes:
    """Return the table of the entry `vae` of infinity_vae_d32reg.pth."""
    table = convolution("encoder.conv_in", 3, 128) | convolution("decoder.conv_in", 32, 512)
    for level, (inputs, outputs) in enumerate([(128, 128), (128, 256), (256, 512), (512, 512), (512, 512)]):
        table |= residual(f"encoder.down.{level}.block.0", inputs, outputs)
        table |= residual(f"encoder.down.{level}.block.1", outputs, outputs)
        if level < 4:
            table |= convolution(f"encoder.down.{level}.downsample.conv", outputs, outputs)
    for level, (inputs, outputs) in enumerate([(256, 128), (512, 256), (512, 512), (512, 512), (512, 512)]):
        table |= residual(f"decoder.up.{level}.block.0", inputs, outputs)
        table |= residual(f"decoder.up.{level}.block.1", outputs, outputs)
        table |= residual(f"decoder.up.{level}.block.2", outputs, outputs)
        if level > 0:
            table |= convolution(f"decoder.up.{level}.upsample.conv", outputs, outputs)
    for half in ("encoder", "decoder"):
        table |= residual(f"{half}.mid.block_1", 512, 512) | residual(f"{half}.mid.block_2", 512, 512)
    table |= normalization("encoder.norm_out", 512) | convolution("encoder.conv_out", 512, 32)
    table |= normalization("decoder.norm_out", 128) | convolution("decoder.conv_out", 128, 3)
    return table | {"quantizer.lfq.mask": (32,), "quantize.lfq.mask": (32,)}


def test_names_and_shapes_of_the_published_transformer() -> None:
    published = infinity_table()
    assert len(published) == 694
    assert 4 * count(published) == 8_818_788_608
    state = plain_block_names(on_meta(published))
    assert len(state) == 694
    with torch.device("meta"):
        model = Infinity(infinity_2b_shape())
    assert read_infinity_shape(state) == model.shape == infinity_2b_shape()
    learnt = {key: shape for key, shape in shapes_of(state).items() if key not in model.derivable_keys}
    assert shapes_of(model.state_dict()) == learnt
    assert model.parameter_count == count(learnt) == 2_204_564_032


def test_blocks_of_chunks_stand_in_order() -> None:
    order = [f"block_chunks.{chunk}.module.{member}.w" for chunk in range(3) for member in range(12)]
    state = {key: torch.tensor(i) for i, key in enumerate(order)}
    plain = plain_block_names(state)
    assert {key: int(value) for key, value in plain.items()} == {f"blocks.{i}.w": i for i in range(36)}
    assert plain_block_names(plain) == plain


def test_names_and_shapes_of_the_published_tokenizer_in_both_spellings() -> None:
    published = bsq_vae_table()
    assert len(published) == 270
    with torch.device("meta"):
        model = BSQVAE(bsq_vae_shape())
    masks = {"quantizer.lfq.mask", "quantize.lfq.mask"}
    learnt = {key: shape for key, shape in published.items() if key not in masks}
    shorter = {re.sub(r"\.(conv|norm)(\.\w+)$", r"\2", key): shape for key, shape in learnt.items()}
    assert shorter["decoder.conv_in.weight"] == learnt["decoder.conv_in.conv.weight"] == (512, 32, 3, 3)
    assert shorter["encoder.down.0.downsample.conv.weight"] == (128, 128, 3, 3)
    for spelling in (learnt, shorter):
        assert read_bsq_vae_shape(on_meta(spelling)) == bsq_vae_shape()
        assert shapes_of(plain_names(on_meta(spelling), model.state_dict())) == shapes_of(model.state_dict())
    assert plain_names(on_meta(published), model.state_dict()).keys() == model.state_dict().keys() | masks
    assert sum(parameter.numel() for parameter in model.parameters()) == count(learnt) == 110_118_051
    assert sum(parameter.numel() for parameter in model.encoder.parameters()) == 45_025_696
    assert sum(parameter.numel() for parameter in model.decoder.parameters()) == 65_092_355
    assert model.shape.downsampling == 16


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("widths", [(32, 64), (32, 32, 64)])
def test_shape_of_the_tokenizer_is_read_in_either_spelling(widths: tuple[int, ...], blocks: int) -> None:
    shape = ConvolutionShape(widths, blocks, 4, attention=False, middle_attention=False)
    state = BSQVAE(shape).state_dict()
    longer = {}
    for key, value in state.items():
        layer, kind = key.rsplit(".", 1)
        longer[f"{layer}.{'norm' if 'norm' in layer.rsplit('.', 1)[-1] else 'conv'}.{kind}"] = value
    assert read_bsq_vae_shape(state) == read_bsq_vae_shape(longer) == shape
    assert plain_names(longer, state).keys() == plain_names(state, state).keys() == state.keys()
