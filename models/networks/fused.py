"""The arithmetic between the matrix products as one Triton kernel each, for CUDA devices.

Between two matrix products plain torch runs up to a dozen elementwise kernels, which cost more than the products
themselves where an image has few tokens (docs/performance.md has the figures). Every kernel reads its inputs once and
works in float32 whatever the storage; where it cannot serve, the plain operation does.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
import triton
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.weak import WeakTensorKeyDictionary

from models.networks import kernels
from models.networks.launching import is_compiling, launch
from models.networks.operations import NORM_EPS, KeyValueCache, Norm, Operations, Rotation
from models.networks.vqvae import FoldedQuantizer, MultiScaleQuantizer

# Up to this many rows of a product, reading the weights takes longer than multiplying. A kernel of ours pays only where
# its parts are summed by the next one (docs/performance.md).
SKINNY_ROWS = 128
OUTPUTS_BLOCK, INPUTS_BLOCK = 32, 128
# Passes over images: 32 channels by 256 pixels at a time; plain operations serve what is no multiple of 32.
CHANNELS_BLOCK, TILE = 32, 256
BLOCKS = {"CHANNELS_BLOCK": CHANNELS_BLOCK, "TILE": TILE, "num_warps": 8}
MOST_CHUNKS, ENOUGH_PROGRAMS = 128, 16384  # of pixels for one image; for all
# Up to this many tokens (16 in float32, where shared memory is short), one kernel does all of the attention.
ONE_KERNEL_TOKENS = 64
# From there on cuDNN's attention is 1.2 to 1.7 times as fast on Hopper as the flash kernel that comes with torch.
CUDNN_FIRST = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class FusedOperations(Operations):
    """One kernel for each operation."""

    def __init__(self) -> None:
        # Made once for weights that do not change any more; gone with the module that they are of.
        self._folded: WeakKeyDictionary[nn.Module, Tensor] = WeakKeyDictionary()
        self._decodings: WeakKeyDictionary[nn.Module, FoldedQuantizer] = WeakKeyDictionary()
        # Of images that a kernel has just written, for the normalisation that follows: nothing may write them again.
        self._moments = WeakTensorKeyDictionary()

    def norm(self, x_RLC: Tensor, norm: Norm, dtype: torch.dtype) -> Tensor:
        return _residual_norm(x_RLC, None, None, None, norm, dtype)[1]

    def residual_norm(
        self, x_RLC: Tensor, update_RLC: Tensor, gate: Tensor | None, norm: Norm, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        return _residual_norm(x_RLC, update_RLC[None], None, gate, norm, dtype)

    def linear_gelu(self, x_RLC: Tensor, linear: nn.Linear) -> Tensor:
        if not x_RLC.is_cuda:  # elsewhere the same function means the exact GELU
            return super().linear_gelu(x_RLC, linear)
        # cuBLAS applies the activation while it writes the product.
        flat = torch._addmm_activation(linear.bias, x_RLC.flatten(0, 1), linear.weight.t(), use_gelu=True)
        return flat.view(*x_RLC.shape[:2], -1)

    def linear_residual_norm(
        self, x_RLC: Tensor, input_RLE: Tensor, linear: nn.Linear, gate: Tensor | None, norm: Norm, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        if not is_skinny(input_RLE, linear.weight):
            return super().linear_residual_norm(x_RLC, input_RLE, linear, gate, norm, dtype)
        # The parts of the product are summed where they are read.
        parts_PRLC = _skinny_parts(input_RLE, linear.weight)
        return _residual_norm(x_RLC, parts_PRLC, linear.bias, gate, norm, dtype)

    def self_attend(
        self,
        qkv_RLE: Tensor,
        heads: int,
        scale_H: Tensor | None,
        rotation: Rotation | None,
        softmax_scale: float,
        mask_LL: Tensor | None = None,
        cache: KeyValueCache | None = None,
        start: int = 0,
    ) -> Tensor:
        if cache is None:
            return super().self_attend(qkv_RLE, heads, scale_H, rotation, softmax_scale, mask_LL, cache, start)
        rows, tokens, channels = qkv_RLE.shape
        head_dim = channels // 3 // heads
        # Queries, or the answer: heads side by side. Attention answers in the layout of its queries.
        out_RLHD = qkv_RLE.new_empty(rows, tokens, heads, head_dim)
        keys, values = cache
        assert keys.stride() == values.stride()
        cosines, sines = rotation or (None, None)
        tensors = (qkv_RLE.contiguous(), scale_H, cosines, sines, out_RLHD, keys, values)
        sizes = (tokens, start, keys.stride(0), keys.stride(1))
        variant = {"COSINE": scale_H is not None, "ROTATE": rotation is not None, "HEADS": heads, "DIM": head_dim}
        variant["DIM_BLOCK"] = max(triton.next_power_of_2(head_dim), 16)
        if tokens <= (ONE_KERNEL_TOKENS if qkv_RLE.dtype != torch.float32 else 16):
            launch(kernels.attend_scale_kernel, (heads, rows))(
                *tensors, *sizes, softmax_scale, **variant,
                TOKENS_BLOCK=16 if tokens <= 16 else ONE_KERNEL_TOKENS, KEYS_BLOCK=64,
                PRECISION="ieee" if qkv_RLE.dtype == torch.float32 else "tf32", num_warps=4,
            )  # fmt: skip
            return out_RLHD.flatten(2)
        launch(kernels.split_heads_kernel, (tokens, rows))(
            *tensors, *sizes, **variant, HEADS_BLOCK=triton.next_power_of_2(heads), num_warps=4
        )
        return self.attend(out_RLHD.transpose(1, 2), *cache.until(start + tokens), None, softmax_scale)

    def attend(self, q_RHLD: Tensor, k_RHTD: Tensor, v_RHTD: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        if mask is not None or q_RHLD.dtype == torch.float32:
            return super().attend(q_RHLD, k_RHTD, v_RHTD, mask, scale)
        with sdpa_kernel(CUDNN_FIRST, set_priority=True):
            return super().attend(q_RHLD, k_RHTD, v_RHTD, mask, scale)

    def draw_codes(
        self, logits_RLV: Tensor, strength: float, top_k: int, top_p: float, exponentials_BLV: Tensor
    ) -> Tensor:
        batch, tokens, vocabulary = exponentials_BLV.shape
        codes_BL = torch.empty(batch, tokens, dtype=torch.int64, device=logits_RLV.device)
        if is_compiling():
            codes_BL.zero_()  # what is looked up next must be there
        launch(kernels.draw_codes_kernel, (batch * tokens,))(
            logits_RLV.contiguous(),
            exponentials_BLV,
            codes_BL,
            batch * tokens,
            strength,
            top_k,
            1.0 - top_p,
            VOCABULARY=vocabulary,
            BLOCK=triton.next_power_of_2(vocabulary),
            TOP_K=0 < top_k < vocabulary,
            TOP_P=0 < top_p < 1,
            num_warps=4,
        )
        return codes_BL

    def fill_uniform(self, uniform_BLV: Tensor, keys_B2: Tensor) -> None:
        batch, count = len(uniform_BLV), uniform_BLV[0].numel()
        block = 2048
        launch(kernels.uniform_kernel, (triton.cdiv(count, block), batch))(
            uniform_BLV, keys_B2, count, keys_B2.stride(0), BLOCK=block, num_warps=4
        )

    def decoding_of(self, quantizer: MultiScaleQuantizer) -> FoldedQuantizer:
        if quantizer not in self._decodings:
            self._decodings[quantizer] = FoldedQuantizer(quantizer)
        return self._decodings[quantizer]

    def norm_silu(self, x_BCHW: Tensor, norm: nn.GroupNorm) -> Tensor:
        if x_BCHW.shape[1] % CHANNELS_BLOCK:
            return super().norm_silu(x_BCHW, norm)
        return self._norm_silu(x_BCHW, None, norm)

    def convolve_norm_silu(self, x_BCHW: Tensor, convolution: nn.Conv2d, norm: nn.GroupNorm) -> Tensor:
        if convolution.out_channels % CHANNELS_BLOCK:
            return super().convolve_norm_silu(x_BCHW, convolution, norm)
        # cuDNN adds a bias in a pass of its own; here the normalisation does, which reads everything anyway.
        return self._norm_silu(_convolve(x_BCHW, convolution), convolution.bias, norm)

    def convolve_add(self, x_BCHW: Tensor, convolution: nn.Conv2d, shortcut_BCHW: Tensor) -> Tensor:
        if convolution.out_channels % CHANNELS_BLOCK:
            return super().convolve_add(x_BCHW, convolution, shortcut_BCHW)
        sum_BCHW = _convolve(x_BCHW, convolution).contiguous(memory_format=torch.channels_last)
        shortcut_BCHW = shortcut_BCHW.contiguous(memory_format=torch.channels_last)
        passing = Pass(sum_BCHW)
        launch(kernels.add_kernel, passing.grid)(
            sum_BCHW, shortcut_BCHW, convolution.bias, passing.moments_BK2C, *passing.sizes, **BLOCKS
        )
        self._moments[sum_BCHW] = passing
        return sum_BCHW

    def double_convolve(self, x_BCHW: Tensor, convolution: nn.Conv2d) -> Tensor:
        if convolution.out_channels % CHANNELS_BLOCK:
            return super().double_convolve(x_BCHW, convolution)
        if convolution not in self._folded:
            self._folded[convolution] = fold_doubling(convolution.weight)
        batch, _, height, width = x_BCHW.shape
        phases = functional.conv2d(x_BCHW, self._folded[convolution], padding=1)
        phases = phases.contiguous(memory_format=torch.channels_last)
        out_BCHW = torch.empty(
            (batch, convolution.out_channels, 2 * height, 2 * width),
            dtype=x_BCHW.dtype, device=x_BCHW.device, memory_format=torch.channels_last,
        )  # fmt: skip
        passing = Pass(out_BCHW)
        launch(kernels.interleave_kernel, passing.grid)(
            phases, convolution.bias, out_BCHW, passing.moments_BK2C, *passing.sizes, 2 * width, **BLOCKS
        )
        self._moments[out_BCHW] = passing
        return out_BCHW

    def _norm_silu(self, x_BCHW: Tensor, bias_C: Tensor | None, norm: nn.GroupNorm) -> Tensor:
        """Return SiLU(GroupNorm(x + bias)), channels last."""
        passing: Pass | None = self._moments.get(x_BCHW)  # type: ignore[no-untyped-call]
        if passing is None:
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
            passing = Pass(x_BCHW)
            launch(kernels.moments_kernel, passing.grid)(x_BCHW, passing.moments_BK2C, *passing.sizes, **BLOCKS)
        pixels, channels, chunk = passing.sizes
        batch, chunks = passing.moments_BK2C.shape[:2]
        affine_B2C = torch.empty(batch, 2, channels, device=x_BCHW.device)
        group = channels // norm.num_groups
        launch(kernels.affine_kernel, (norm.num_groups, batch))(
            passing.moments_BK2C, norm.weight, norm.bias, norm.bias if bias_C is None else bias_C, affine_B2C,
            pixels, channels, group, chunks, chunk, int(bias_C is not None), norm.eps,
            GROUP_BLOCK=max(triton.next_power_of_2(group), 32), CHUNKS_BLOCK=MOST_CHUNKS, num_warps=4,
        )  # fmt: skip
        out_BCHW = torch.empty_like(x_BCHW)
        launch(kernels.affine_silu_kernel, (channels // CHANNELS_BLOCK, triton.cdiv(pixels, TILE), batch))(
            x_BCHW, affine_B2C, out_BCHW, pixels, channels, CHANNELS_BLOCK=CHANNELS_BLOCK, TILE=TILE, num_warps=8
        )
        return out_BCHW


class Pass:
    """How a kernel goes over images, channels last, and the moments of all channels that it makes: `moments_BK2C`."""

    def __init__(self, images_BCHW: Tensor) -> None:
        batch, channels, height, width = images_BCHW.shape
        pixels, blocks = height * width, channels // CHANNELS_BLOCK
        # Many programs fill the GPU; more than that only leave more moments to be read.
        most_chunks = min(max(triton.cdiv(ENOUGH_PROGRAMS, batch * blocks), 1), MOST_CHUNKS)
        chunk = max(triton.cdiv(pixels, most_chunks), min(TILE, pixels))
        chunks = triton.cdiv(pixels, chunk)
        self.sizes = (pixels, channels, chunk)
        self.grid = (blocks, chunks, batch)
        self.moments_BK2C = torch.empty(batch, chunks, 2, channels, device=images_BCHW.device)


FUSED = FusedOperations()


def is_skinny(x_RLC: Tensor, weight: Tensor) -> bool:
    """Return whether a product is one of few rows, where reading the weights is all there is to it."""
    outputs, inputs = weight.shape
    return (
        x_RLC.dtype == weight.dtype
        and x_RLC.dtype in (torch.bfloat16, torch.float16)
        and x_RLC.shape[0] * x_RLC.shape[1] <= SKINNY_ROWS
        and outputs % OUTPUTS_BLOCK == 0
        and inputs % INPUTS_BLOCK == 0
    )


def _skinny_parts(x_RLC: Tensor, weight: Tensor) -> Tensor:
    """Return x weight^T as parts that are still to be summed, float32, `(P, R, L, E)`."""
    rows, tokens, inputs = x_RLC.shape
    count, outputs = rows * tokens, len(weight)
    parts = parts_of(outputs, inputs)
    parts_PRLE = x_RLC.new_empty(parts, rows, tokens, outputs, dtype=torch.float32)
    launch(kernels.skinny_linear_kernel, (outputs // OUTPUTS_BLOCK, parts))(
        x_RLC.contiguous(), weight, parts_PRLE, count, outputs, inputs, inputs // parts,
        ROWS_BLOCK=32 if count <= 32 else SKINNY_ROWS, OUTPUTS_BLOCK=OUTPUTS_BLOCK,
        INPUTS_BLOCK=INPUTS_BLOCK if count <= 32 else INPUTS_BLOCK // 2, num_warps=4, num_stages=4,
    )  # fmt: skip
    return parts_PRLE


def parts_of(outputs: int, inputs: int) -> int:
    """Return into how many parts the inputs are split, so that there is a program for each processor of the GPU."""
    possible = [parts for parts in (1, 2, 3, 4, 5, 6, 8) if inputs % (parts * INPUTS_BLOCK) == 0]
    enough = [parts for parts in possible if parts * outputs // OUTPUTS_BLOCK >= 120]
    return min(enough, default=max(possible))


def _residual_norm(
    x_RLC: Tensor,
    parts_PRLC: Tensor | None,
    update_bias: Tensor | None,
    gate: Tensor | None,
    norm: Norm,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return x + gate (sum of parts + bias) and its norm."""
    rows, tokens, width = x_RLC.shape
    x_RLC = x_RLC.contiguous()
    normal_RLC = torch.empty_like(x_RLC, dtype=dtype)
    stream_RLC = x_RLC if parts_PRLC is None else torch.empty_like(x_RLC)
    parts_PRLC = None if parts_PRLC is None else parts_PRLC.contiguous()
    tokens_each = 4 if tokens >= 256 else 1
    launch(kernels.residual_norm_kernel, (triton.cdiv(tokens, tokens_each), rows))(
        x_RLC, parts_PRLC, update_bias, gate, norm.weight, norm.bias, stream_RLC, normal_RLC, tokens, tokens_each,
        0 if parts_PRLC is None else parts_PRLC.stride(0),
        _row_stride(gate), _row_stride(norm.weight), _row_stride(norm.bias), NORM_EPS,
        WIDTH=width, BLOCK=triton.next_power_of_2(width),
        PARTS=0 if parts_PRLC is None else len(parts_PRLC), HAS_BIAS=update_bias is not None,
        HAS_GATE=gate is not None, num_warps=8 if width > 1024 or rows * tokens <= 512 else 4,
    )  # fmt: skip
    return stream_RLC, normal_RLC


def _row_stride(tensor: Tensor | None) -> int:
    """Return by how much a modulation's rows are apart: 0 where all rows share one."""
    return tensor.stride(0) if tensor is not None and tensor.ndim == 3 else 0


def _convolve(x_BCHW: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Return the convolution without its bias."""
    return functional.conv2d(
        x_BCHW, convolution.weight, None, convolution.stride, convolution.padding, convolution.dilation
    )


def fold_doubling(weight_OC33: Tensor) -> Tensor:
    """Return weights `(4 O, C, 2, 2)` that make of an image what a 3x3 convolution makes of it with its pixels doubled.

    A doubled pixel stands under two of three taps in each direction, so that four convolutions of 2x2 taps, one for
    each place in a doubled pixel, do its work with 4/9 of the arithmetic. Channels: phase (a, b), then output.
    """
    taps_a23 = weight_OC33.new_tensor([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], dtype=torch.float32)
    folded = torch.einsum("arp,bsq,ocpq->abocrs", taps_a23, taps_a23, weight_OC33.float())
    return folded.flatten(0, 2).to(weight_OC33.dtype).contiguous(memory_format=torch.channels_last)
