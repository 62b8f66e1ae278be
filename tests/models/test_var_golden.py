"""The networks against golden tensors of the upstream code, in float32."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from models.networks.next_scale import guidance_strength, guide, keep_likeliest, token_offsets
from models.networks.var_transformer import VAR, Choice, ScaleStep, read_var_shape, sample_scales
from models.networks.vqvae import VQVAE, read_vqvae_shape
from models.weights import load_strictly

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    about = json.loads((GOLDEN / "var_tiny.json").read_text())
    tensors = {
        key: value if value.dtype == torch.int64 else value.float()
        for key, value in load_file(GOLDEN / "var_tiny.safetensors").items()
    }
    return tensors | {key: tensors[other].clone() for key, other in about["ties"].items()}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


@pytest.fixture(scope="module")
def var(golden: dict[str, Tensor]) -> VAR:
    state = part(golden, "var/")
    model = VAR(read_var_shape(state)).eval().requires_grad_(False)
    load_strictly(model, state, "golden", model.derivable_keys)
    return model


@pytest.fixture(scope="module")
def vqvae(golden: dict[str, Tensor], var: VAR) -> VQVAE:
    state = part(golden, "vae/")
    model = VQVAE(read_vqvae_shape(state, var.shape.patch_nums)).eval().requires_grad_(False)
    load_strictly(model, state, "golden", model.derivable_keys)
    return model


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max().item() <= tolerance


def split(var: VAR, codes_BL: Tensor) -> list[Tensor]:
    offsets = token_offsets(var.shape.patch_nums)
    return [codes_BL[:, a:b] for a, b in pairwise(offsets)]


def joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat(tensors, dim=1)


def guided(steps: list[ScaleStep], cfg: float) -> list[Tensor]:
    return [guide(step.logits_RLV, guidance_strength(cfg, k, len(steps))) for k, step in enumerate(steps)]


def test_shapes_are_read_from_the_golden_checkpoint(var: VAR, vqvae: VQVAE) -> None:
    assert (var.shape.depth, var.shape.width, var.shape.heads, var.shape.patch_nums) == (2, 128, 2, (1, 2, 3, 4))
    assert (var.shape.classes, var.shape.vocabulary, var.shape.codebook_dim) == (10, 64, 8)
    assert vqvae.shape.convolutions.widths == (32, 32, 64, 64, 128)
    assert vqvae.shape.image_size == 64


def test_teacher_forced_logits_are_golden(golden: dict[str, Tensor], var: VAR, vqvae: VQVAE) -> None:
    codes = split(var, golden["tf/codes"])
    inputs_BLc = vqvae.quantize.teacher_inputs(codes)
    assert_close(inputs_BLc, golden["tf/x"], 1e-5)
    assert_close(torch.stack(vqvae.quantize.estimates(codes)), golden["tf/fhat"], 1e-5)
    assert_close(var.forward_teacher_forced(golden["tf/labels"], inputs_BLc), golden["tf/logits"], 1e-4)


def test_greedy_sampling_is_golden(golden: dict[str, Tensor], var: VAR, vqvae: VQVAE) -> None:
    def choose(scale: int, logits_RLV: Tensor) -> Choice:
        return Choice(guide(logits_RLV, guidance_strength(3.0, scale, 4)).argmax(-1))

    steps = list(sample_scales(var, vqvae.quantize, golden["ar/labels"], choose))
    assert torch.equal(joined([step.codes_BL for step in steps]), golden["ar/idx"])
    assert_close(joined([step.logits_RLV for step in steps]), golden["ar/logits_raw"], 1e-4)
    assert_close(joined(guided(steps, 3.0)), golden["ar/logits_mixed"], 2e-4)
    assert_close(torch.stack([step.f_hat_BCHW for step in steps]), golden["ar/fhat"], 1e-5)
    inputs = [vqvae.quantize.input_of(k + 1, step.f_hat_BCHW) for k, step in enumerate(steps[:-1])]
    assert_close(torch.cat(inputs, dim=1), golden["ar/next_in"], 1e-5)
    decoded_BCHW = vqvae.decode_latents(steps[-1].f_hat_BCHW)
    assert_close(decoded_BCHW, golden["ar/decoder_out"], 5e-5)
    assert_close((decoded_BCHW.clamp(-1, 1) + 1) / 2, golden["ar/image"], 5e-5)


def test_filtered_probabilities_are_golden(golden: dict[str, Tensor], var: VAR, vqvae: VQVAE) -> None:
    codes = split(var, golden["sample/idx"])
    steps = list(sample_scales(var, vqvae.quantize, golden["ar/labels"], lambda k, _: Choice(codes[k])))
    assert_close(joined(guided(steps, 1.5)), golden["sample/logits_mixed"], 2e-4)
    kept = [keep_likeliest(guided_BLV, 20, 0.9) for guided_BLV in guided(steps, 1.5)]
    assert_close(joined(kept).softmax(dim=-1), golden["sample/probs"], 5e-5)


def test_encoder_and_decoder_are_golden(golden: dict[str, Tensor], vqvae: VQVAE) -> None:
    f_BCHW = vqvae.encode_latents(golden["vae_io/image"])
    assert_close(f_BCHW, golden["vae_io/f"], 5e-5)
    assert torch.equal(torch.cat(vqvae.encode(golden["vae_io/image"]), dim=1), golden["vae_io/codes"])
    assert_close(vqvae.decode_latents(golden["vae_io/fhat"]), golden["vae_io/decoder_out"], 5e-5)
