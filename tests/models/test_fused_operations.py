"""The fused kernels against the plain operations, through Triton's interpreter where there is no GPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.networks.bsq_vae import BSQVAE
from models.networks.convolutions import ConvolutionShape
from models.networks.fused import FUSED, Pass, is_skinny, parts_of
from models.networks.infinity_sampling import BitSampling
from models.networks.infinity_transformer import Infinity, InfinityShape, Text
from models.networks.next_scale import Schedule
from models.networks.noise import noise_keys
from models.networks.operations import PLAIN, KeyValueCache, Norm, Operations, Rotation, use_operations
from models.networks.var_transformer import VAR, Sampling, VARShape
from models.networks.vqvae import VQVAE, VQVAEShape
from models.next_scale_programs import InfinityProgram, VARProgram

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="module")
def fused() -> Operations:
    return FUSED


def randn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE, dtype)


@pytest.fixture(autouse=True)
def _full_float32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


@pytest.mark.parametrize("width", [64, 96])
@pytest.mark.parametrize("tokens", [1, 5, 258])
@pytest.mark.parametrize("gated", [True, False])
def test_residual_norm_is_the_plain_one(fused: Operations, width: int, tokens: int, gated: bool) -> None:
    rows_R6C = randn(2, 6, width)
    norm = Norm(1 + rows_R6C[:, 2:3], rows_R6C[:, 4:5]) if gated else Norm(randn(width), randn(width))
    gate = rows_R6C[:, :1] if gated else None
    x_RLC, update_RLC = randn(2, tokens, width), randn(2, tokens, width, dtype=torch.bfloat16)
    stream, normal = fused.residual_norm(x_RLC, update_RLC, gate, norm, torch.float32)
    plain_stream, plain_normal = PLAIN.residual_norm(x_RLC, update_RLC, gate, norm, torch.float32)
    torch.testing.assert_close(stream, plain_stream)
    torch.testing.assert_close(normal, plain_normal)
    torch.testing.assert_close(fused.norm(x_RLC, norm, torch.float32), PLAIN.norm(x_RLC, norm, torch.float32))


@pytest.mark.parametrize(("outputs", "inputs"), [(64, 128), (96, 512)])
@pytest.mark.parametrize("tokens", [1, 20, 60])
def test_products_of_few_rows_are_the_plain_ones(fused: Operations, outputs: int, inputs: int, tokens: int) -> None:
    x_RLC = randn(2, tokens, inputs, dtype=torch.float16)
    linear = nn.Linear(inputs, outputs).requires_grad_(False).to(DEVICE, torch.float16)
    assert is_skinny(x_RLC, linear.weight)
    norm, stream_RLC = Norm(randn(outputs), randn(outputs)), randn(2, tokens, outputs)
    gate = randn(2, 1, outputs)
    results = [
        operations.linear_residual_norm(stream_RLC, x_RLC, linear, gate, norm, torch.float32)
        for operations in (fused, PLAIN)
    ]
    for mine, plain in zip(*results, strict=True):
        torch.testing.assert_close(mine, plain, atol=1e-2, rtol=1e-2)


def test_inputs_are_split_so_that_every_processor_has_a_part() -> None:
    assert [parts_of(*size) for size in ((1024, 1024), (1024, 4096), (1920, 1920), (1920, 7680), (2048, 8192))] == [
        4, 4, 3, 2, 2,
    ]  # fmt: skip


@pytest.mark.parametrize(("heads", "head_dim"), [(2, 16), (3, 24)])
@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize(("tokens", "start"), [(1, 0), (5, 3), (20, 70), (70, 3)])
def test_heads_attend_and_are_kept_as_plainly(
    fused: Operations, heads: int, head_dim: int, cosine: bool, turned: bool, tokens: int, start: int
) -> None:
    longest = 100
    qkv_RLE = randn(2, tokens, 3 * heads * head_dim)
    scale_H = randn(heads).exp() if cosine else None
    angles_LP = randn(longest, head_dim // 2)
    rotation = Rotation(angles_LP.cos(), angles_LP.sin()).between(start, start + tokens) if turned else None
    results = []
    for operations in (fused, PLAIN):
        room = 0.3 * randn(2, 2, heads, longest, head_dim)
        cache = KeyValueCache(*room)
        answer = operations.self_attend(qkv_RLE, heads, scale_H, rotation, 0.7, cache=cache, start=start)
        results.append((answer, room))
    for mine, plain in zip(*results, strict=True):
        torch.testing.assert_close(mine, plain)


@pytest.mark.parametrize(("top_k", "top_p"), [(0, 0.0), (20, 0.0), (1, 0.0), (0, 0.8), (20, 0.9), (90, 0.5)])
@pytest.mark.parametrize("vocabulary", [64, 100])
def test_draws_are_the_plain_ones(fused: Operations, vocabulary: int, top_k: int, top_p: float) -> None:
    logits_RLV = 3 * randn(4, 30, vocabulary)
    exponentials_BLV = -torch.rand(2, 30, vocabulary, generator=torch.Generator().manual_seed(1)).clamp(min=1e-9).log()
    exponentials_BLV = exponentials_BLV.to(DEVICE)
    arguments = (logits_RLV, 1.5, top_k, top_p, exponentials_BLV)
    assert torch.equal(fused.draw_codes(*arguments), PLAIN.draw_codes(*arguments))


def test_noise_is_the_same_bit_for_bit(fused: Operations) -> None:
    keys_B2 = noise_keys([1, 2], 3, DEVICE)[:, 1]
    mine_BLV, plain_BLV = (torch.empty(2, 7, 400, device=DEVICE) for _ in range(2))
    fused.fill_uniform(mine_BLV, keys_B2)
    PLAIN.fill_uniform(plain_BLV, keys_B2)
    assert torch.equal(mine_BLV, plain_BLV)


@pytest.mark.parametrize(("channels", "height", "width"), [(32, 16, 16), (160, 4, 5), (64, 20, 14), (48, 4, 5)])
def test_convolutions_normalise_and_add_as_plainly(fused: Operations, channels: int, height: int, width: int) -> None:
    x_BCHW = 5 + randn(2, channels, height, width)
    norm, convolution = nn.GroupNorm(16, channels, eps=1e-6), nn.Conv2d(channels, channels, 3, padding=1)
    norm, convolution = norm.to(DEVICE), convolution.to(DEVICE)
    for parameter in (*norm.parameters(), *convolution.parameters()):
        parameter.detach().copy_(randn(*parameter.shape) * 0.2)
    close = {"atol": 2e-5, "rtol": 1e-4}
    with torch.no_grad():
        torch.testing.assert_close(fused.norm_silu(x_BCHW, norm), PLAIN.norm_silu(x_BCHW, norm), **close)
        torch.testing.assert_close(
            fused.convolve_norm_silu(x_BCHW, convolution, norm),
            PLAIN.convolve_norm_silu(x_BCHW, convolution, norm),
            **close,
        )
        mine, plain = (operations.convolve_add(x_BCHW, convolution, 2 * x_BCHW) for operations in (fused, PLAIN))
        torch.testing.assert_close(mine, plain, **close)
        # The kernel that adds also makes the moments that this normalisation needs.
        torch.testing.assert_close(fused.norm_silu(mine, norm), PLAIN.norm_silu(plain, norm), **close)


@pytest.mark.parametrize(("channels", "height", "width"), [(32, 3, 5), (160, 4, 4), (64, 10, 7)])
def test_doubled_pixels_are_convolved_as_plainly(fused: Operations, channels: int, height: int, width: int) -> None:
    x_BCHW = randn(2, channels, height, width)
    convolution = nn.Conv2d(channels, channels, 3, padding=1).requires_grad_(False).to(DEVICE)
    mine, plain = (operations.double_convolve(x_BCHW, convolution) for operations in (fused, PLAIN))
    torch.testing.assert_close(mine, plain, atol=2e-5, rtol=1e-4)
    norm = nn.GroupNorm(32, channels, eps=1e-6).requires_grad_(False).to(DEVICE)
    normed = fused.norm_silu(mine, norm), PLAIN.norm_silu(plain, norm)
    torch.testing.assert_close(*normed, atol=5e-5, rtol=1e-4)


def test_a_common_mean_of_the_convolution_costs_no_digits(fused: Operations) -> None:
    convolution = nn.Conv2d(32, 32, 3, padding=1).requires_grad_(False).to(DEVICE)
    convolution.weight[:, :, 1, 1] += 1.0
    norm = nn.GroupNorm(32, 32, eps=1e-6).requires_grad_(False).to(DEVICE)
    x_BCHW, shortcut_BCHW = 3 + randn(1, 32, 20, 20), randn(1, 32, 20, 20)
    mine = fused.convolve_add(x_BCHW, convolution, shortcut_BCHW)
    exact = PLAIN.norm_silu(mine.double(), nn.GroupNorm(32, 32, eps=1e-6).double().to(DEVICE))
    assert (fused.norm_silu(mine, norm) - exact).abs().max() < 1e-3


def test_few_chunks_of_pixels_are_normalised_as_many(fused: Operations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.networks.fused.ENOUGH_PROGRAMS", 4)
    x_BCHW, norm = 5 + randn(2, 64, 30, 20), nn.GroupNorm(32, 64, eps=1e-6).requires_grad_(False).to(DEVICE)
    assert Pass(x_BCHW).grid == (2, 1, 2)
    torch.testing.assert_close(fused.norm_silu(x_BCHW, norm), PLAIN.norm_silu(x_BCHW, norm), atol=2e-5, rtol=1e-4)


def test_whole_networks_draw_the_plain_codes_and_images(fused: Operations) -> None:
    torch.manual_seed(0)
    shape = VARShape(2, 64, 2, (1, 2, 3, 4), 8, 64, classes=10)
    var = VAR(shape).eval().requires_grad_(False).to(DEVICE)
    vqvae = (
        VQVAE(VQVAEShape(ConvolutionShape((32, 32), 1, 8), 64, shape.patch_nums))
        .eval()
        .requires_grad_(False)
        .to(DEVICE)
    )
    results = []
    for operations in (PLAIN, fused):
        for network in (var, vqvae):
            use_operations(network, operations)
        program = VARProgram(var, vqvae, Sampling(1.5, 20, 0.9), batch=2)
        program.fill([3, 7], [5, 6])
        results.append((torch.cat([step.codes_BL for step in program.steps()], dim=1), program.run()))
    assert torch.equal(results[0][0], results[1][0])
    assert (results[0][1].int() - results[1][1].int()).abs().max() <= 1


def test_infinity_draws_the_plain_bits(fused: Operations) -> None:
    torch.manual_seed(0)
    infinity = Infinity(InfinityShape(2, 64, 2, 128, 32, 12, 1, 8)).eval().requires_grad_(False).to(DEVICE)
    vae_shape = ConvolutionShape((32, 32), 1, 8, attention=False, middle_attention=False)
    vae = BSQVAE(vae_shape).eval().requires_grad_(False).to(DEVICE)
    schedule = Schedule(((1, 1), (2, 2), (3, 2), (4, 3)), (8, 6))
    text = Text(randn(2, 12, 32), torch.tensor([[True] * 12, [True] * 5 + [False] * 7], device=DEVICE))
    results = []
    for operations in (PLAIN, fused):
        for network in (infinity, vae):
            use_operations(network, operations)
        rotation = infinity.rotation(schedule)
        program = InfinityProgram(infinity, vae, schedule, rotation, BitSampling(3.0, 1.0, 0, 0.9), 2, 12)
        program.fill(infinity.with_unconditional(text), [5, 6])
        results.append(program.latents())
        assert program.run().shape == (2, 3, 8, 6)
    assert torch.equal(results[0], results[1])
