"""One block of each backbone, and whole small models, cost exactly what their closed forms say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmark.measure.flops import count, count_call
from models import infinity, pixart, sdxl, var
from models.base import ModelFamily, Request, Runtime
from models.infinity_schedules import schedule_for
from models.networks.infinity_transformer import Block as InfinityBlock
from models.networks.infinity_transformer import Context, InfinityShape, Text
from models.networks.infinity_transformer import Infinity as InfinityTransformer
from models.networks.transformer import new_caches
from models.networks.var_transformer import VAR, VARShape
from scripts.measuring import closed_forms, count_flops

ROWS = 2


def zeros(*sizes: int) -> Tensor:
    return torch.zeros(sizes, device="meta")


def half_zeros(*sizes: int) -> Tensor:
    return zeros(*sizes).bfloat16()


def flops_of(work: Any) -> int:
    return count(work, []).flops


def small_network(model: str, name: str) -> Any:
    return count_flops.diffusers_network(model, name, 64, "small")


def test_a_block_of_sdxls_unet_costs_its_closed_form() -> None:
    block = small_network("sdxl", "unet").down_blocks[1].attentions[0].transformer_blocks[0]
    width, tokens, text_tokens, text_width = 64, 100, 77, sdxl.SMALL.unet["cross_attention_dim"]
    found = flops_of(
        lambda: block(half_zeros(ROWS, tokens, width), encoder_hidden_states=half_zeros(ROWS, 77, text_width))
    )
    assert found == ROWS * closed_forms.unet_block(tokens, width, text_tokens, text_width)


def test_a_residual_block_of_sdxls_unet_costs_its_closed_form() -> None:
    first, second = small_network("sdxl", "unet").down_blocks[1].resnets[0], small_network("sdxl", "unet").mid_block
    found = flops_of(lambda: first(half_zeros(ROWS, 32, 8, 6), half_zeros(ROWS, 128)))
    assert found == ROWS * closed_forms.unet_residual(48, 32, 64, 128)
    same_width = flops_of(lambda: second.resnets[0](half_zeros(ROWS, 64, 8, 6), half_zeros(ROWS, 128)))
    assert same_width == ROWS * closed_forms.unet_residual(48, 64, 64, 128)


def test_a_block_of_pixart_costs_its_closed_form() -> None:
    block = small_network("pixart", "transformer").transformer_blocks[0]
    text, step = half_zeros(ROWS, 20, 32), half_zeros(ROWS, 6 * 32)
    found = flops_of(lambda: block(half_zeros(ROWS, 64, 32), encoder_hidden_states=text, timestep=step))
    assert found == ROWS * closed_forms.pixart_block(64, 32, 20, 32)


@pytest.mark.parametrize("cosine", [True, False])
def test_a_block_of_var_costs_its_closed_form_at_each_scale(cosine: bool) -> None:
    network = VAR(VARShape(1, 64, 2, (1, 2, 3), 8, 16, classes=4, attn_l2_norm=cosine)).to("meta")
    condition = network.condition(torch.zeros(ROWS, dtype=torch.int64, device="meta"))
    (cache,) = network.new_cache(ROWS)
    for start, tokens in ((0, 1), (1, 4), (5, 9)):
        x_RLC = zeros(ROWS, tokens, 64)
        found = flops_of(
            lambda x=x_RLC, at=start: network.blocks[0](x, x, condition.blocks[0], condition.head, None, cache, at)
        )
        assert found == ROWS * closed_forms.var_block(tokens, start + tokens, 64)


def test_a_block_of_infinity_costs_its_closed_form_at_each_scale() -> None:
    shape = InfinityShape(1, 64, 2, 128, 32, 24, 1, 8)
    network = InfinityTransformer(shape).to("meta")
    schedule = replace(schedule_for("0.06M"), grids=((1, 1), (2, 2), (4, 4)))
    condition = network.condition(Text(zeros(ROWS, 24, 32), torch.ones(ROWS, 24, dtype=torch.bool, device="meta")))
    (cache,) = new_caches(1, ROWS, 2, 21, 32, zeros(1))
    rotation = network.rotation(schedule)
    block = network.blocks[0]
    assert isinstance(block, InfinityBlock)
    for start, end in ((0, 1), (1, 5), (5, 21)):
        context = Context(rotation.between(start, end), condition.text_mask_R11T, start)
        x_RLC = zeros(ROWS, end - start, 64)
        found = flops_of(
            lambda x=x_RLC, c=context: block(x, x, condition.blocks[0], c, cache, condition.head, torch.float32)
        )
        assert found == ROWS * closed_forms.infinity_block(end - start, end, shape, 24)


def count_image(family: ModelFamily, px: int, tmp_path: Path, **options: Any) -> tuple[int, int]:
    """Return the FLOPs and the bytes of weights of one image of a small model on the CPU, asked as in a run."""
    runtime = Runtime("random", "cpu", "bfloat16", px, tmp_path, tmp_path, random_size="small")
    generator = family.load(family.options(**options), runtime)
    counted = count_call(generator, generator.prepare([Request(0, "a red robot", 1)]))
    return counted.flops, counted.weight_bytes


@pytest.mark.parametrize("model", ["sdxl", "pixart", "var", "infinity"])
def test_an_image_on_the_cpu_costs_the_sum_of_its_parts(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(count_flops, "STEPS", 2)
    if model == "var":
        found, parts = count_image(var.FAMILY, 256, tmp_path), count_flops.compare_var("small")
    elif model == "infinity":
        found = count_image(infinity.FAMILY, 256, tmp_path)
        parts = count_flops.compare_infinity(schedule_for("0.06M"), "small")
    elif model == "sdxl":
        found, parts = count_image(sdxl.FAMILY, 64, tmp_path, steps=2), count_flops.compare_unet(64, "small")
    else:
        found, parts = count_image(pixart.FAMILY, 64, tmp_path, steps=2), count_flops.compare_pixart(64, "small")
    comparison, image = parts
    assert comparison.ratio == 1
    assert found[0] == sum(image.flops.values())
    # Of so small a model, what its first call makes of the weights once is not nothing.
    assert found[1] == pytest.approx(sum(image.weight_bytes.values()), rel=0.05)
