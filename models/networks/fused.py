"""The arithmetic between the matrix products as one Triton kernel each, for CUDA devices.

Between two matrix products plain torch runs up to a dozen elementwise kernels, which cost more than the products
themselves where a picture has few tokens (docs/performance.md has the figures). Every kernel reads its inputs once and
works in float32 whatever the storage; where it cannot serve, the plain operation does.
"""

from __future__ import annotations

import torch
import triton
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from models.networks import kernels
from models.networks.operations import NORM_EPS, KeyValueCache, Norm, Operations, Rotation

# Up to this many tokens, one kernel does what comes before the attention, and the attention.
ONE_KERNEL_TOKENS = 64
# From there on cuDNN's attention is 1.2 to 1.7 times as fast on Hopper as the flash kernel that comes with torch.
CUDNN_FIRST = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class FusedOperations(Operations):
    """One kernel for each operation."""

    def norm(self, x_RLC: Tensor, norm: Norm, dtype: torch.dtype) -> Tensor:
        return self._residual_norm(x_RLC, None, None, norm, dtype)[1]

    def residual_norm(
        self, x_RLC: Tensor, update_RLC: Tensor, gate: Tensor | None, norm: Norm, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        return self._residual_norm(x_RLC, update_RLC, gate, norm, dtype)

    def _residual_norm(
        self, x_RLC: Tensor, update_RLC: Tensor | None, gate: Tensor | None, norm: Norm, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        rows, tokens, width = x_RLC.shape
        x_RLC = x_RLC.contiguous()
        normal_RLC = torch.empty_like(x_RLC, dtype=dtype)
        stream_RLC = x_RLC if update_RLC is None else torch.empty_like(x_RLC)
        update_RLC = None if update_RLC is None else update_RLC.contiguous()
        per_program = 4 if tokens >= 256 else 1
        kernels.residual_norm_kernel[(triton.cdiv(tokens, per_program), rows)](
            x_RLC,
            update_RLC,
            gate,
            norm.weight,
            norm.bias,
            stream_RLC,
            normal_RLC,
            tokens,
            _row_stride(gate),
            _row_stride(norm.weight),
            _row_stride(norm.bias),
            NORM_EPS,
            WIDTH=width,
            BLOCK=triton.next_power_of_2(width),
            TOKENS=per_program,
            HAS_UPDATE=update_RLC is not None,
            HAS_GATE=gate is not None,
            num_warps=4 if width <= 1024 else 8,
        )
        return stream_RLC, normal_RLC

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
        if tokens <= ONE_KERNEL_TOKENS:
            kernels.attend_scale_kernel[(heads, rows)](
                *tensors, *sizes, softmax_scale, **variant,
                TOKENS_BLOCK=max(triton.next_power_of_2(tokens), 16), KEYS_BLOCK=64,
                PRECISION="ieee" if qkv_RLE.dtype == torch.float32 else "tf32", num_warps=4,
            )  # fmt: skip
            return out_RLHD.flatten(2)
        kernels.split_heads_kernel[(tokens, rows)](
            *tensors, *sizes, **variant, HEADS_BLOCK=triton.next_power_of_2(heads), num_warps=4
        )
        return self.attend(out_RLHD.transpose(1, 2), *cache.until(start + tokens), None, softmax_scale)

    def attend(self, q_RHLD: Tensor, k_RHTD: Tensor, v_RHTD: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        if mask is not None or q_RHLD.dtype == torch.float32:
            return super().attend(q_RHLD, k_RHTD, v_RHTD, mask, scale)
        with sdpa_kernel(CUDNN_FIRST, set_priority=True):
            return super().attend(q_RHLD, k_RHTD, v_RHTD, mask, scale)

    def linear_gelu(self, x_RLC: Tensor, linear: nn.Linear) -> Tensor:
        if not x_RLC.is_cuda:  # elsewhere the same function means the exact GELU
            return super().linear_gelu(x_RLC, linear)
        # cuBLAS applies the activation while it writes the product.
        flat = torch._addmm_activation(linear.bias, x_RLC.flatten(0, 1), linear.weight.t(), use_gelu=True)
        return flat.view(*x_RLC.shape[:2], -1)

    def draw_codes(
        self, logits_RLV: Tensor, strength: float, top_k: int, top_p: float, exponentials_BLV: Tensor
    ) -> Tensor:
        batch, tokens, vocabulary = exponentials_BLV.shape
        codes_BL = torch.empty(batch, tokens, dtype=torch.int64, device=logits_RLV.device)
        kernels.draw_codes_kernel[(batch * tokens,)](
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
            num_warps=8 if vocabulary >= 2048 else 4,
        )
        return codes_BL

    def fill_uniform(self, uniform_BLV: Tensor, keys_B2: Tensor) -> None:
        batch, count = len(uniform_BLV), uniform_BLV[0].numel()
        block = 2048
        kernels.uniform_kernel[(triton.cdiv(count, block), batch)](
            uniform_BLV, keys_B2, count, keys_B2.stride(0), BLOCK=block, num_warps=4
        )

    def norm_silu(self, x_BCHW: Tensor, norm: nn.GroupNorm) -> Tensor:
        return _norm_silu(x_BCHW, None, norm)

    def convolve_norm_silu(self, x_BCHW: Tensor, convolution: nn.Conv2d, norm: nn.GroupNorm) -> Tensor:
        # cuDNN adds a bias in a pass of its own; here the normalisation does, which reads everything anyway.
        return _norm_silu(_convolve(x_BCHW, convolution), convolution.bias, norm)

    def convolve_add(self, x_BCHW: Tensor, convolution: nn.Conv2d, shortcut_BCHW: Tensor) -> Tensor:
        sum_BCHW = _convolve(x_BCHW, convolution).contiguous(memory_format=torch.channels_last)
        shortcut_BCHW = shortcut_BCHW.contiguous(memory_format=torch.channels_last)
        block, count = 4096, sum_BCHW.numel()
        kernels.add_bias_kernel[(triton.cdiv(count, block),)](
            sum_BCHW, shortcut_BCHW, convolution.bias, count, CHANNELS=sum_BCHW.shape[1], BLOCK=block, num_warps=8
        )
        return sum_BCHW

    def double(self, x_BCHW: Tensor) -> Tensor:
        batch, channels, height, width = x_BCHW.shape
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        out_BCHW = torch.empty(
            (batch, channels, 2 * height, 2 * width),
            dtype=x_BCHW.dtype, device=x_BCHW.device, memory_format=torch.channels_last,
        )  # fmt: skip
        block = channels_block(channels)
        tile = 4096 // block
        kernels.double_kernel[(triton.cdiv(4 * height * width, tile), channels // block, batch)](
            x_BCHW, out_BCHW, 4 * height * width, channels, 2 * width, CHANNELS_BLOCK=block, TILE=tile, num_warps=8
        )
        return out_BCHW


FUSED = FusedOperations()


def _row_stride(tensor: Tensor | None) -> int:
    """Return by how much a modulation's rows are apart: 0 where all rows share one."""
    return tensor.stride(0) if tensor is not None and tensor.ndim == 3 else 0


def _convolve(x_BCHW: Tensor, convolution: nn.Conv2d) -> Tensor:
    """Return the convolution without its bias."""
    return functional.conv2d(
        x_BCHW, convolution.weight, None, convolution.stride, convolution.padding, convolution.dilation
    )


def channels_block(channels: int) -> int:
    """Return the largest power of two that divides the channels, at most 128: no lane then idles."""
    return min(channels & -channels, 128)


def _norm_silu(x_BCHW: Tensor, bias_C: Tensor | None, norm: nn.GroupNorm) -> Tensor:
    """Return SiLU(GroupNorm(x + bias)), channels last."""
    batch, channels, height, width = x_BCHW.shape
    pixels = height * width
    x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    out_BCHW = torch.empty_like(x_BCHW)
    block = channels_block(channels)
    tile, parts = 4096 // block, channels // block
    # Enough programs to fill a GPU, and no more chunks than the second kernel can go through quickly.
    chunk = max(triton.cdiv(pixels * parts * batch, 2048), triton.cdiv(pixels, 512), min(tile, pixels))
    chunks = triton.cdiv(pixels, chunk)
    moments_BK2C = torch.empty(batch, chunks, 2, channels, device=x_BCHW.device)
    affine_B2C = torch.empty(batch, 2, channels, device=x_BCHW.device)
    kernels.moments_kernel[(chunks, parts, batch)](
        x_BCHW, moments_BK2C, pixels, channels, chunk, CHANNELS_BLOCK=block, TILE=tile, num_warps=4
    )
    group = channels // norm.num_groups
    kernels.affine_kernel[(norm.num_groups, batch)](
        moments_BK2C, norm.weight, norm.bias, bias_C, affine_B2C, pixels, channels, group, chunks, chunk, norm.eps,
        GROUP_BLOCK=max(triton.next_power_of_2(group), 8), CHUNKS_BLOCK=64, HAS_BIAS=bias_C is not None, num_warps=4,
    )  # fmt: skip
    kernels.affine_silu_kernel[(triton.cdiv(pixels, tile), parts, batch)](
        x_BCHW, affine_B2C, out_BCHW, pixels, channels, CHANNELS_BLOCK=block, TILE=tile, num_warps=8
    )
    return out_BCHW
