"""Blocks of the convolutional autoencoders: residual and attention blocks, resampling, encoder and decoder.

Attribute names are those of the published state dicts. Widths per level, number of blocks and where attention stands
are a `ConvolutionShape`; level 0 is the full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from models.networks.operations import PLAIN, Operations


@dataclass(frozen=True)
class ConvolutionShape:
    """Sizes of an encoder and its decoder.

    widths: channels of each level. blocks: residual blocks per encoder level; the decoder has one more.
    attention: whether the coarsest level has an attention block after each residual block.
    middle_attention: whether one stands between the two residual blocks at the coarsest resolution.
    """

    widths: tuple[int, ...]
    blocks: int
    latent_channels: int
    attention: bool = True
    middle_attention: bool = True
    image_channels: int = 3

    @property
    def downsampling(self) -> int:
        """Pixels per latent along a side."""
        return int(2 ** (len(self.widths) - 1))


def normalize(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions and a shortcut."""

    operations: Operations = PLAIN

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = normalize(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = normalize(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        operations = self.operations
        h_BCHW = operations.norm_silu(x_BCHW, self.norm1)
        h_BCHW = operations.convolve_norm_silu(h_BCHW, self.conv1, self.norm2)
        return operations.convolve_add(h_BCHW, self.conv2, self.nin_shortcut(x_BCHW))


class AttentionBlock(nn.Module):
    """Self-attention over all pixels, one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = normalize(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        batch, channels, height, width = x_BCHW.shape
        qkv_B3LC = self.qkv(self.norm(x_BCHW)).reshape(batch, 3, channels, height * width).transpose(2, 3)
        q_B1LC, k_B1LC, v_B1LC = qkv_B3LC.chunk(3, dim=1)
        h_B1LC = functional.scaled_dot_product_attention(q_B1LC, k_B1LC, v_B1LC)
        projected: Tensor = self.proj_out(h_B1LC.transpose(2, 3).reshape(batch, channels, height, width))
        return x_BCHW + projected


class Downsample(nn.Module):
    """Halve the resolution; the border of zeros stands right and below only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        halved: Tensor = self.conv(functional.pad(x_BCHW, (0, 1, 0, 1)))
        return halved


class Upsample(nn.Module):
    """Double the resolution by repeating pixels, then smooth."""

    operations: Operations = PLAIN

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.operations.double_convolve(x_BCHW, self.conv)


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where there is any, then a change of resolution."""

    def __init__(self, inputs: int, outputs: int, blocks: int, attention: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResidualBlock(inputs if i == 0 else outputs, outputs) for i in range(blocks))
        self.attn = nn.ModuleList(AttentionBlock(outputs) for _ in range(blocks if attention else 0))
        self.downsample: Downsample | None = None
        self.upsample: Upsample | None = None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x_BCHW = block(x_BCHW)
            if len(self.attn):
                x_BCHW = self.attn[i](x_BCHW)
        if self.downsample is not None:
            x_BCHW = self.downsample(x_BCHW)
        if self.upsample is not None:
            x_BCHW = self.upsample(x_BCHW)
        return x_BCHW


class Middle(nn.Module):
    """Residual, attention where there is any, residual at the coarsest resolution."""

    def __init__(self, channels: int, attention: bool) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels)
        self.attn_1 = AttentionBlock(channels) if attention else nn.Identity()
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW: Tensor = self.block_2(self.attn_1(self.block_1(x_BCHW)))
        return h_BCHW


class Encoder(nn.Module):
    """Images to latents, coarser by 2 per level but the last."""

    operations: Operations = PLAIN

    def __init__(self, shape: ConvolutionShape) -> None:
        super().__init__()
        widths, top = shape.widths, len(shape.widths) - 1
        self.conv_in = nn.Conv2d(shape.image_channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        for i, width in enumerate(widths):
            level = Level(widths[max(i - 1, 0)], width, shape.blocks, shape.attention and i == top)
            if i < top:
                level.downsample = Downsample(width)
            self.down.append(level)
        self.mid = Middle(widths[top], shape.middle_attention)
        self.norm_out = normalize(widths[top])
        self.conv_out = nn.Conv2d(widths[top], shape.latent_channels, 3, padding=1)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        h_BCHW = self.conv_in(images_BCHW)
        for level in self.down:
            h_BCHW = level(h_BCHW)
        latents_BCHW: Tensor = self.conv_out(self.operations.norm_silu(self.mid(h_BCHW), self.norm_out))
        return latents_BCHW


class Decoder(nn.Module):
    """Latents to images; `up` is indexed by level, so that it runs backwards."""

    operations: Operations = PLAIN

    def __init__(self, shape: ConvolutionShape) -> None:
        super().__init__()
        widths, top = shape.widths, len(shape.widths) - 1
        self.conv_in = nn.Conv2d(shape.latent_channels, widths[top], 3, padding=1)
        self.mid = Middle(widths[top], shape.middle_attention)
        self.up = nn.ModuleList()
        for i, width in enumerate(widths):
            level = Level(widths[min(i + 1, top)], width, shape.blocks + 1, shape.attention and i == top)
            if i > 0:
                level.upsample = Upsample(width)
            self.up.append(level)
        self.norm_out = normalize(widths[0])
        self.conv_out = nn.Conv2d(widths[0], shape.image_channels, 3, padding=1)

    def forward(self, latents_BCHW: Tensor) -> Tensor:
        h_BCHW = self.mid(self.conv_in(latents_BCHW))
        for level in reversed(self.up):
            h_BCHW = level(h_BCHW)
        images_BCHW: Tensor = self.conv_out(self.operations.norm_silu(h_BCHW, self.norm_out))
        return images_BCHW


def read_convolution_shape(state: dict[str, Tensor]) -> ConvolutionShape:
    """Return the shape of the autoencoder whose state dict is given.

    Raises KeyError with the first name that is missing.
    """
    levels = 1 + max((int(key.split(".")[2]) for key in state if key.startswith("encoder.down.")), default=-1)
    widths = tuple(int(state[f"encoder.down.{i}.block.0.conv1.weight"].shape[0]) for i in range(max(levels, 1)))
    blocks = sum(1 for key in state if key.startswith("encoder.down.0.block.") and key.endswith(".conv1.weight"))
    return ConvolutionShape(
        widths=widths,
        blocks=blocks,
        latent_channels=int(state["decoder.conv_in.weight"].shape[1]),
        attention=f"encoder.down.{levels - 1}.attn.0.qkv.weight" in state,
        middle_attention="encoder.mid.attn_1.qkv.weight" in state,
        image_channels=int(state["encoder.conv_in.weight"].shape[1]),
    )
