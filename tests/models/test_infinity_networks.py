"""Infinity and its BSQ-VAE: text, guidance, places and sampling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.networks.bsq_vae import (
    BSQVAE,
    BitwiseScales,
    resize_bilinear,
)
from models.networks.convolutions import ConvolutionShape
from models.networks.infinity_sampling import BitSampling, ScaleStep, sample_scales
from models.networks.infinity_transformer import (
    Block,
    CrossAttention,
    Infinity,
    InfinityShape,
    Text,
    read_infinity_shape,
)
from models.networks.next_scale import Schedule
from models.networks.noise import Noise
from models.networks.operations import PLAIN, Operations, Rotation, rotate, use_operations

# The beginnings of published schedules; height / width = 1, 1.333, 2.5 and 0.333.
SCHEDULES = {
    "square": Schedule(((1, 1), (2, 2), (4, 4), (6, 6), (8, 8)), (64, 64)),
    "high": Schedule(((1, 1), (2, 2), (4, 3), (8, 6)), (72, 54)),
    "higher": Schedule(((1, 1), (2, 2), (5, 2), (10, 4)), (100, 40)),
    "wide": Schedule(((1, 1), (2, 2), (2, 6), (3, 9), (5, 15)), (37, 111)),
}
SHAPES = [
    InfinityShape(2, 64, 2, 256, text_width=48, text_tokens=12, text_heads=2, bits=8),
    InfinityShape(3, 96, 3, 128, text_width=64, text_tokens=10, text_heads=4, bits=6),
    InfinityShape(1, 128, 2, 512, text_width=32, text_tokens=9, text_heads=1, bits=16, levels=7),
    InfinityShape(2, 256, 2, 256, text_width=40, text_tokens=12, text_heads=2, bits=4, cosine=False),
]


def make(shape: InfinityShape) -> Infinity:
    torch.manual_seed(0)
    infinity = Infinity(shape).eval().requires_grad_(False)
    for parameter in infinity.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return infinity


def prompts(shape: InfinityShape, lengths: list[int], places: int = 0) -> Text:
    """Return prompts of these lengths; what stands in padded places is wild."""
    generator = torch.Generator().manual_seed(2)
    places = max(places, *lengths)
    mask_BT = torch.arange(places) < torch.tensor(lengths)[:, None]
    features_BTt = torch.full((len(lengths), places, shape.text_width), 1e4)
    for i, length in enumerate(lengths):
        features_BTt[i, :length] = torch.randn(length, shape.text_width, generator=generator)
    return Text(features_BTt, mask_BT)


def noise_of(infinity: Infinity, schedule: Schedule, seeds: list[int]) -> Noise:
    noise = Noise(len(seeds), [tokens * infinity.shape.bits for tokens in schedule.counts], 2, "cpu")
    noise.choose_requests(seeds)
    noise.fill_by_request(PLAIN.fill_uniform)
    return noise


def sample(
    infinity: Infinity, schedule: Schedule, text: Text, seeds: list[int], sampling: BitSampling
) -> list[ScaleStep]:
    """Return the steps for the rows of `with_unconditional`."""
    choose = sampling.chooser(noise_of(infinity, schedule, seeds))
    mixing = [sampling.mixing(scale, infinity.shape.depth) for scale in range(len(schedule.grids))]
    return list(sample_scales(infinity, schedule, infinity.rotation(schedule), text, choose, mixing))


def logits_of(steps: list[ScaleStep]) -> Tensor:
    return torch.cat([step.logits_RLV for step in steps], dim=1)


def forced(infinity: Infinity, schedule: Schedule, text: Text, steps: list[ScaleStep]) -> Tensor:
    inputs_BLd = BitwiseScales(schedule.grids).teacher_inputs([step.bits_BLd for step in steps])
    inputs_RLd = inputs_BLd.repeat(len(text.mask_RT) // len(inputs_BLd), 1, 1)
    return infinity.forward_teacher_forced(text, inputs_RLd, schedule)


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sampling_with_a_cache_gives_the_logits_of_teacher_forcing(shape: InfinityShape, schedule: Schedule) -> None:
    infinity = make(shape)
    assert read_infinity_shape(infinity.state_dict()) == shape
    text = infinity.with_unconditional(prompts(shape, [3, 7]))
    steps = sample(infinity, schedule, text, [5, 6], BitSampling(3.0, 1.0, 0, 0.9))
    close(logits_of(steps), forced(infinity, schedule, text, steps))
    assert steps[-1].sum_BdHW.shape == (2, shape.bits, *schedule.grids[-1])


def test_finer_scales_are_hidden_from_coarser_ones_when_all_are_known() -> None:
    infinity, schedule = make(SHAPES[0]), SCHEDULES["high"]
    text = prompts(SHAPES[0], [3, 7])
    inputs_BLd = torch.randn(2, schedule.offsets[-1] - 1, 8)
    before = infinity.forward_teacher_forced(text, inputs_BLd, schedule)
    start = schedule.offsets[2]
    inputs_BLd[:, start - 1 :] = torch.randn(2, schedule.offsets[-1] - start, 8)
    after = infinity.forward_teacher_forced(text, inputs_BLd, schedule)
    close(before[:, :start], after[:, :start])
    assert not torch.isclose(before[:, start:], after[:, start:], atol=1e-3).all(dim=2).any()


def test_bits_are_drawn_from_logits_with_temperature_and_guidance() -> None:
    infinity, schedule = make(SHAPES[0]), SCHEDULES["wide"]
    text = infinity.with_unconditional(prompts(SHAPES[0], [3, 7]))
    cfg, tau = (1.0, 2.0, 3.0, 1.0, 4.0), (1.0, 0.5, 0.7, 0.5, 2.0)
    sampling = BitSampling(cfg, tau, 2, 0.0)
    steps = sample(infinity, schedule, text, [5, 6], sampling)
    exponentials = noise_of(infinity, schedule, [5, 6]).exponentials
    for scale, step in enumerate(steps):
        conditional, unconditional = (step.logits_RLV / tau[scale]).chunk(2)
        guided_BLV = cfg[scale] * conditional + (1 - cfg[scale]) * unconditional
        torch.testing.assert_close(sampling.guided(scale, step.logits_RLV), guided_BLV)
        pairs_BLd2 = guided_BLV.unflatten(-1, (-1, 2)).softmax(-1)
        bits_BLd = (pairs_BLd2 / exponentials[scale].view_as(pairs_BLd2)).argmax(-1).bool()
        assert torch.equal(step.bits_BLd, bits_BLd)


def test_guidance_in_the_stream_leaves_the_conditional_rows_to_draw_from() -> None:
    shape, schedule = SHAPES[0], SCHEDULES["square"]
    infinity = make(shape)
    text = infinity.with_unconditional(prompts(shape, [3, 7]))
    inside = sample(infinity, schedule, text, [5, 6], BitSampling(3.0, 0.5, 1, 0.0, insertion=-1))
    for step in inside:
        conditional, _ = step.logits_RLV.chunk(2)
        assert torch.equal(step.bits_BLd, conditional.unflatten(-1, (-1, 2)).argmax(-1).bool())
    none = sample(infinity, schedule, text, [5, 6], BitSampling(1.0, 0.5, 1, 0.0, insertion=-1))
    plain = sample(infinity, schedule, text, [5, 6], BitSampling(1.0, 0.5, 1, 0.0))
    close(logits_of(none), logits_of(plain))
    assert not torch.allclose(logits_of(inside)[:, :1], logits_of(plain)[:, :1], atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_more_padding_changes_no_logits(shape: InfinityShape) -> None:
    infinity, schedule = make(shape), SCHEDULES["high"]
    lengths = [1, 5, 8]
    steps = []
    for places in (8, 9):
        text = infinity.with_unconditional(prompts(shape, lengths, places))
        assert text.features_RTt.shape[1] == places
        steps.append(sample(infinity, schedule, text, [5, 6, 7], BitSampling()))
    close(logits_of(steps[0]), logits_of(steps[1]))


def test_a_prompt_does_not_depend_on_the_others_of_its_batch() -> None:
    shape, schedule = SHAPES[1], SCHEDULES["wide"]
    infinity = make(shape)
    text = prompts(shape, [2, 9, 5])
    together = sample(infinity, schedule, infinity.with_unconditional(text), [5, 6, 7], BitSampling(2.0, 1.0))
    alone = Text(text.features_RTt[2:, :5], text.mask_RT[2:, :5])
    single = sample(infinity, schedule, infinity.with_unconditional(alone), [7], BitSampling(2.0, 1.0))
    for step, other in zip(together, single, strict=True):
        assert torch.equal(step.bits_BLd[2:], other.bits_BLd)
        close(step.logits_RLV[[2, 5]], other.logits_RLV)


def test_unconditional_text_is_as_long_as_the_prompt() -> None:
    shape, schedule = SHAPES[0], SCHEDULES["square"]
    infinity = make(shape)
    text = infinity.with_unconditional(prompts(shape, [3, 7]))
    steps = sample(infinity, schedule, text, [5, 6], BitSampling(3.0, 1.0))
    for i, length in enumerate((3, 7)):
        nothing = Text(infinity.cfg_uncond[None, :length], torch.ones(1, length, dtype=torch.bool))
        own = [ScaleStep(step.logits_RLV, step.bits_BLd[i : i + 1], step.sum_BdHW) for step in steps]
        close(logits_of(steps)[2 + i : 3 + i], forced(infinity, schedule, nothing, own))


@pytest.mark.parametrize("length", [2, 11])
def test_negative_prompt_takes_the_place_of_no_prompt_at_its_own_length(length: int) -> None:
    shape, schedule = SHAPES[0], SCHEDULES["high"]
    infinity = make(shape)
    text, negative = prompts(shape, [3, 7]), prompts(shape, [length, 4])
    rows = infinity.with_unconditional(text, negative)
    steps = sample(infinity, schedule, rows, [5, 6], BitSampling(3.0, 1.0))
    close(logits_of(steps)[:2], forced(infinity, schedule, text, steps))
    close(logits_of(steps)[2:], forced(infinity, schedule, negative, steps))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_pairs_of_channels_turn_by_row_and_column_of_the_span(schedule: Schedule) -> None:
    infinity = make(SHAPES[1])  # 32 channels a head
    rotation = infinity.rotation(schedule)
    assert rotation.cosines_LP.shape == (schedule.offsets[-1], 16)
    frequencies = 10_000.0 ** (-np.arange(0, 16, 2) / 16)
    turns, (span_rows, span_columns) = [], schedule.span
    for height, width in schedule.grids:
        for row in range(height):
            for column in range(width):
                y = np.rint(np.float32(row) * np.float32(span_rows / height))
                x = np.rint(np.float32(column) * np.float32(span_columns / width))
                turns.append(np.exp(1j * np.concatenate((y * frequencies, x * frequencies))))
    x_RHLD = torch.randn(1, 2, schedule.offsets[-1], 32)
    pairs = x_RHLD.numpy()[..., 0::2] + 1j * x_RHLD.numpy()[..., 1::2]
    turned = pairs * np.stack(turns)
    expected = torch.from_numpy(np.stack((turned.real, turned.imag), axis=-1).reshape(1, 2, -1, 32)).float()
    torch.testing.assert_close(rotate(x_RHLD, rotation), expected, atol=2e-5, rtol=0)
    assert isinstance(rotation.between(1, 5), Rotation)
    assert torch.equal(rotation.between(1, 5).sines_LP, rotation.sines_LP[1:5])


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_estimates_are_resized_as_trilinear_volumes_of_depth_one(schedule: Schedule) -> None:
    finest = schedule.grids[-1]
    for grid in schedule.grids:
        for source, target in ((grid, finest), (finest, grid)):
            x_BdHW = torch.randn(2, 4, *source)
            volume = functional.interpolate(x_BdHW[:, :, None], size=(1, *target), mode="trilinear")
            torch.testing.assert_close(resize_bilinear(x_BdHW, target), volume[:, :, 0])


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_encoding_takes_the_signs_of_what_coarser_scales_left(schedule: Schedule) -> None:
    scales = BitwiseScales(schedule.grids)
    f_BdHW = torch.randn(2, 6, *schedule.grids[-1])
    bits = scales.encode(f_BdHW)
    sums = [scales.empty_sum(2, 6, f_BdHW.device), *scales.sums(bits)]
    for scale, (height, width) in enumerate(schedule.grids):
        left_BdHW = functional.interpolate(f_BdHW - sums[scale], size=(height, width), mode="area")
        expected_BLd = (left_BdHW > 0).permute(0, 2, 3, 1).reshape(2, height * width, 6)
        assert torch.equal(bits[scale], expected_BLd)
    assert scales.vectors(0, bits[0]).norm(dim=1).allclose(torch.ones(1))
    assert (f_BdHW - sums[-1]).norm() < f_BdHW.norm()


def counting_operations() -> tuple[Operations, Counter[str]]:
    """Return plain operations that count how often each of them is called."""
    calls: Counter[str] = Counter()

    def counted(name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Operations, *arguments: Any, **named: Any) -> Any:
            calls[name] += 1
            return operation(self, *arguments, **named)

        return call

    operations = {
        name: counted(name, operation)
        for name, operation in vars(Operations).items()
        if callable(operation) and not name.startswith("_")
    }
    return type("Counting", (Operations,), operations)(), calls


def test_other_operations_reach_every_part_of_the_networks() -> None:
    infinity, schedule = make(SHAPES[1]), SCHEDULES["high"]
    vae = BSQVAE(ConvolutionShape((32, 64), 1, 6, attention=False, middle_attention=False))
    operations, calls = counting_operations()
    use_operations(infinity, operations)
    use_operations(vae, operations)
    reached = [part for network in (infinity, vae) for part in network.modules() if hasattr(part, "operations")]
    assert {type(part) for part in reached} >= {Infinity, Block, CrossAttention}
    assert all(part.operations is operations for part in reached)
    text = infinity.with_unconditional(prompts(SHAPES[1], [3]))
    steps = sample(infinity, schedule, text, [5], BitSampling())
    scales, blocks = len(schedule.grids), SHAPES[1].depth
    assert calls["norm"] >= scales
    assert calls["residual_norm"] == 3 * scales * blocks
    assert calls["attend"] == 2 * scales * blocks
    for name in ("split_heads", "linear_gelu"):
        assert calls[name] == scales * blocks
    vae.decode_latents(steps[-1].sum_BdHW)
    # Two in the middle, and two at each of the two levels.
    assert calls["convolve_norm_silu"] == calls["convolve_add"] == 6
    assert calls["norm_silu"] >= 7


def test_only_the_blocks_matrix_products_of_a_cast_transformer_are_in_half_precision() -> None:
    infinity, schedule = make(SHAPES[1]), SCHEDULES["high"]
    text = infinity.with_unconditional(prompts(SHAPES[1], [3, 7]))
    plain = sample(infinity, schedule, text, [5, 6], BitSampling())
    infinity.cast(torch.bfloat16)
    halves = {key for key, value in infinity.state_dict().items() if value.dtype == torch.bfloat16}
    linear = ("sa.mat_qkv", "sa.proj", "ca.mat_q", "ca.mat_kv", "ca.proj", "ffn.fc1", "ffn.fc2")
    assert halves == {
        key for key in infinity.state_dict() if key.startswith("blocks.") and key.split(".", 2)[2].startswith(linear)
    }
    half = forced(infinity, schedule, text, plain)
    assert half.dtype == torch.float32
    assert (half - logits_of(plain)).abs().max() < 0.1 * logits_of(plain).std()
