"""Triton kernels of the fused operations (models/networks/fused.py): what each computes, in float32 throughout.

Tensors come as pointers to contiguous memory unless a stride is given; images lie channels last.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Written for Triton's compiler: types are its own, and annotations say what is known when a kernel is compiled.


@triton.jit(do_not_specialize=["tokens"])
def residual_norm_kernel(
    x, update, gate, weight, bias, stream, normal, tokens, gate_stride, weight_stride, bias_stride, eps,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, TOKENS: tl.constexpr, HAS_UPDATE: tl.constexpr, HAS_GATE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1)
    channel = tl.arange(0, BLOCK)
    inside = channel < WIDTH
    weights = tl.load(weight + row * weight_stride + channel, mask=inside, other=0.0).to(tl.float32)
    biases = tl.load(bias + row * bias_stride + channel, mask=inside, other=0.0).to(tl.float32)
    if HAS_GATE:
        gates = tl.load(gate + row * gate_stride + channel, mask=inside, other=0.0).to(tl.float32)
    for i in range(TOKENS):
        token = tl.program_id(0) * TOKENS + i
        present = inside & (token < tokens)
        place = (row * tokens + token).to(tl.int64) * WIDTH + channel
        values = tl.load(x + place, mask=present, other=0.0).to(tl.float32)
        if HAS_UPDATE:
            updates = tl.load(update + place, mask=present, other=0.0).to(tl.float32)
            if HAS_GATE:
                updates = updates * gates
            values = values + updates
            tl.store(stream + place, values, mask=present)
        mean = tl.sum(values, axis=0) / WIDTH
        centred = tl.where(inside, values - mean, 0.0)
        variance = tl.sum(centred * centred, axis=0) / WIDTH
        normed = centred * tl.rsqrt(variance + eps) * weights + biases
        tl.store(normal + place, normed.to(normal.dtype.element_ty), mask=present)


@triton.jit
def normalise_pairs(a, b, COSINE: tl.constexpr):
    """Divide each head's vector, given as its even and odd channels, by its length."""
    if COSINE:
        length = tl.sqrt(tl.sum(a * a, axis=1) + tl.sum(b * b, axis=1))
        factor = 1.0 / tl.maximum(length, 1e-12)
        a = a * factor[:, None]
        b = b * factor[:, None]
    return a, b


@triton.jit(do_not_specialize=["tokens", "start"])
def split_heads_kernel(
    qkv, scale, cosines, sines, queries, keys, values, tokens, start, row_stride, head_stride,
    HEADS: tl.constexpr, HEADS_BLOCK: tl.constexpr, PAIRS: tl.constexpr, PAIRS_BLOCK: tl.constexpr,
    COSINE: tl.constexpr, ROTATE: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0)
    row = tl.program_id(1)
    head = tl.arange(0, HEADS_BLOCK)[:, None]
    pair = tl.arange(0, PAIRS_BLOCK)[None, :]
    inside = (head < HEADS) & (pair < PAIRS)
    dim = 2 * PAIRS
    width = HEADS * dim
    position = (row * tokens + token).to(tl.int64)
    source = qkv + position * (3 * width) + head * dim + 2 * pair
    q_a = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    q_b = tl.load(source + 1, mask=inside, other=0.0).to(tl.float32)
    k_a = tl.load(source + width, mask=inside, other=0.0).to(tl.float32)
    k_b = tl.load(source + width + 1, mask=inside, other=0.0).to(tl.float32)
    v_a = tl.load(source + 2 * width, mask=inside, other=0.0)
    v_b = tl.load(source + 2 * width + 1, mask=inside, other=0.0)
    q_a, q_b = normalise_pairs(q_a, q_b, COSINE)
    k_a, k_b = normalise_pairs(k_a, k_b, COSINE)
    if COSINE:
        factor = tl.load(scale + head, mask=head < HEADS, other=0.0).to(tl.float32)
        q_a = q_a * factor
        q_b = q_b * factor
    if ROTATE:
        angle = token * PAIRS + pair
        cosine = tl.load(cosines + angle, mask=pair < PAIRS, other=0.0)
        sine = tl.load(sines + angle, mask=pair < PAIRS, other=0.0)
        q_a, q_b = q_a * cosine - q_b * sine, q_a * sine + q_b * cosine
        k_a, k_b = k_a * cosine - k_b * sine, k_a * sine + k_b * cosine
    target = queries + position * width + head * dim + 2 * pair
    tl.store(target, q_a.to(queries.dtype.element_ty), mask=inside)
    tl.store(target + 1, q_b.to(queries.dtype.element_ty), mask=inside)
    place = row.to(tl.int64) * row_stride + head.to(tl.int64) * head_stride + (start + token) * dim + 2 * pair
    tl.store(keys + place, k_a.to(keys.dtype.element_ty), mask=inside)
    tl.store(keys + place + 1, k_b.to(keys.dtype.element_ty), mask=inside)
    tl.store(values + place, v_a, mask=inside)
    tl.store(values + place + 1, v_b, mask=inside)


