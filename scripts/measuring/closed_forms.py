"""FLOPs of the networks in closed form: what their layers multiply, summed up from the numbers of their configurations.

Written from the architectures, without a network and without a counter, so that a count can be compared with it. A
multiplication and an addition count as two. Biases, norms, activations, softmax and resizing are left out, as torch's
counter leaves them out. A form is for one row (one image, or one half of guidance) unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from models.networks.infinity_transformer import InfinityShape
from models.networks.next_scale import Grid
from models.networks.var_transformer import VARShape


def linear(tokens: int, inputs: int, outputs: int) -> int:
    """A linear layer; also a convolution of `tokens` outputs, whose `inputs` are channels times taps."""
    return 2 * tokens * inputs * outputs


def attention(queries: int, keys: int, width: int) -> int:
    """All heads together: queries times keys, and weights times values."""
    return 2 * linear(queries, keys, width)


def unet_residual(places: int, inputs: int, outputs: int, embedding: int) -> int:
    """Two 3x3 convolutions, the time step's projection, and a 1x1 convolution where the channels change."""
    shortcut = linear(places, inputs, outputs) if inputs != outputs else 0
    return (
        linear(places, 9 * inputs, outputs) + linear(1, embedding, outputs) + linear(places, 9 * outputs, outputs)
    ) + shortcut


def unet_block(tokens: int, width: int, text_tokens: int, text_width: int) -> int:
    """SDXL's transformer block: self-attention, attention to the text, and an MLP whose hidden half has a gate."""
    own = linear(tokens, width, 4 * width) + attention(tokens, tokens, width)
    cross = linear(tokens, width, 2 * width) + linear(text_tokens, text_width, 2 * width)
    return own + cross + attention(tokens, text_tokens, width) + linear(tokens, width, 8 * width + 4 * width)


def unet(configuration: Mapping[str, Any], side: int, text_tokens: int, latent_channels: int = 4) -> int:
    """One call of SDXL's UNet on latents of side x side."""
    widths, layers = configuration["block_out_channels"], configuration["layers_per_block"]
    depths, text_width = configuration["transformer_layers_per_block"], configuration["cross_attention_dim"]
    embedding = 4 * widths[0]
    total = linear(1, widths[0], embedding) + linear(1, embedding, embedding)
    total += linear(1, configuration["projection_class_embeddings_input_dim"], embedding)
    total += linear(1, embedding, embedding)

    def level(places: int, inputs: int, width: int, depth: int) -> int:
        """A residual block, and a transformer of so many blocks between two projections."""
        blocks = depth * unet_block(places, width, text_tokens, text_width) + linear(places, width, 2 * width)
        return unet_residual(places, inputs, width, embedding) + (blocks if depth else 0)

    last = len(widths) - 1
    kinds = zip(configuration["down_block_types"], depths, strict=True)
    down = [depth if "CrossAttn" in kind else 0 for kind, depth in kinds]
    total += linear(side**2, 9 * latent_channels, widths[0])
    skips, inputs = [widths[0]], widths[0]
    for place, width in enumerate(widths):
        places = (side >> place) ** 2
        for _ in range(layers):
            total += level(places, inputs, width, down[place])
            inputs = width
            skips.append(width)
        if place < last:
            total += linear(places // 4, 9 * width, width)
            skips.append(width)
    places = (side >> last) ** 2
    total += level(places, inputs, inputs, depths[last]) + unet_residual(places, inputs, inputs, embedding)
    for place, width in reversed(list(enumerate(widths))):
        places = (side >> place) ** 2
        for _ in range(layers + 1):
            total += level(places, inputs + skips.pop(), width, down[place])
            inputs = width
        if place:
            total += linear(4 * places, 9 * width, width)
    return total + linear(side**2, 9 * widths[0], latent_channels)


def pixart_block(tokens: int, width: int, text_tokens: int, text_width: int) -> int:
    """PixArt's block: self-attention, attention to the text, and an MLP of four times the width."""
    own = linear(tokens, width, 4 * width) + attention(tokens, tokens, width)
    cross = linear(tokens, width, 2 * width) + linear(text_tokens, text_width, 2 * width)
    return own + cross + attention(tokens, text_tokens, width) + linear(tokens, width, 8 * width)


def pixart(configuration: Mapping[str, Any], side: int, text_tokens: int, step_channels: int = 256) -> int:
    """One call of PixArt's transformer on latents of side x side."""
    width = configuration["num_attention_heads"] * configuration["attention_head_dim"]
    patch = configuration["patch_size"]
    tokens = (side // patch) ** 2
    step = linear(1, step_channels, width) + linear(1, width, width) + linear(1, width, 6 * width)
    text = linear(text_tokens, configuration["caption_channels"], width) + linear(text_tokens, width, width)
    ends = linear(tokens, patch**2 * configuration["in_channels"], width)
    ends += linear(tokens, width, patch**2 * configuration["out_channels"])
    block = pixart_block(tokens, width, text_tokens, configuration["cross_attention_dim"])
    depth: int = configuration["num_layers"]
    return step + text + ends + depth * block


def var_block(tokens: int, seen: int, width: int) -> int:
    """VAR's block on a scale's tokens, which see `seen` tokens, themselves among them."""
    return linear(tokens, width, (3 + 1 + 8) * width) + attention(tokens, seen, width)


def var(shape: VARShape) -> int:
    """An image of VAR's transformer: all scales, two rows each for guidance."""
    counts = [side**2 for side in shape.patch_nums]
    modulation = 6 * (1 if shape.shared_aln else shape.depth) + 2
    row = linear(1, shape.width, modulation * shape.width)
    row += linear(sum(counts[1:]), shape.codebook_dim, shape.width)
    for tokens, seen in zip(counts, accumulate(counts), strict=True):
        row += shape.depth * var_block(tokens, seen, shape.width) + linear(tokens, shape.width, shape.vocabulary)
    return 2 * row


def infinity_block(tokens: int, seen: int, shape: InfinityShape, text_tokens: int) -> int:
    """Infinity's block on a scale's tokens; the text's keys and values were made before."""
    own = linear(tokens, shape.width, 4 * shape.width) + attention(tokens, seen, shape.width)
    cross = linear(tokens, shape.width, 2 * shape.width) + attention(tokens, text_tokens, shape.width)
    return own + cross + linear(tokens, shape.width, 2 * shape.hidden)


def infinity(shape: InfinityShape, grids: Sequence[Grid], text_tokens: int) -> int:
    """An image of Infinity's transformer: all scales, two rows each for guidance, whose inputs are embedded once."""
    width, counts = shape.width, [height * columns for height, columns in grids]
    pooling = linear(text_tokens, shape.text_width, 2 * width) + attention(1, text_tokens, width)
    row = pooling + linear(1, width, (1 + 6 + 2) * width)
    row += linear(text_tokens, shape.text_width, width) + linear(text_tokens, width, width)
    row += shape.depth * linear(text_tokens, width, 2 * width)
    for tokens, seen in zip(counts, accumulate(counts), strict=True):
        row += shape.depth * infinity_block(tokens, seen, shape, text_tokens)
        row += linear(tokens, width, 2 * shape.bits)
    return 2 * row + linear(sum(counts[1:]), shape.bits, width)
