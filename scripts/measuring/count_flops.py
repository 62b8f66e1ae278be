"""Counts what an image costs, and compares the count of each backbone with its closed form.

    python scripts/measuring/count_flops.py --output docs/measurements/flops.json
    python scripts/measuring/count_flops.py --tiny

Networks at full size on torch's meta device, which has shapes and no numbers: no weights, no GPU, and the same figures
on every machine. Counted as in a run (benchmark/measure/flops.py); the closed forms are in closed_forms.py. All of an
image is at batch size 1 with the models' own defaults: 20 steps of SDXL and PixArt, guidance with two rows everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.measure.flops import Counted, count
from models import infinity_text, pixart, sdxl
from models.base import NetworkSize
from models.infinity_files import random_networks as infinity_networks
from models.infinity_schedules import schedule_for
from models.networks.infinity_sampling import BitSampling
from models.networks.next_scale import Schedule
from models.networks.var_transformer import VAR, Choice, Sampling, sample_scales
from models.next_scale_programs import InfinityProgram, VARProgram
from models.pipelines.generator import quiet_libraries
from models.random_weights import build_random
from models.var_files import random_networks as var_networks
from scripts.measuring import closed_forms
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report

BAR = 0.02
STEPS, ROWS = 20, 2
DTYPE = "bfloat16"
CLIP_TOKENS, INFINITY_TOKENS, PIXART_ALPHA_TOKENS = 77, 64, 120
ATTENTION = "scaled_dot_product_attention"
# MACs of 25 steps with guidance at 1024 px. Source: documentation of diffusers 0.32, "T-GATE", table of benchmarks.
PUBLISHED_CALLS = 25 * 2
PUBLISHED_MACS = {"SDXL": 149.438e12, "PixArt-alpha": 107.031e12}


@dataclass(frozen=True)
class Comparison:
    """One network's FLOPs: by its closed form, as counted, and the counted ones over the closed form."""

    network: str
    px: int
    what: str
    closed_form: int
    counted: int

    @property
    def ratio(self) -> float:
        return self.counted / self.closed_form


@dataclass(frozen=True)
class Image:
    """What the parts of one image cost: text encoder, backbone, decoder."""

    model: str
    px: int
    flops: Mapping[str, int]
    weight_bytes: Mapping[str, int]


def on_meta(*sizes: int, dtype: torch.dtype | None = None) -> Tensor:
    return torch.zeros(sizes, device="meta", dtype=dtype or getattr(torch, DTYPE))


def build(builder: Callable[[], nn.Module]) -> nn.Module:
    with quiet_libraries():
        return build_random(builder, "meta", getattr(torch, DTYPE))


@cache
def diffusers_network(model: str, name: str, px: int, size: NetworkSize) -> nn.Module:
    """Return a network of SDXL or PixArt, on the meta device."""
    if model == "sdxl":
        return build(sdxl.build_networks(sdxl.CONFIGURATIONS[size])[name])
    return build(pixart.build_networks(px, pixart.CONFIGURATIONS[size])[name])


