"""VAR and the next-scale arithmetic: sizes, self-consistency, sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.networks import next_scale
from models.networks.convolutions import ConvolutionShape
from models.networks.var import VAR, VARShape, read_var_shape, sample_scales, var_shape
from models.networks.vqvae import VQVAE, VQVAEShape, read_vqvae_shape, vqvae_shape

EIGHT = (1, 2, 3, 4, 5, 6, 7, 8)
TEN = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


@pytest.mark.parametrize(
    ("scales", "table"),
    [(4, "0123"), (5, "01223"), (6, "001233"), (7, "0012233"), (8, "00112233"), (9, "001122233"), (10, "0011122333")],
)
def test_phi_tables_are_the_published_ones(scales: int, table: str) -> None:
    assert "".join(str(next_scale.phi_index(k, scales, 4)) for k in range(scales)) == table


@pytest.mark.parametrize("phis", [2, 3, 4, 5, 6])
def test_phi_ticks_agree_with_numpy(phis: int) -> None:
    edge = 1 / 3 / phis if phis == 4 else 1 / 2 / phis
    ticks = np.linspace(edge, 1 - edge, phis)
    for scales in range(2, 15):
        for k in range(scales):
            assert next_scale.phi_index(k, scales, phis) == int(np.argmin(np.abs(ticks - k / (scales - 1))))


@pytest.mark.parametrize(("source", "target"), [(16, 13), (16, 1), (8, 3), (16, 16)])
def test_resizing_is_torchs_area_and_bicubic(source: int, target: int) -> None:
    x_BCHW = torch.randn(2, 3, source, source)
    down = next_scale.resize(x_BCHW, next_scale.resize_matrix(source, target, "area"))
    torch.testing.assert_close(down, functional.interpolate(x_BCHW, size=(target, target), mode="area"))
    back = next_scale.resize(down, next_scale.resize_matrix(target, source, "bicubic"))
    torch.testing.assert_close(back, functional.interpolate(down, size=(source, source), mode="bicubic"))


def test_parameter_counts_are_the_published_ones() -> None:
    with torch.device("meta"):
        assert VAR(var_shape(16)).parameter_count == 310_283_520
        vqvae = VQVAE(vqvae_shape(var_shape(16).patch_nums))
    assert sum(parameter.numel() for parameter in vqvae.parameters()) == 108_948_355


def test_state_dict_of_d16_has_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        model = VAR(var_shape(16))
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    expected: dict[str, tuple[int, ...]] = {
        "pos_start": (1, 1, 1024), "pos_1LC": (1, 680, 1024), "lvl_1L": (1, 680), "word_embed.weight": (1024, 32),
        "word_embed.bias": (1024,), "class_emb.weight": (1001, 1024), "lvl_embed.weight": (10, 1024),
        "head_nm.ada_lin.1.weight": (2048, 1024), "head_nm.ada_lin.1.bias": (2048,),
        "head.weight": (4096, 1024), "head.bias": (4096,),
    }  # fmt: skip
    for i in range(16):
        for name, shape in {
            "attn.scale_mul_1H11": (1, 16, 1, 1), "attn.q_bias": (1024,), "attn.v_bias": (1024,),
            "attn.mat_qkv.weight": (3072, 1024), "attn.proj.weight": (1024, 1024), "attn.proj.bias": (1024,),
            "ffn.fc1.weight": (4096, 1024), "ffn.fc1.bias": (4096,), "ffn.fc2.weight": (1024, 4096),
            "ffn.fc2.bias": (1024,), "ada_lin.1.weight": (6144, 1024), "ada_lin.1.bias": (6144,),
        }.items():  # fmt: skip
            expected[f"blocks.{i}.{name}"] = shape
    assert shapes == expected
    # The published file's 220 tensors are these and the constants.
    assert len(shapes.keys() | model.derivable_keys) == 220


def test_state_dict_of_the_published_vqvae_has_324_tensors() -> None:
    with torch.device("meta"):
        model = VQVAE(vqvae_shape(var_shape(16).patch_nums))
    state = model.state_dict()
    assert len(state.keys() | model.derivable_keys) == 324
    assert tuple(state["decoder.up.3.block.0.nin_shortcut.weight"].shape) == (320, 640, 1, 1)
    assert tuple(state["encoder.down.4.attn.1.qkv.weight"].shape) == (1920, 640, 1, 1)
    assert tuple(state["decoder.up.1.upsample.conv.weight"].shape) == (160, 160, 3, 3)
    assert "encoder.down.4.downsample.conv.weight" not in state


@pytest.mark.parametrize("depth", [16, 20, 24, 30, 36])
def test_shape_of_every_published_size_is_read_from_its_state_dict(depth: int) -> None:
    with torch.device("meta"):
        state = VAR(var_shape(depth)).state_dict()
    state["lvl_1L"] = next_scale.token_levels(var_shape(depth).patch_nums)[None]
    assert read_var_shape(state) == var_shape(depth)
    del state["lvl_1L"]
    assert read_var_shape(state) == var_shape(depth)


def variants() -> list[VARShape]:
    return [
        VARShape(2, 64, heads, sides, 8, 32, 10, shared_aln=shared, attn_l2_norm=cosine)
        for sides in (EIGHT, TEN)
        for shared in (False, True)
        for cosine, heads in ((True, 4), (False, 1))
    ]


def make_pair(shape: VARShape) -> tuple[VAR, VQVAE]:
    torch.manual_seed(0)
    var = VAR(shape).eval().requires_grad_(False)
    for parameter in var.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    vqvae = VQVAE(VQVAEShape(ConvolutionShape((32, 32), 1, 8), shape.vocabulary, shape.patch_nums))
    return var, vqvae.eval().requires_grad_(False)


def noise_of(keys_BS2: torch.Tensor):  # type: ignore[no-untyped-def]
    def choose(scale: int, logits_BLV: torch.Tensor) -> torch.Tensor:
        return next_scale.draw(logits_BLV, next_scale.exponential_noise(keys_BS2[:, scale], *logits_BLV.shape[1:]))

    return choose


@pytest.mark.parametrize("shape", variants(), ids=str)
def test_sampling_with_a_cache_gives_the_logits_of_teacher_forcing(shape: VARShape) -> None:
    var, vqvae = make_pair(shape)
    assert read_var_shape(var.state_dict()) == shape
    labels_B = torch.tensor([3, 7])
    choose = noise_of(next_scale.noise_keys([5, 6], len(shape.patch_nums), "cpu"))
    steps = list(sample_scales(var, vqvae.quantize, labels_B, choose, cfg=1.5, top_k=20, top_p=0.9))
    inputs_BLc = vqvae.quantize.teacher_inputs([step.codes_BL for step in steps])
    forced = var.forward_teacher_forced(torch.tensor([3, 7, 10, 10]), inputs_BLc.repeat(2, 1, 1))
    torch.testing.assert_close(torch.cat([step.logits_2BLV for step in steps], 1), forced, atol=1e-4, rtol=1e-4)


def test_vqvae_shape_is_read_from_its_state_dict() -> None:
    for shape in (
        VQVAEShape(ConvolutionShape((32, 32, 64), 1, 8, attention=False), 16, (1, 2, 4)),
        VQVAEShape(ConvolutionShape((32, 64), 2, 4), 32, (1, 2, 3), phis=2),
    ):
        assert read_vqvae_shape(VQVAE(shape).state_dict(), shape.patch_nums) == shape


def test_training_quantiser_returns_the_decoded_estimate_and_passes_gradients_straight_through() -> None:
    quantizer = VQVAE(VQVAEShape(ConvolutionShape((32, 32), 1, 8), 32, (1, 2, 3, 4))).quantize
    f_BCHW = torch.randn(2, 8, 4, 4, requires_grad=True)
    quantized_BCHW, loss, codes = quantizer(f_BCHW)
    torch.testing.assert_close(quantized_BCHW, quantizer.estimates(codes)[-1])
    quantized_BCHW.sum().backward(retain_graph=True)
    torch.testing.assert_close(f_BCHW.grad, torch.ones_like(f_BCHW))
    loss.backward()
    assert all(parameter.grad is not None for parameter in quantizer.parameters())


def test_noise_is_exponential_and_independent_between_rows() -> None:
    keys_BS2 = next_scale.noise_keys([1, 2], 2, "cpu")
    noise_BN = next_scale.exponential_noise(keys_BS2[:, 0], 400, 500).flatten(1)
    ordered = (-noise_BN).exp().sort(dim=1).values
    uniform = torch.linspace(0, 1, ordered.shape[1])
    assert (ordered - uniform).abs().max() < 1.63 / math.sqrt(ordered.shape[1])  # Kolmogorov-Smirnov, 1 %
    assert noise_BN.min() > 0
    for a, b in (
        (noise_BN[0], noise_BN[1]),
        (noise_BN[0, 1:], noise_BN[0, :-1]),
        (noise_BN[0, 500:], noise_BN[0, :-500]),
    ):
        assert abs(torch.corrcoef(torch.stack((a, b)))[0, 1].item()) < 3 / math.sqrt(len(a))
    assert torch.equal(next_scale.exponential_noise(keys_BS2[1:, 0], 400, 500).flatten(1)[0], noise_BN[1])


def test_draws_follow_the_truncated_distribution() -> None:
    logits_V = torch.linspace(0, 4, 64)[torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    filtered_V = next_scale.keep_likeliest(logits_V[None, None], top_k=40, top_p=0.9)[0, 0]
    kept = filtered_V.isfinite()
    order = logits_V.argsort(descending=True)[:40]
    mass = logits_V[order].softmax(0)
    assert set(order[: int((mass.cumsum(0) < 0.9).sum()) + 1].tolist()) == set(kept.nonzero()[:, 0].tolist())
    draws = 200_000
    keys_BS2 = next_scale.noise_keys([9], 1, "cpu")
    codes = next_scale.draw(filtered_V.expand(1, draws, 64), next_scale.exponential_noise(keys_BS2[:, 0], draws, 64))
    counts = torch.bincount(codes[0], minlength=64).double()
    expected = filtered_V.double().softmax(0) * draws
    assert counts[~kept].sum() == 0
    chi_squared = ((counts - expected)[kept] ** 2 / expected[kept]).sum().item()
    freedom = int(kept.sum()) - 1
    assert chi_squared < freedom + 3.1 * math.sqrt(2 * freedom)


def test_guidance_grows_from_none_to_full() -> None:
    logits_2BLV = torch.randn(4, 3, 5)
    conditional, unconditional = logits_2BLV.chunk(2)
    torch.testing.assert_close(next_scale.guide(logits_2BLV, 1.5, 0, 10), conditional)
    torch.testing.assert_close(
        next_scale.guide(logits_2BLV, 1.5, 9, 10), unconditional + 2.5 * (conditional - unconditional)
    )


def test_filters_keep_ties_and_the_likeliest() -> None:
    logits = torch.tensor([[[1.0, 2.0, 2.0, 0.0]]])
    assert next_scale.keep_likeliest(logits, 1, 0.0).isfinite().tolist() == [[[False, True, True, False]]]
    assert next_scale.keep_likeliest(logits, 0, 1e-6).isfinite().sum() == 1
    assert next_scale.keep_likeliest(logits, 0, 0.0).equal(logits)