@triton.jit(do_not_specialize=["rows", "top_k", "strength", "tail"])
def draw_codes_kernel(
    logits, noise, codes, rows, strength, top_k, tail,
    VOCABULARY: tl.constexpr, BLOCK: tl.constexpr, TOP_K: tl.constexpr, TOP_P: tl.constexpr,
):  # fmt: skip
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
    bits = bits ^ ((bits >> 16) & 0xFFFF)
    bits = bits * 0x7FEB352D
    bits = bits ^ ((bits >> 15) & 0x1FFFF)
    bits = bits * -2073254261
    return bits ^ ((bits >> 16) & 0xFFFF)


@triton.jit
def uniform_kernel(noise, keys, count, key_stride, BLOCK: tl.constexpr):
    """Uniform numbers of models/networks/noise.py, bit for bit."""
    request = tl.program_id(1)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    first = tl.load(keys + request * key_stride)
    second = tl.load(keys + request * key_stride + 1)
    bits = mix_bits(mix_bits(place + first) ^ second)
    uniform = (((bits >> 9) & 0x7FFFFF).to(tl.float32) + 0.5) * 1.1920928955078125e-07
    tl.store(noise + request.to(tl.int64) * count + place, uniform, mask=place < count)


@triton.jit(do_not_specialize=["pixels"])
def moments_kernel(
    x, bias, moments, pixels,
    CHANNELS: tl.constexpr, CHANNELS_BLOCK: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Mean and sum of squared deviations of each channel in a chunk of pixels."""
    chunk = tl.program_id(0)
    image = tl.program_id(1)
    channel = tl.arange(0, CHANNELS_BLOCK)
    inside = channel < CHANNELS
    added = tl.zeros((CHANNELS_BLOCK,), tl.float32)
    if HAS_BIAS:
        added = tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32)
    mean = tl.zeros((CHANNELS_BLOCK,), tl.float32)
    squares = tl.zeros((CHANNELS_BLOCK,), tl.float32)
    seen = 0.0
    for offset in range(0, CHUNK, TILE):
        pixel = chunk * CHUNK + offset + tl.arange(0, TILE)
        present = (pixel < pixels)[:, None] & inside[None, :]
        place = (image.to(tl.int64) * pixels + pixel)[:, None] * CHANNELS + channel[None, :]
        values = tl.load(x + place, mask=present, other=0.0).to(tl.float32) + added[None, :]
        count = tl.minimum(tl.maximum(pixels - chunk * CHUNK - offset, 0), TILE).to(tl.float32)
        tile_mean = tl.sum(tl.where(present, values, 0.0), axis=0) / tl.maximum(count, 1.0)
        deviation = tl.where(present, values - tile_mean[None, :], 0.0)
        delta = tile_mean - mean
        total = tl.maximum(seen + count, 1.0)
        squares += tl.sum(deviation * deviation, axis=0) + delta * delta * (seen * count / total)
        mean += delta * (count / total)
        seen += count
    target = moments + (image * tl.num_programs(0) + chunk).to(tl.int64) * 2 * CHANNELS + channel
    tl.store(target, mean, mask=inside)
    tl.store(target + CHANNELS, squares, mask=inside)


@triton.jit(do_not_specialize=["pixels", "chunks"])
def affine_kernel(
    moments, weight, shift, bias, affine, pixels, chunks, eps,
    CHANNELS: tl.constexpr, GROUP: tl.constexpr, GROUP_BLOCK: tl.constexpr,
    CHUNK: tl.constexpr, CHUNKS_BLOCK: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """What a group's normalisation multiplies and adds, channel by channel, from the moments of all chunks."""
    group = tl.program_id(0)
    image = tl.program_id(1)
    member = tl.arange(0, GROUP_BLOCK)
    channel = group * GROUP + member
    inside = member < GROUP
    chunk = tl.arange(0, CHUNKS_BLOCK)
    present = (chunk < chunks)[:, None] & inside[None, :]
    source = moments + ((image * chunks + chunk).to(tl.int64) * 2 * CHANNELS)[:, None] + channel[None, :]
    means = tl.load(source, mask=present, other=0.0)
    squares = tl.load(source + CHANNELS, mask=present, other=0.0)
    counts = tl.minimum(tl.maximum(pixels - chunk * CHUNK, 0), CHUNK).to(tl.float32)[:, None]
    total = pixels.to(tl.float32) * GROUP
    mean = tl.sum(tl.sum(means * counts, axis=1), axis=0) / total
    deviation = tl.where(present, means - mean, 0.0)
    variance = tl.sum(tl.sum(squares + counts * deviation * deviation, axis=1), axis=0) / total
    scale = tl.load(weight + channel, mask=inside, other=0.0).to(tl.float32) * tl.rsqrt(variance + eps)
    offset = tl.load(shift + channel, mask=inside, other=0.0).to(tl.float32) - mean * scale
    if HAS_BIAS:
        offset += tl.load(bias + channel, mask=inside, other=0.0).to(tl.float32) * scale
    tl.store(affine + image * 2 * CHANNELS + channel, scale, mask=inside)
    tl.store(affine + image * 2 * CHANNELS + CHANNELS + channel, offset, mask=inside)


@triton.jit(do_not_specialize=["pixels"])
def affine_silu_kernel(
    x, affine, out, pixels, CHANNELS: tl.constexpr, CHANNELS_BLOCK: tl.constexpr, TILE: tl.constexpr
):
    image = tl.program_id(1)
    channel = tl.arange(0, CHANNELS_BLOCK)
    inside = channel < CHANNELS
    scale = tl.load(affine + image * 2 * CHANNELS + channel, mask=inside, other=0.0)
    offset = tl.load(affine + image * 2 * CHANNELS + CHANNELS + channel, mask=inside, other=0.0)
    pixel = tl.program_id(0) * TILE + tl.arange(0, TILE)
    present = (pixel < pixels)[:, None] & inside[None, :]
    place = (image.to(tl.int64) * pixels + pixel)[:, None] * CHANNELS + channel[None, :]
    values = tl.load(x + place, mask=present, other=0.0).to(tl.float32) * scale[None, :] + offset[None, :]
    values = values / (1.0 + tl.exp(-values))
    tl.store(out + place, values.to(out.dtype.element_ty), mask=present)


@triton.jit
def add_bias_kernel(values, other, bias, count, CHANNELS: tl.constexpr, BLOCK: tl.constexpr):
    """values += other + bias, in place, channels last."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    added = tl.load(bias + place % CHANNELS, mask=inside, other=0.0).to(tl.float32)
    total = tl.load(values + place, mask=inside, other=0.0).to(tl.float32) + added
    total += tl.load(other + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(values + place, total.to(values.dtype.element_ty), mask=inside)
