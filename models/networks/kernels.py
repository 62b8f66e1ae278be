"""Triton kernels of the fused operations (models/networks/fused.py): what each computes, in float32 throughout.

Tensors come as pointers to contiguous memory unless a stride is given; images lie channels last. Sizes that change
from scale to scale are not specialised, so that a kernel is compiled once; those that addresses are multiples of must
be: only then are loads and stores of 16 bytes at once.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Tiles on their way while one is worked on, in loops over images.
STAGES = tl.constexpr(3)

# Written for Triton's compiler: types are its own, and annotations say what is known when a kernel is compiled.


@triton.jit(do_not_specialize=["tokens", "tokens_each"])
def residual_norm_kernel(
    x, update, update_bias, gate, weight, bias, stream, normal, tokens, tokens_each, part_stride,
    gate_stride, weight_stride, bias_stride, eps,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, PARTS: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_GATE: tl.constexpr,
):  # fmt: skip
    """x + gate * (the sum of the update's parts + its bias), and its norm; PARTS = 0: the norm alone."""
    row = tl.program_id(1)
    channel = tl.arange(0, BLOCK)
    inside = channel < WIDTH
    weights = tl.load(weight + row * weight_stride + channel, mask=inside, other=0.0).to(tl.float32)
    biases = tl.load(bias + row * bias_stride + channel, mask=inside, other=0.0).to(tl.float32)
    if HAS_GATE:
        gates = tl.load(gate + row * gate_stride + channel, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        added = tl.load(update_bias + channel, mask=inside, other=0.0).to(tl.float32)
    for i in range(tokens_each):
        token = tl.program_id(0) * tokens_each + i
        present = inside & (token < tokens)
        place = (row * tokens + token).to(tl.int64) * WIDTH + channel
        values = tl.load(x + place, mask=present, other=0.0).to(tl.float32)
        if PARTS > 0:
            updates = tl.load(update + place, mask=present, other=0.0).to(tl.float32)
            for part in tl.static_range(1, PARTS):
                updates += tl.load(update + part * part_stride + place, mask=present, other=0.0).to(tl.float32)
            if HAS_BIAS:
                updates += added
            if HAS_GATE:
                updates = updates * gates
            values = values + updates
            tl.store(stream + place, values, mask=present)
        mean = tl.sum(values, axis=0) / WIDTH
        centred = tl.where(inside, values - mean, 0.0)
        variance = tl.sum(centred * centred, axis=0) / WIDTH
        normed = centred * tl.rsqrt(variance + eps) * weights + biases
        tl.store(normal + place, normed.to(normal.dtype.element_ty), mask=present)


@triton.jit(do_not_specialize=["rows"])
def skinny_linear_kernel(
    x, weight, out, rows, outputs, inputs, inputs_per_part,
    ROWS_BLOCK: tl.constexpr, OUTPUTS_BLOCK: tl.constexpr, INPUTS_BLOCK: tl.constexpr,
):  # fmt: skip
    """x weight^T for few rows: as many programs as there are processors, each reads a slice of the weights.

    Each part of the inputs makes a sum of its own, float32, `(parts, rows, outputs)`.
    """
    part = tl.program_id(1)
    row = tl.arange(0, ROWS_BLOCK)
    output = tl.program_id(0) * OUTPUTS_BLOCK + tl.arange(0, OUTPUTS_BLOCK)
    channel = tl.arange(0, INPUTS_BLOCK)
    x += part * inputs_per_part
    weight += part * inputs_per_part
    total = tl.zeros((ROWS_BLOCK, OUTPUTS_BLOCK), tl.float32)
    for first in range(0, inputs_per_part, INPUTS_BLOCK):
        some_x = tl.load(x + row[:, None] * inputs + (first + channel)[None, :], mask=(row < rows)[:, None], other=0.0)
        some_weight = tl.load(weight + output[None, :] * inputs + (first + channel)[:, None])
        total = tl.dot(some_x, some_weight, total)
    place = part * rows * outputs + row[:, None] * outputs + output[None, :]
    tl.store(out + place, total, mask=(row < rows)[:, None])


@triton.jit
def turn(x, cosine, sine, ROWS: tl.constexpr, DIM: tl.constexpr):
    """Turn each pair of neighbouring channels of `x`, (ROWS, DIM), by its angle, (ROWS or 1, DIM / 2)."""
    a, b = tl.split(tl.reshape(x, (ROWS, DIM // 2, 2)))
    return tl.reshape(tl.join(a * cosine - b * sine, a * sine + b * cosine), (ROWS, DIM))


@triton.jit
def unit(x):
    """Divide each row of `x` by its length."""
    return x / tl.maximum(tl.sqrt(tl.sum(x * x, axis=1)), 1e-12)[:, None]


@triton.jit(do_not_specialize=["tokens", "start"])
def split_heads_kernel(
    qkv, scale, cosines, sines, queries, keys, values, tokens, start, row_stride, head_stride,
    HEADS: tl.constexpr, HEADS_BLOCK: tl.constexpr, DIM: tl.constexpr, DIM_BLOCK: tl.constexpr,
    COSINE: tl.constexpr, ROTATE: tl.constexpr,
):  # fmt: skip
    """One token of one row: all its heads."""
    token = tl.program_id(0)
    row = tl.program_id(1)
    head = tl.arange(0, HEADS_BLOCK)[:, None]
    channel = tl.arange(0, DIM_BLOCK)[None, :]
    inside = (head < HEADS) & (channel < DIM)
    width = HEADS * DIM
    position = (row * tokens + token).to(tl.int64)
    source = qkv + position * (3 * width) + head * DIM + channel
    q = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    k = tl.load(source + width, mask=inside, other=0.0).to(tl.float32)
    v = tl.load(source + 2 * width, mask=inside, other=0.0)
    if COSINE:
        q = unit(q) * tl.load(scale + head, mask=head < HEADS, other=0.0).to(tl.float32)
        k = unit(k)
    if ROTATE:
        pair = tl.arange(0, DIM_BLOCK // 2)[None, :]
        angle = token * (DIM // 2) + pair
        cosine = tl.load(cosines + angle, mask=pair < DIM // 2, other=0.0)
        sine = tl.load(sines + angle, mask=pair < DIM // 2, other=0.0)
        q = turn(q, cosine, sine, HEADS_BLOCK, DIM_BLOCK)
        k = turn(k, cosine, sine, HEADS_BLOCK, DIM_BLOCK)
    tl.store(queries + position * width + head * DIM + channel, q.to(queries.dtype.element_ty), mask=inside)
    place = row.to(tl.int64) * row_stride + head.to(tl.int64) * head_stride + (start + token) * DIM + channel
    tl.store(keys + place, k.to(keys.dtype.element_ty), mask=inside)
    tl.store(values + place, v, mask=inside)


@triton.jit
def add_attention(q, k, v, seen, most, total, answer, softmax_scale, PRECISION: tl.constexpr):
    """Take a block of keys and values into a running softmax; `seen` says which of them there are."""
    score = tl.dot(q, tl.trans(k), input_precision=PRECISION) * softmax_scale
    score = tl.where(seen[None, :], score, float("-inf"))
    highest = tl.maximum(most, tl.max(score, axis=1))
    weight = tl.exp(score - highest[:, None])
    fade = tl.exp(most - highest)
    total = total * fade + tl.sum(weight, axis=1)
    answer = answer * fade[:, None] + tl.dot(weight.to(v.dtype), v, input_precision=PRECISION)
    return highest, total, answer


@triton.jit(do_not_specialize=["tokens", "start"])
def attend_scale_kernel(
    qkv, scale, cosines, sines, out, keys, values, tokens, start, row_stride, head_stride, softmax_scale,
    HEADS: tl.constexpr, DIM: tl.constexpr, DIM_BLOCK: tl.constexpr, TOKENS_BLOCK: tl.constexpr,
    KEYS_BLOCK: tl.constexpr, COSINE: tl.constexpr, ROTATE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One head of one row, all tokens of a small scale: splits, normalises, writes the cache and attends."""
    head = tl.program_id(0)
    row = tl.program_id(1)
    token = tl.arange(0, TOKENS_BLOCK)
    channel = tl.arange(0, DIM_BLOCK)[None, :]
    present = token < tokens
    inside = present[:, None] & (channel < DIM)
    width = HEADS * DIM
    position = (row * tokens + token).to(tl.int64)[:, None]
    source = qkv + position * (3 * width) + head * DIM + channel
    q = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    k = tl.load(source + width, mask=inside, other=0.0).to(tl.float32)
    v = tl.load(source + 2 * width, mask=inside, other=0.0)
    if COSINE:
        q = unit(q) * tl.load(scale + head).to(tl.float32)
        k = unit(k)
    if ROTATE:
        pair = tl.arange(0, DIM_BLOCK // 2)[None, :]
        turned = present[:, None] & (pair < DIM // 2)
        angle = token[:, None] * (DIM // 2) + pair
        cosine = tl.load(cosines + angle, mask=turned, other=0.0)
        sine = tl.load(sines + angle, mask=turned, other=0.0)
        q = turn(q, cosine, sine, TOKENS_BLOCK, DIM_BLOCK)
        k = turn(k, cosine, sine, TOKENS_BLOCK, DIM_BLOCK)
    q = q.to(v.dtype)
    k = k.to(v.dtype)
    cached = row.to(tl.int64) * row_stride + head.to(tl.int64) * head_stride
    place = cached + (start + token)[:, None] * DIM + channel
    tl.store(keys + place, k, mask=inside)
    tl.store(values + place, v, mask=inside)
    most = tl.full((TOKENS_BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((TOKENS_BLOCK,), tl.float32)
    answer = tl.zeros((TOKENS_BLOCK, DIM_BLOCK), tl.float32)
    most, total, answer = add_attention(q, k, v, present, most, total, answer, softmax_scale, PRECISION)
    for first in range(0, start, KEYS_BLOCK):
        key = first + tl.arange(0, KEYS_BLOCK)
        seen = key < start
        old = cached + key[:, None] * DIM + channel
        there = seen[:, None] & (channel < DIM)
        old_k = tl.load(keys + old, mask=there, other=0.0)
        old_v = tl.load(values + old, mask=there, other=0.0)
        most, total, answer = add_attention(q, old_k, old_v, seen, most, total, answer, softmax_scale, PRECISION)
    answer = answer / total[:, None]
    tl.store(out + position * width + head * DIM + channel, answer.to(out.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows", "top_k", "strength", "tail"])
def draw_codes_kernel(
    logits, noise, codes, rows, strength, top_k, tail,
    VOCABULARY: tl.constexpr, BLOCK: tl.constexpr, TOP_K: tl.constexpr, TOP_P: tl.constexpr,
):  # fmt: skip
    """One code: guidance, the k likeliest, the nucleus, and the draw argmax(p / e). `tail` is 1 - top_p."""
    row = tl.program_id(0).to(tl.int64)
    entry = tl.arange(0, BLOCK)
    inside = entry < VOCABULARY
    conditional = tl.load(logits + row * VOCABULARY + entry, mask=inside, other=0.0).to(tl.float32)
    unconditional = tl.load(logits + (rows + row) * VOCABULARY + entry, mask=inside, other=0.0).to(tl.float32)
    guided = (1.0 + strength) * conditional - strength * unconditional
    # Signed integers in the order of the floats: thresholds are then found bit by bit, from the highest.
    bits = guided.to(tl.int32, bitcast=True)
    lowest = -2147483648
    key = tl.where(inside, tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF), lowest)
    top = tl.max(key, axis=0)
    threshold = top * 0 + lowest
    if TOP_K:
        # The largest threshold that at least k entries reach is the k-th largest entry.
        found = top * 0
        bit = found + lowest
        for _ in range(32):
            candidate = found | bit
            bit = (bit >> 1) & 0x7FFFFFFF
            count = tl.sum((key >= (candidate ^ lowest)).to(tl.int32), axis=0)
            found = tl.where(count >= top_k, candidate, found)
        threshold = found ^ lowest
    highest = tl.max(tl.where(inside, guided, float("-inf")), axis=0)
    mass = tl.where(inside & (key >= threshold), tl.exp(guided - highest), 0.0)
    if TOP_P:
        # The largest threshold below which no more than the tail's mass lies.
        limit = tail * tl.sum(mass, axis=0)
        found = top * 0
        bit = found + lowest
        for _ in range(32):
            candidate = found | bit
            bit = (bit >> 1) & 0x7FFFFFFF
            below = tl.sum(tl.where(key < (candidate ^ lowest), mass, 0.0), axis=0)
            found = tl.where(below <= limit, candidate, found)
        threshold = tl.minimum(tl.maximum(threshold, found ^ lowest), top)
    draws = tl.load(noise + row * VOCABULARY + entry, mask=inside, other=1.0)
    chance = tl.where(inside & (key >= threshold), mass / draws, -1.0)
    tl.store(codes + row, tl.argmax(chance, axis=0).to(tl.int64))


@triton.jit
def mix_bits(bits):
    """The mixing function of models/networks/noise.py; its second factor is written as a signed number."""
    bits = bits ^ ((bits >> 16) & 0xFFFF)
    bits = bits * 0x7FEB352D
    bits = bits ^ ((bits >> 15) & 0x1FFFF)
    bits = bits * -2073254261
    return bits ^ ((bits >> 16) & 0xFFFF)


@triton.jit(do_not_specialize_on_alignment=["keys"])
def uniform_kernel(noise, keys, count, key_stride, BLOCK: tl.constexpr):
    """Uniform numbers of models/networks/noise.py, bit for bit."""
    request = tl.program_id(1)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    first = tl.load(keys + request * key_stride)
    second = tl.load(keys + request * key_stride + 1)
    bits = mix_bits(mix_bits(place + first) ^ second)
    uniform = (((bits >> 9) & 0x7FFFFF).to(tl.float32) + 0.5) * 1.1920928955078125e-07
    tl.store(noise + request.to(tl.int64) * count + place, uniform, mask=place < count)


@triton.jit
def add_moments(values, origin, present, total, squares):
    """Take a tile of pixels, (TILE, CHANNELS_BLOCK), into the sums of deviations from an origin and of their squares.

    The origin is the first pixel of a chunk: deviations from it are small, so that their squares lose nothing.
    """
    deviation = tl.where(present, values - origin, 0.0)
    return total + deviation, squares + deviation * deviation


@triton.jit
def store_moments(moments, total, squares, origin, count, channels, channel, CHANNELS_BLOCK: tl.constexpr):
    """Write mean and sum of squared deviations of each channel in this program's chunk."""
    mean = tl.sum(total, axis=0) / count
    spread = tl.maximum(tl.sum(squares, axis=0) - mean * mean * count, 0.0)
    chunk = tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
    target = moments + chunk.to(tl.int64) * 2 * channels + channel
    tl.store(target, mean + tl.reshape(origin, (CHANNELS_BLOCK,)))
    tl.store(target + channels, spread)


# Programs of the kernels below: blocks of channels, which share lines of memory, then chunks of pixels, then images.


@triton.jit(do_not_specialize=["pixels", "chunk_size"])
def moments_kernel(x, moments, pixels, channels, chunk_size, CHANNELS_BLOCK: tl.constexpr, TILE: tl.constexpr):
    """Mean and sum of squared deviations of each channel in a chunk of pixels."""
    channel = tl.program_id(0) * CHANNELS_BLOCK + tl.arange(0, CHANNELS_BLOCK)
    first = tl.program_id(1) * chunk_size
    count = tl.minimum(pixels - first, chunk_size)
    source = x + (tl.program_id(2).to(tl.int64) * pixels + first) * channels + channel[None, :]
    origin = tl.load(source).to(tl.float32)
    total = tl.zeros((TILE, CHANNELS_BLOCK), tl.float32)
    squares = tl.zeros((TILE, CHANNELS_BLOCK), tl.float32)
    for offset in tl.range(0, count, TILE, num_stages=STAGES):
        pixel = (offset + tl.arange(0, TILE))[:, None]
        present = pixel < count
        values = tl.load(source + pixel * channels, mask=present, other=0.0).to(tl.float32)
        total, squares = add_moments(values, origin, present, total, squares)
    store_moments(moments, total, squares, origin, count, channels, channel, CHANNELS_BLOCK)


@triton.jit(do_not_specialize=["pixels", "chunk_size"])
def add_kernel(
    values, other, bias, moments, pixels, channels, chunk_size, CHANNELS_BLOCK: tl.constexpr, TILE: tl.constexpr
):  # fmt: skip
    """values += other + bias, in place, and the moments of the sums."""
    channel = tl.program_id(0) * CHANNELS_BLOCK + tl.arange(0, CHANNELS_BLOCK)
    first = tl.program_id(1) * chunk_size
    count = tl.minimum(pixels - first, chunk_size)
    start = (tl.program_id(2).to(tl.int64) * pixels + first) * channels + channel[None, :]
    added = tl.load(bias + channel).to(tl.float32)[None, :]
    origin = tl.load(values + start).to(tl.float32) + tl.load(other + start).to(tl.float32) + added
    tl.debug_barrier()  # the first pixel is written in the loop, by some threads before others have read it
    total = tl.zeros((TILE, CHANNELS_BLOCK), tl.float32)
    squares = tl.zeros((TILE, CHANNELS_BLOCK), tl.float32)
    for offset in tl.range(0, count, TILE, num_stages=STAGES):
        pixel = (offset + tl.arange(0, TILE))[:, None]
        present = pixel < count
        place = start + pixel * channels
        sums = tl.load(values + place, mask=present, other=0.0).to(tl.float32) + added
        sums += tl.load(other + place, mask=present, other=0.0).to(tl.float32)
        stored = sums.to(values.dtype.element_ty)
        tl.store(values + place, stored, mask=present)
        total, squares = add_moments(stored.to(tl.float32), origin, present, total, squares)
    store_moments(moments, total, squares, origin, count, channels, channel, CHANNELS_BLOCK)


@triton.jit
def doubled_source(x, pixel, image, pixels, channels, width):
    """Where a pixel of `interleave_kernel`'s answer comes from."""
    line = pixel // width
    column = pixel % width
    phase = (line % 2) * 2 + column % 2
    source = (line // 2 + line % 2) * (width // 2 + 1) + column // 2 + column % 2
    source_pixels = (pixels // width // 2 + 1) * (width // 2 + 1)
    return x + (image.to(tl.int64) * source_pixels + source) * 4 * channels + phase * channels


@triton.jit(do_not_specialize=["pixels", "chunk_size", "width"])
def interleave_kernel(
    x, bias, out, moments, pixels, channels, chunk_size, width, CHANNELS_BLOCK: tl.constexpr, TILE: tl.constexpr
):  # fmt: skip
    """Put four images beside each other in the channels, of height + 1 and width + 1, between each other, plus bias.

    Image (a, b) of `x` gives pixel (2 y + a, 2 x + b) of the answer from its pixel (y + a, x + b). `pixels` and `width`
    are the answer's; its moments are made with it.
    """
    image = tl.program_id(2)
    channel = tl.program_id(0) * CHANNELS_BLOCK + tl.arange(0, CHANNELS_BLOCK)
    first = tl.program_id(1) * chunk_size
    count = tl.minimum(pixels - first, chunk_size)
    added = tl.load(bias + channel).to(tl.float32)[None, :]
    start = doubled_source(x, first + tl.arange(0, 1)[:, None], image, pixels, channels, width)
    origin = tl.load(start + channel[None, :]).to(tl.float32) + added
    total = tl.zeros((TILE, CHANNELS_BLOCK), tl.float32)
    squares = tl.zeros((TILE, CHANNELS_BLOCK), tl.float32)
    target = out + (image.to(tl.int64) * pixels + first) * channels + channel[None, :]
    for offset in tl.range(0, count, TILE, num_stages=STAGES):
        pixel = (offset + tl.arange(0, TILE))[:, None]
        present = pixel < count
        source = doubled_source(x, first + pixel, image, pixels, channels, width) + channel[None, :]
        values = tl.load(source, mask=present, other=0.0).to(tl.float32) + added
        stored = values.to(out.dtype.element_ty)
        tl.store(target + pixel * channels, stored, mask=present)
        total, squares = add_moments(stored.to(tl.float32), origin, present, total, squares)
    store_moments(moments, total, squares, origin, count, channels, channel, CHANNELS_BLOCK)


@triton.jit(do_not_specialize=["pixels", "group_size", "chunks", "chunk_size", "has_bias"])
def affine_kernel(
    moments, weight, shift, bias, affine, pixels, channels, group_size, chunks, chunk_size, has_bias, eps,
    GROUP_BLOCK: tl.constexpr, CHUNKS_BLOCK: tl.constexpr,
):  # fmt: skip
    """What a group's normalisation multiplies and adds, channel by channel, from the moments of all chunks.

    bias: what is to be added to the values before, channel by channel, if anything; it moves the means alone.
    """
    group = tl.program_id(0)
    image = tl.program_id(1)
    member = tl.arange(0, GROUP_BLOCK)
    channel = group * group_size + member
    inside = member < group_size
    added = tl.load(bias + channel, mask=inside & (has_bias != 0), other=0.0).to(tl.float32)
    total = pixels.to(tl.float32) * group_size
    chunk = tl.arange(0, CHUNKS_BLOCK)
    present = (chunk < chunks)[:, None] & inside[None, :]
    source = moments + ((image * chunks + chunk).to(tl.int64) * 2 * channels)[:, None] + channel[None, :]
    means = tl.load(source, mask=present, other=0.0) + added[None, :]
    squares = tl.load(source + channels, mask=present, other=0.0)
    counts = tl.minimum(tl.maximum(pixels - chunk * chunk_size, 0), chunk_size).to(tl.float32)[:, None]
    mean = tl.sum(tl.sum(tl.where(present, means * counts, 0.0), axis=1), axis=0) / total
    deviation = tl.where(present, means - mean, 0.0)
    variance = tl.sum(tl.sum(squares + counts * deviation * deviation, axis=1), axis=0) / total
    scale = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32) * tl.rsqrt(variance + eps)
    offset = tl.load(shift + channel, mask=inside, other=0.0).to(tl.float32) + (added - mean) * scale
    tl.store(affine + image * 2 * channels + channel, scale, mask=inside)
    tl.store(affine + image * 2 * channels + channels + channel, offset, mask=inside)


@triton.jit(do_not_specialize=["pixels"])
def affine_silu_kernel(x, affine, out, pixels, channels, CHANNELS_BLOCK: tl.constexpr, TILE: tl.constexpr):
    """SiLU of each value times its channel's factor plus its channel's offset."""
    image = tl.program_id(2)
    channel = tl.program_id(0) * CHANNELS_BLOCK + tl.arange(0, CHANNELS_BLOCK)
    scale = tl.load(affine + image * 2 * channels + channel)
    offset = tl.load(affine + image * 2 * channels + channels + channel)
    pixel = tl.program_id(1) * TILE + tl.arange(0, TILE)
    present = (pixel < pixels)[:, None]
    place = (image.to(tl.int64) * pixels + pixel)[:, None] * channels + channel[None, :]
    values = tl.load(x + place, mask=present, other=0.0).to(tl.float32) * scale[None, :] + offset[None, :]
    values = values / (1.0 + tl.exp(-values))
    tl.store(out + place, values.to(out.dtype.element_ty), mask=present)