def count_unet(px: int, size: NetworkSize, rows: int = ROWS) -> Counted:
    """Return what a call of SDXL's UNet costs."""
    unet = diffusers_network("sdxl", "unet", px, size)
    values = sdxl.CONFIGURATIONS[size].unet
    pooled = values["projection_class_embeddings_input_dim"] - 6 * values["addition_time_embed_dim"]
    added = {"text_embeds": on_meta(rows, pooled), "time_ids": on_meta(rows, 6)}
    text = on_meta(rows, CLIP_TOKENS, values["cross_attention_dim"])
    latents = on_meta(rows, 4, px // 8, px // 8)
    return count(lambda: unet(latents, on_meta(dtype=torch.float32), text, added_cond_kwargs=added), [unet])


def count_pixart(px: int, size: NetworkSize, rows: int = ROWS, tokens: int = pixart.PROMPT_TOKENS) -> Counted:
    """Return what a call of PixArt's transformer costs."""
    transformer = diffusers_network("pixart", "transformer", px, size)
    width = pixart.CONFIGURATIONS[size].transformer["caption_channels"]
    text, mask = on_meta(rows, tokens, width), on_meta(rows, tokens)
    latents, steps = on_meta(rows, 4, px // 8, px // 8), on_meta(rows, dtype=torch.float32)
    return count(lambda: transformer(latents, text, steps, encoder_attention_mask=mask), [transformer])


def count_decoder(model: str, px: int, size: NetworkSize) -> Counted:
    """Return what decoding one image of SDXL or PixArt costs."""
    vae: Any = diffusers_network(model, "vae", px, size)
    return count(lambda: vae.decode(on_meta(1, 4, px // 8, px // 8)), [vae])


def count_encoder(encoder: nn.Module, tokens: int) -> Counted:
    """Return what encoding one prompt of so many tokens costs."""
    return count(lambda: encoder(on_meta(1, tokens, dtype=torch.int64)), [encoder])


class NoCodes:
    """In the place of VAR's quantiser: whose arithmetic is no part of the transformer."""

    def __init__(self, var: VAR) -> None:
        self.var = var

    def empty_estimate(self, batch: int) -> Tensor:
        return on_meta(batch, dtype=torch.float32)

    def add(self, f_hat: Tensor, *_: object) -> Tensor:
        return f_hat

    def image(self, f_hat: Tensor) -> Tensor:
        return f_hat

    def input_of(self, scale: int, f_hat: Tensor) -> Tensor:
        shape = self.var.shape
        return on_meta(len(f_hat), shape.patch_nums[scale] ** 2, shape.codebook_dim, dtype=torch.float32)


def count_var_transformer(var: VAR) -> Counted:
    """Return what the transformer alone costs in an image."""

    def choose(_: int, logits_RLV: Tensor) -> Choice:
        return Choice(logits_RLV[:1].argmax(dim=-1))

    def draw() -> None:
        quantizer: Any = NoCodes(var)
        for _ in sample_scales(var, quantizer, on_meta(1, dtype=torch.int64), choose):
            pass

    return count(draw, [var])


def total(parts: Iterable[Counted], times: int = 1) -> tuple[int, int]:
    """Return the FLOPs and the bytes of weights of all parts, so many times over."""
    each = list(parts)
    return times * sum(part.flops for part in each), times * sum(part.weight_bytes for part in each)


def image_of(model: str, px: int, **parts: tuple[int, int]) -> Image:
    flops = {name: part[0] for name, part in parts.items()}
    return Image(model, px, flops, {name: part[1] for name, part in parts.items()})


def compare_unet(px: int, size: NetworkSize) -> tuple[Comparison, Image]:
    """Return SDXL's UNet for one call of one row, and all of an image."""
    form = closed_forms.unet(sdxl.CONFIGURATIONS[size].unet, px // 8, CLIP_TOKENS)
    comparison = Comparison("SDXL's UNet", px, "one call, one row", form, count_unet(px, size, rows=1).flops)
    encoders = (diffusers_network("sdxl", name, px, size) for name in ("text_encoder", "text_encoder_2"))
    return comparison, image_of(
        "SDXL", px,
        text_encoder=total(count_encoder(encoder, CLIP_TOKENS) for encoder in encoders),
        backbone=total([count_unet(px, size)], STEPS),
        decoder=total([count_decoder("sdxl", px, size)]),
    )  # fmt: skip


def compare_pixart(px: int, size: NetworkSize) -> tuple[Comparison, Image]:
    """Return PixArt's transformer for one call of one row, and all of an image."""
    form = closed_forms.pixart(pixart.CONFIGURATIONS[size].transformer, px // 8, pixart.PROMPT_TOKENS)
    counted = count_pixart(px, size, rows=1).flops
    comparison = Comparison("PixArt-Sigma's transformer", px, "one call, one row", form, counted)
    encoder = diffusers_network("pixart", "text_encoder", px, size)
    return comparison, image_of(
        "PixArt", px,
        text_encoder=total([count_encoder(encoder, pixart.PROMPT_TOKENS)], ROWS),
        backbone=total([count_pixart(px, size)], STEPS),
        decoder=total([count_decoder("pixart", px, size)]),
    )  # fmt: skip


def compare_var(size: NetworkSize) -> tuple[Comparison, Image]:
    """Return the transformer of VAR-d16 for one image, and all of an image."""
    var, vqvae = var_networks(16, "meta", DTYPE, size)
    px = vqvae.shape.image_size
    transformer = count_var_transformer(var)
    form = closed_forms.var(var.shape)
    comparison = Comparison("VAR-d16's transformer", px, "one image, two rows", form, transformer.flops)
    program = VARProgram(var, vqvae, Sampling(cfg=1.5, top_k=900, top_p=0.96), 1)
    last: list[Tensor] = []
    backbone = count(lambda: last.append(program.latents()), [var, vqvae])
    decoder = count(lambda: program.decode(last[-1]), [var, vqvae])
    return comparison, image_of("VAR-d16", px, backbone=total([backbone]), decoder=total([decoder]))


def compare_infinity(schedule: Schedule, size: NetworkSize) -> tuple[Comparison, Image]:
    """Return the transformer of Infinity-2B for one image, and all of an image."""
    infinity, vae = infinity_networks("meta", DTYPE, size)
    px = schedule.grids[-1][0] * vae.shape.downsampling
    rotation = infinity.rotation(schedule)
    program = InfinityProgram(infinity, vae, schedule, rotation, BitSampling(), 1, INFINITY_TOKENS)
    last: list[Tensor] = []
    backbone = count(lambda: last.append(program.latents()), [infinity, vae])
    form = closed_forms.infinity(infinity.shape, schedule.grids, INFINITY_TOKENS)
    comparison = Comparison("Infinity-2B's transformer", px, "one image, two rows", form, backbone.flops)
    decoder = count(lambda: program.decode(last[-1]), [infinity, vae])
    encoder = infinity_text.random_text_encoder("meta", DTYPE, size).network
    text = count_encoder(encoder, INFINITY_TOKENS)
    parts = {"text_encoder": total([text]), "backbone": total([backbone]), "decoder": total([decoder])}
    return comparison, image_of("Infinity-2B", px, **parts)


def compare_published() -> list[dict[str, object]]:
    """Return published MACs of a call of one row at 1024 px, and what is counted for it without attention's products.

    Both published figures leave out queries times keys and weights times values: the counters of their time did not see
    fused attention.
    """
    counts = {
        "SDXL": count_unet(1024, "full", rows=1),
        "PixArt-alpha": count_pixart(1024, "full", rows=1, tokens=PIXART_ALPHA_TOKENS),
    }
    return [
        {
            "network": name,
            "published_flops": 2 * PUBLISHED_MACS[name] / PUBLISHED_CALLS,
            "counted_without_attention_products": counted.flops - counted.by_operation[ATTENTION],
            "counted": counted.flops,
        }
        for name, counted in counts.items()
    ]


def show(comparisons: Sequence[Comparison], images: Sequence[Image]) -> None:
    print("| network | px | closed form, TFLOP | counted / closed form |\n|---|---|---|---|")
    for one in comparisons:
        print(f"| {one.network}, {one.what} | {one.px} | {one.closed_form / 1e12:.4g} | {one.ratio:.6f} |")
    print(
        "\n| an image | px | TFLOP | of it text encoder, backbone, decoder | weights read, GB |\n|---|---|---|---|---|"
    )
    for image in images:
        parts = ", ".join(f"{image.flops.get(name, 0) / 1e12:.3g}" for name in ("text_encoder", "backbone", "decoder"))
        flops, gigabytes = sum(image.flops.values()) / 1e12, sum(image.weight_bytes.values()) / 1e9
        print(f"| {image.model} | {image.px} | {flops:.4g} | {parts} | {gigabytes:.4g} |")


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, compare, print, write; 1 where a count is further from its closed form than the bar allows."""
    parsed = open_parser(__file__, __doc__).parse_args(arguments)
    about = describe_run(__file__) | {"dtype": DTYPE, "batch_size": 1}
    size: NetworkSize = "small" if parsed.tiny else "full"
    pixels = (64, 128) if parsed.tiny else (512, 1024)
    schedules = [schedule_for("0.06M")] if parsed.tiny else [schedule_for("0.25M"), schedule_for("1M")]
    cases: list[Callable[[], tuple[Comparison, Image]]] = [
        *(partial(compare_unet, px, size) for px in pixels),
        *(partial(compare_pixart, px, size) for px in pixels),
        partial(compare_var, size),
        *(partial(compare_infinity, schedule, size) for schedule in schedules),
    ]
    found = [case() for case in cases]
    comparisons, images = [comparison for comparison, _ in found], [image for _, image in found]
    show(comparisons, images)
    figures: dict[str, Any] = {
        "bar": BAR,
        "networks": [asdict(one) | {"ratio": one.ratio} for one in comparisons],
        "images": [asdict(image) for image in images],
        "published": [] if parsed.tiny else compare_published(),
    }
    for one in figures["published"]:
        print(f"{one['network']}, published: {one['counted_without_attention_products'] / one['published_flops']:.6f}")
    write_report(parsed.output, about, figures)
    return int(any(abs(one.ratio - 1) > BAR for one in comparisons))


if __name__ == "__main__":
    end_script(__file__, main)
