"""VAR and its VQVAE: the published equations, sampling and the quantiser."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models.networks import next_scale
from models.networks.convolutions import ConvolutionShape, Decoder, Encoder, ResidualBlock
from models.networks.noise import Noise
from models.networks.operations import PLAIN, Operations, use_operations
from models.networks.var_transformer import (
    VAR,
    Block,
    Choice,
    Sampling,
    ScaleStep,
    VARShape,
    read_var_shape,
    sample_scales,
)
from models.networks.vqvae import VQVAE, FoldedQuantizer, VQVAEShape

FOUR = (1, 2, 3, 4)
EIGHT = (1, 2, 3, 4, 5, 6, 7, 8)
TEN = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


def variants() -> list[VARShape]:
    """Return shapes of every combination of scales and variants, in several sizes, none of them published."""
    sizes = {True: [(2, 64, 4), (3, 96, 3), (1, 128, 2)], False: [(2, 64, 1), (1, 192, 3)]}
    return [
        VARShape(depth, width, heads, sides, 8, 32, 10, shared_aln=shared, attn_l2_norm=cosine)
        for sides in (EIGHT, TEN)
        for shared in (False, True)
        for cosine in (True, False)
        for depth, width, heads in sizes[cosine]
    ]


def make_pair(shape: VARShape) -> tuple[VAR, VQVAE]:
    torch.manual_seed(0)
    var = VAR(shape).eval().requires_grad_(False)
    for parameter in var.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    vqvae = VQVAE(VQVAEShape(ConvolutionShape((32, 32), 1, 8), shape.vocabulary, shape.patch_nums))
    return var, vqvae.eval().requires_grad_(False)


def noise_of(shape: VARShape, seeds: list[int], sets: int = 1) -> Noise:
    noise = Noise(len(seeds), [side * side for side in shape.patch_nums], shape.vocabulary, "cpu", sets)
    noise.choose_requests(seeds)
    noise.fill_by_request(PLAIN.fill_uniform)
    return noise


def sample(
    var: VAR, vqvae: VQVAE, labels: list[int], seeds: list[int], sampling: Sampling, operations: Operations = PLAIN
) -> list[ScaleStep]:
    noise = noise_of(var.shape, seeds, 1 + sampling.more_smooth)
    choose = sampling.chooser(len(var.shape.patch_nums), noise, operations)
    return list(sample_scales(var, vqvae.quantize, torch.tensor(labels), choose))


@pytest.mark.parametrize("shape", variants(), ids=str)
def test_sampling_with_a_cache_gives_the_logits_of_teacher_forcing(shape: VARShape) -> None:
    var, vqvae = make_pair(shape)
    assert read_var_shape(var.state_dict()) == shape
    steps = sample(var, vqvae, [3, 7], [5, 6], Sampling(cfg=1.5, top_k=20, top_p=0.9))
    inputs_BLc = vqvae.quantize.teacher_inputs([step.codes_BL for step in steps])
    forced = var.forward_teacher_forced(torch.tensor([3, 7, 10, 10]), inputs_BLc.repeat(2, 1, 1))
    torch.testing.assert_close(torch.cat([step.logits_RLV for step in steps], 1), forced, atol=1e-4, rtol=1e-4)


def logits_by_the_equations(state: dict[str, Tensor], shape: VARShape, label: int, inputs_Lc: Tensor) -> Tensor:
    """Return the logits of one image from the published equations alone, float64, over tensors of the state dict."""
    state = {key: value.double() if value.is_floating_point() else value for key, value in state.items()}
    width, side = shape.width, shape.width // shape.heads

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def normal(x_LC: Tensor) -> Tensor:
        centred_LC = x_LC - x_LC.mean(1, keepdim=True)
        return centred_LC / (centred_LC.square().mean(1, keepdim=True) + 1e-6).sqrt()

    def gelu(x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    level_L = torch.cat([torch.full((p * p,), k) for k, p in enumerate(shape.patch_nums)])
    cond_C = state["class_emb.weight"][label]
    silu_C = cond_C / (1 + torch.exp(-cond_C))
    words_LC = linear("word_embed", inputs_Lc.double())
    x_LC = torch.cat(((cond_C + state["pos_start"][0, 0])[None], words_LC))
    x_LC = x_LC + state["lvl_embed.weight"][level_L] + state["pos_1LC"][0]
    for i in range(shape.depth):
        block = f"blocks.{i}"
        if shape.shared_aln:
            rows_6C = linear("shared_ada_lin.1", silu_C).view(6, width) + state[f"{block}.ada_gss"][0, 0]
        else:
            rows_6C = linear(f"{block}.ada_lin.1", silu_C).view(6, width)
        gamma1, gamma2, scale1, scale2, shift1, shift2 = rows_6C
        h_LC = normal(x_LC) * (1 + scale1) + shift1
        q_LC, k_LC, v_LC = (h_LC @ state[f"{block}.attn.mat_qkv.weight"].T).chunk(3, dim=1)
        q_LC, v_LC = q_LC + state[f"{block}.attn.q_bias"], v_LC + state[f"{block}.attn.v_bias"]
        answers = []
        for head in range(shape.heads):
            q_LD, k_LD, v_LD = (part[:, head * side : (head + 1) * side] for part in (q_LC, k_LC, v_LC))
            if shape.attn_l2_norm:
                factor = state[f"{block}.attn.scale_mul_1H11"][0, head, 0, 0].clamp(max=math.log(100)).exp()
                scores_LL = factor * (q_LD / q_LD.norm(dim=1, keepdim=True)) @ (k_LD / k_LD.norm(dim=1, keepdim=True)).T
            else:
                scores_LL = 0.25 / math.sqrt(side) * q_LD @ k_LD.T
            scores_LL = scores_LL.masked_fill(level_L[None, :] > level_L[:, None], -math.inf)
            answers.append(scores_LL.softmax(dim=1) @ v_LD)
        x_LC = x_LC + gamma1 * linear(f"{block}.attn.proj", torch.cat(answers, dim=1))
        h_LC = normal(x_LC) * (1 + scale2) + shift2
        x_LC = x_LC + gamma2 * linear(f"{block}.ffn.fc2", gelu(linear(f"{block}.ffn.fc1", h_LC)))
    scale, shift = linear("head_nm.ada_lin.1", silu_C).view(2, width)
    return linear("head", normal(x_LC) * (1 + scale) + shift)


@pytest.mark.parametrize("shape", variants(), ids=str)
def test_logits_are_those_of_the_published_equations(shape: VARShape) -> None:
    var, _ = make_pair(shape)
    if shape.attn_l2_norm:
        var.blocks[0].attn.scale_mul_1H11[0, 0] = 9.0  # above the bound of ln 100
    inputs_BLc = torch.randn(2, var.offsets[-1] - 1, shape.codebook_dim)
    logits_BLV = var.forward_teacher_forced(torch.tensor([3, 10]), inputs_BLc)
    for logits_LV, label, inputs_Lc in zip(logits_BLV, (3, 10), inputs_BLc, strict=True):
        expected_LV = logits_by_the_equations(var.state_dict(), shape, label, inputs_Lc)
        torch.testing.assert_close(logits_LV, expected_LV.float(), atol=2e-4, rtol=2e-4)


def test_codes_are_drawn_from_the_guided_and_filtered_logits() -> None:
    var, vqvae = make_pair(variants()[0])
    steps = sample(var, vqvae, [3, 7], [5, 6], Sampling(cfg=2.0, top_k=20, top_p=0.9))
    noise = noise_of(var.shape, [5, 6])
    for scale, step in enumerate(steps):
        conditional, unconditional = step.logits_RLV.chunk(2)
        strength = 2.0 * scale / 7
        guided_BLV = (1 + strength) * conditional - strength * unconditional
        kept_BLV = next_scale.keep_likeliest(guided_BLV, 20, 0.9)
        assert torch.equal(step.codes_BL, next_scale.draw(kept_BLV, noise.exponentials[scale]))


def test_images_of_a_batch_are_those_of_single_requests() -> None:
    var, vqvae = make_pair(variants()[0])
    together = sample(var, vqvae, [3, 7], [5, 6], Sampling(top_k=20, top_p=0.9))
    alone = sample(var, vqvae, [7], [6], Sampling(top_k=20, top_p=0.9))
    for step, other in zip(together, alone, strict=True):
        assert torch.equal(step.codes_BL[1:], other.codes_BL)


def test_smoother_images_take_the_gumbel_weighted_mean_and_draw_first() -> None:
    var, vqvae = make_pair(VARShape(2, 64, 4, FOUR, 8, 32, 10))
    plain = sample(var, vqvae, [3, 7], [5, 6], Sampling(top_k=20))
    smooth = sample(var, vqvae, [3, 7], [5, 6], Sampling(top_k=20, more_smooth=True))
    assert torch.equal(plain[0].codes_BL, smooth[0].codes_BL)
    pictures = [vqvae.decode_latents(steps[-1].f_hat_BCHW) for steps in (plain, smooth)]
    assert not torch.allclose(*pictures, atol=1e-3)
    noise = noise_of(var.shape, [5, 6], sets=2)
    f_hat_BCHW = torch.zeros(2, 8, 4, 4)
    for scale, step in enumerate(smooth):
        ratio = scale / 3
        conditional, unconditional = step.logits_RLV.chunk(2)
        logits_BLV = (1 + 1.5 * ratio) * conditional - 1.5 * ratio * unconditional
        logits_BLV = next_scale.keep_likeliest(logits_BLV, 20, 0.0)
        weights_BLV = (
            (logits_BLV * (1 + ratio) - noise.sets[1][scale].log()) / max(0.27 * (1 - 0.95 * ratio), 0.005)
        ).softmax(-1)
        vectors_BLC = weights_BLV @ vqvae.quantize.embedding.weight
        f_hat_BCHW = f_hat_BCHW + vqvae.quantize.spread(scale, vectors_BLC)
        torch.testing.assert_close(step.f_hat_BCHW, f_hat_BCHW)
        assert torch.equal(step.codes_BL, next_scale.draw(logits_BLV, noise.exponentials[scale]))


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
    var, vqvae = make_pair(VARShape(3, 64, 4, FOUR, 8, 32, 10, shared_aln=True))
    operations, calls = counting_operations()
    use_operations(var, operations)
    use_operations(vqvae, operations)
    reached = [part for network in (var, vqvae) for part in network.modules() if hasattr(part, "operations")]
    assert {type(part) for part in reached} >= {VAR, Block, ResidualBlock, Encoder, Decoder}
    assert all(part.operations is operations for part in reached)
    steps = sample(var, vqvae, [3], [5], Sampling(), operations)
    scales, blocks = 4, 3
    assert calls["norm"] >= scales
    assert calls["residual_norm"] == 2 * scales * blocks
    for name in ("split_heads", "linear_gelu"):
        assert calls[name] == scales * blocks
    assert calls["draw_codes"] == scales
    vqvae.decode_latents(steps[-1].f_hat_BCHW)
    residual_blocks = sum(isinstance(part, ResidualBlock) for part in vqvae.decoder.modules())
    assert calls["convolve_norm_silu"] == calls["convolve_add"] == residual_blocks
    # One before each residual block's first convolution, and one before the last convolution.
    assert calls["norm_silu"] >= residual_blocks + 1


def test_only_the_linear_layers_of_a_cast_transformer_are_in_half_precision() -> None:
    var, vqvae = make_pair(VARShape(2, 64, 4, FOUR, 8, 32, 10))
    plain = sample(var, vqvae, [3], [5], Sampling())
    var.cast(torch.bfloat16)
    assert var.blocks[0].attn.mat_qkv.weight.dtype == var.head.weight.dtype == torch.bfloat16
    assert var.pos_1LC.dtype == var.class_emb.weight.dtype == var.word_embed.weight.dtype == torch.float32
    codes = iter([step.codes_BL for step in plain])
    half = list(sample_scales(var, vqvae.quantize, torch.tensor([3]), lambda _scale, _logits: Choice(next(codes))))
    assert half[-1].logits_RLV.dtype == torch.bfloat16
    assert half[-1].f_hat_BCHW.dtype == torch.float32
    spread = plain[-1].logits_RLV.std()
    assert (half[-1].logits_RLV.float() - plain[-1].logits_RLV).abs().max() < 0.1 * spread


@pytest.mark.parametrize("sides", [FOUR, EIGHT, TEN])
def test_decoding_all_scales_is_adding_them_one_by_one(sides: tuple[int, ...]) -> None:
    _, vqvae = make_pair(VARShape(1, 64, 1, sides, 8, 32))
    f_BCHW = torch.randn(2, 8, sides[-1], sides[-1])
    codes = vqvae.quantize.encode(f_BCHW)
    assert [tuple(codes_BL.shape) for codes_BL in codes] == [(2, side * side) for side in sides]
    estimate_BCHW: Tensor = sum(vqvae.quantize.decode_scale(k, codes_BL) for k, codes_BL in enumerate(codes))
    torch.testing.assert_close(vqvae.quantize.estimates(codes)[-1], estimate_BCHW)


def test_training_quantiser_returns_the_decoded_estimate_and_passes_gradients_straight_through() -> None:
    quantizer = VQVAE(VQVAEShape(ConvolutionShape((32, 32), 1, 8), 32, FOUR)).quantize
    f_BCHW = torch.randn(2, 8, 4, 4, requires_grad=True)
    quantized_BCHW, loss, codes = quantizer(f_BCHW)
    torch.testing.assert_close(quantized_BCHW, quantizer.estimates(codes)[-1])
    quantized_BCHW.sum().backward(retain_graph=True)
    torch.testing.assert_close(f_BCHW.grad, torch.ones_like(f_BCHW))
    loss.backward()
    assert all(parameter.grad is not None for parameter in quantizer.parameters())


@pytest.mark.parametrize("sides", [(1, 2, 3, 4), EIGHT, TEN])
@pytest.mark.parametrize("phis", [1, 3, 4])
def test_folded_quantiser_decodes_as_the_quantiser_does(sides: tuple[int, ...], phis: int) -> None:
    torch.manual_seed(0)
    shape = VQVAEShape(ConvolutionShape((32, 32), 1, 8), 32, sides, phis=phis)
    quantizer = VQVAE(shape).quantize.requires_grad_(False)
    folded = FoldedQuantizer(quantizer)
    plain, mine = quantizer.empty_estimate(2), folded.empty_estimate(2)
    for scale, side in enumerate(sides):
        codes_BL = torch.randint(32, (2, side * side))
        weights_BLV = torch.randn(2, side * side, 32).softmax(-1) if scale % 2 else None
        plain = quantizer.add(plain, scale, codes_BL, weights_BLV)
        mine = folded.add(mine, scale, codes_BL, weights_BLV)
        torch.testing.assert_close(folded.image(mine), plain, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(folded.input_of(scale, mine), quantizer.input_of(scale, plain), atol=1e-5, rtol=1e-5)


def test_casting_leaves_the_embeddings_values_as_they_are() -> None:
    torch.manual_seed(0)
    var = VAR(variants()[0])
    names = ("word_embed.weight", "class_emb.weight", "pos_1LC", "lvl_embed.weight", "pos_start")
    before = {name: var.get_parameter(name).detach().clone() for name in names}
    var.cast(torch.bfloat16)
    for name in names:
        assert torch.equal(var.get_parameter(name), before[name])
