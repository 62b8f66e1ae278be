"""Infinity and its tokenizer against golden tensors of the upstream code, in float32 (golden/README.md)."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.networks.bsq_vae import BSQVAE, BitwiseScales, plain_names, read_bsq_vae_shape
from models.networks.infinity_sampling import BitSampling, ScaleStep, sample_scales
from models.networks.infinity_transformer import Infinity, Text, plain_block_names, read_infinity_shape
from models.networks.next_scale import Schedule, bit_chances
from models.weights import load_strictly

GOLDEN = Path(__file__).parent / "golden"
ABOUT: dict[str, Any] = json.loads((GOLDEN / "infinity_tiny.json").read_text())
# The coordinates of a 64 x 64 grid, also for the smaller images.
SCHEDULE = Schedule(tuple((height, width) for _, height, width in ABOUT["scale_schedule"]), (64, 64))
SCALES = BitwiseScales(SCHEDULE.grids)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    tensors = {
        key: value.float() if value.dtype == torch.float8_e4m3fn else value
        for key, value in load_file(GOLDEN / "infinity_tiny.safetensors").items()
    }
    return tensors | {key: tensors[other].clone() for key, other in ABOUT["ties"].items()}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


@pytest.fixture(scope="module")
def infinity(golden: dict[str, Tensor]) -> Infinity:
    state = plain_block_names(part(golden, "net/"))
    model = Infinity(read_infinity_shape(state)).eval().requires_grad_(False)
    load_strictly(model, state, "golden", model.derivable_keys)
    return model


@pytest.fixture(scope="module")
def vae(golden: dict[str, Tensor]) -> BSQVAE:
    state = part(golden, "vae/")
    model = BSQVAE(read_bsq_vae_shape(state)).eval().requires_grad_(False)
    derivable = ("quantizer.lfq.mask", "quantize.lfq.mask")
    load_strictly(model, plain_names(state, model.state_dict()), "golden", derivable)
    return model


@pytest.fixture(scope="module")
def text(golden: dict[str, Tensor], infinity: Infinity) -> Text:
    packed, ends = golden["in/kv_compact"], golden["in/cu_seqlens_k"].tolist()
    prompts = [packed[a:b] for a, b in pairwise(ends)]
    mask_BT = torch.tensor([[t < len(prompt) for t in range(10)] for prompt in prompts])
    features_BTt = torch.stack([torch.cat((p, torch.full((10 - len(p), p.shape[1]), 1e4))) for p in prompts])
    return infinity.with_unconditional(Text(features_BTt, mask_BT))


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max().item() <= tolerance


def joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat(tensors, dim=1)


def split(tokens_BLd: Tensor) -> list[Tensor]:
    return [tokens_BLd[:, a:b] for a, b in pairwise(SCHEDULE.offsets)]


def run(infinity: Infinity, text: Text, sampling: BitSampling, bits: list[Tensor] | None = None) -> list[ScaleStep]:
    def choose(scale: int, logits_RLV: Tensor) -> Tensor:
        if bits is not None:
            return bits[scale]
        zero, one = sampling.guided(scale, logits_RLV).unflatten(-1, (-1, 2)).unbind(-1)
        return one > zero

    mixing = [sampling.mixing(scale, infinity.shape.depth) for scale in range(len(SCHEDULE.grids))]
    return list(sample_scales(infinity, SCHEDULE, infinity.rotation(SCHEDULE), text, choose, mixing))


def test_shapes_are_read_from_the_golden_checkpoint(infinity: Infinity, vae: BSQVAE) -> None:
    shape = infinity.shape
    assert (shape.depth, shape.width, shape.heads, shape.hidden, shape.text_heads) == (4, 64, 2, 256, 2)
    assert (shape.text_width, shape.text_tokens, shape.bits, shape.levels) == (256, 12, 8, 15)
    assert vae.shape.widths == (32, 64, 64, 64, 64)
    assert not vae.shape.attention
    assert not vae.shape.middle_attention


def test_teacher_forced_logits_are_golden(golden: dict[str, Tensor], infinity: Infinity, text: Text) -> None:
    bits = split(golden["tf/bits"])
    inputs_BLd = SCALES.teacher_inputs(bits)
    assert_close(SCALES.sums(bits)[-1], golden["tf/summed"].reshape(2, 8, 16, 16), 1e-5)
    assert_close(inputs_BLd, golden["tf/x"], 1e-5)
    prompts = Text(text.features_RTt[:2], text.mask_RT[:2])
    assert_close(infinity.forward_teacher_forced(prompts, inputs_BLd, SCHEDULE), golden["tf/logits"], 1e-4)


def test_greedy_sampling_is_golden(golden: dict[str, Tensor], infinity: Infinity, vae: BSQVAE, text: Text) -> None:
    sampling = BitSampling(tuple(ABOUT["cfg_list"]), tuple(ABOUT["tau_list"]), 1, 0.0)
    steps = run(infinity, text, sampling)
    assert torch.equal(joined([step.bits_BLd for step in steps]), golden["ar/bits"].bool())
    for step, expected_RLV in zip(steps, split(golden["ar/logits_raw"]), strict=True):
        # Where there is no guidance, the published code leaves the unconditional rows out.
        rows = 2 if expected_RLV[2:].abs().max() == 0 else 4
        assert_close(step.logits_RLV[:rows], expected_RLV[:rows], 1e-4)
    guided = [sampling.guided(k, step.logits_RLV) for k, step in enumerate(steps)]
    assert_close(joined(guided), golden["ar/logits_mixed"], 2e-4)
    inputs = [SCALES.input_of(k + 1, step.sum_BdHW) for k, step in enumerate(steps[:-1])]
    assert_close(joined(inputs), golden["ar/next_in"], 1e-5)
    assert_close(steps[-1].sum_BdHW, golden["ar/summed"].squeeze(2), 1e-5)
    decoded_BCHW = vae.decode_latents(steps[-1].sum_BdHW)
    assert_close(decoded_BCHW[:1], golden["ar/decoder_out"].view(1, 3, 256, 256), 5e-5)
    # Upstream truncates, and writes blue first.
    image_BHWC = ((decoded_BCHW.clamp(-1, 1) + 1) / 2 * 255).permute(0, 2, 3, 1).flip(-1).to(torch.uint8)
    expected_BHWC = golden["ar/image_u8_bgr"]
    difference = (image_BHWC[: len(expected_BHWC)].int() - expected_BHWC.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.001


def test_guidance_inserted_in_the_stream_is_golden(golden: dict[str, Tensor], infinity: Infinity, text: Text) -> None:
    (insertion,) = ABOUT["insertion_layer_variant"]
    sampling = BitSampling(tuple(ABOUT["cfg_list"]), tuple(ABOUT["tau_list"]), 1, 0.0, insertion)
    steps = run(infinity, text, sampling)
    assert torch.equal(joined([step.bits_BLd for step in steps]), golden["ins/bits"].bool())
    guided = [sampling.guided(k, step.logits_RLV) for k, step in enumerate(steps)]
    assert_close(joined(guided), golden["ins/logits_mixed"], 2e-4)


def test_filtered_probabilities_are_golden(golden: dict[str, Tensor], infinity: Infinity, text: Text) -> None:
    top_k, top_p = ABOUT["sampled"]["top_k"], ABOUT["sampled"]["top_p"]
    sampling = BitSampling(tuple(ABOUT["cfg_list"]), tuple(ABOUT["tau_list"]), top_k, top_p)
    steps = run(infinity, text, sampling, split(golden["sample/bits"]))
    pairs = joined([sampling.guided(k, step.logits_RLV) for k, step in enumerate(steps)]).unflatten(-1, (-1, 2))
    assert_close(bit_chances(*pairs.unbind(-1), top_k, top_p), golden["sample/p1"], 5e-5)


def test_encoder_and_decoder_are_golden(golden: dict[str, Tensor], vae: BSQVAE) -> None:
    f_BdHW = vae.encode_latents(golden["vae_io/image"])
    assert_close(f_BdHW, golden["vae_io/f"].view_as(f_BdHW), 5e-5)
    scales = BitwiseScales(((1, 1), (2, 2), (4, 4)))
    bits = scales.encode(f_BdHW)
    assert torch.equal(torch.cat(bits, dim=1), golden["vae_io/bits"].bool().view(len(f_BdHW), -1, 8))
    assert_close(scales.sums(bits)[-1], golden["vae_io/zq"].view_as(f_BdHW), 1e-5)
    decoded_BCHW = vae.decode_latents(golden["vae_io/z"].view_as(f_BdHW))
    assert_close(decoded_BCHW, golden["vae_io/decoder_out"].view_as(decoded_BCHW), 5e-5)
