"""Measures the LoRA step at PixArt-Sigma's full size with random weights, against two plain loops in the same run.

    python -m scripts.measuring.measure_finetuning --output finetuning.json

Plain loops, eager, with PEFT's LoRA in float32 under bf16 autocast and everything frozen in bf16: one encodes images
and captions (T5-XXL, 300 tokens) in every step, the other reads both from memory, padded to 300 tokens. Ours is the
trainer's own step (`finetuning.step`). Each is warmed up, then timed in stretches of `--steps` steps, synchronised at
both ends; memory is the peak of tensors. Needs a GPU; --tiny runs everything at a small size on a CPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmark.measure.clock import Clock
from finetuning.encodings import Captions, Encodings, place_text_encoder
from finetuning.lora import add_lora, build_optimizer
from finetuning.memory import estimate_memory
from finetuning.objective import Noising, weighted_loss
from finetuning.settings import TrainingSettings
from finetuning.step import TrainingStep
from models import pixart
from models.random_weights import build_random
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report

WORDS = 30
IMAGES = 64
PEAK_FLOPS = 785e12  # bf16 matrix products of an H100 or H200, as measured on large ones


class Bench:
    """Networks at one size, and how a loop over them is timed."""

    def __init__(self, side: int, device: str, steps: int, warmup: int, repeats: int) -> None:
        configurations = pixart.FULL if device == "cuda" else pixart.SMALL
        self.side, self.device, self.steps, self.warmup, self.repeats = side, device, steps, warmup, repeats
        self.clock = Clock(device)
        self.dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self.builders = pixart.build_networks(pixart.native_size(side), configurations)
        self.latent_side = side // 8
        self.text_width = configurations.transformer["caption_channels"]

    def build(self, part: str) -> Any:
        return build_random(self.builders[part], self.device, self.dtype)

    def scheduler(self) -> Any:
        from diffusers import DPMSolverMultistepScheduler

        return DPMSolverMultistepScheduler(**pixart.SCHEDULER)

    def encodings(self) -> Encodings:
        """Return random latents, and captions of some thirty tokens each."""
        generator = torch.Generator(self.device).manual_seed(0)
        like: dict[str, Any] = {"generator": generator, "device": self.device}
        latents = torch.randn(1, IMAGES, 4, self.latent_side, self.latent_side, **like)
        lengths = torch.randint(WORDS // 2, WORDS + 1, (IMAGES + 1,), **like)
        lengths[0] = 1
        tokens = torch.randn(int(lengths.sum()), self.text_width, **like).to(self.dtype)
        return Encodings(latents, Captions(tokens, lengths), torch.arange(1, IMAGES + 1))

    def time(self, name: str, batch: int, make_step: Callable[[int], Tensor]) -> dict[str, Any]:
        """Return seconds a step (median of the stretches), images a second and peak memory of a loop."""
        self.clock.reset_peak_memory()  # before the warm-up: a captured graph's memory counts when it is captured

        def run(first: int, count: int) -> Tensor:
            for number in range(first, first + count):
                loss = make_step(number)
            return loss

        _, warm_s = self.clock.time(partial(run, 0, self.warmup))
        stretches = []
        for stretch in range(self.repeats):
            loss, seconds = self.clock.time(partial(run, self.warmup + stretch * self.steps, self.steps))
            stretches.append(seconds / self.steps)
        assert torch.isfinite(loss), f"{name}: the loss is {loss}"
        peak = self.clock.peak_memory_bytes() or 0
        step_s = statistics.median(stretches)
        row = {"name": name, "batch": batch, "step_s": step_s, "images_per_s": batch / step_s, "peak_bytes": peak,
               "warmup_s": warm_s, "spread": (max(stretches) - min(stretches)) / step_s}  # fmt: skip
        print(f"{name:<44} batch {batch:3d}: {1e3 * step_s:8.1f} ms, {batch / step_s:7.1f} images/s, "
              f"{peak / 1e9:6.2f} GB, warm-up {warm_s:.0f} s", file=sys.stderr, flush=True)  # fmt: skip
        return row


def make_plain_loop(bench: Bench, batch: int, settings: TrainingSettings, *, encodes: bool) -> Callable[[int], Tensor]:
    """Return a step as a plain script would write it, with or without the VAE and T5 in it."""
    from peft import LoraConfig, get_peft_model

    transformer = bench.build("transformer")
    config = LoraConfig(r=settings.rank, lora_alpha=settings.rank, target_modules=list(settings.target_modules))
    model = get_peft_model(transformer, config)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.data = parameter.data.float()
    model.train()
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate)
    noising = Noising(bench.scheduler(), bench.device)
    vae, text_encoder = (bench.build("vae"), bench.build("text_encoder")) if encodes else (None, None)
    generator = torch.Generator(bench.device).manual_seed(0)
    like: dict[str, Any] = {"generator": generator, "device": bench.device}
    pixels = torch.rand(batch, 3, bench.side, bench.side, **like).to(bench.dtype) * 2 - 1
    ids = torch.randint(16, 32000, (batch, pixart.PROMPT_TOKENS), **like)
    mask = (torch.arange(pixart.PROMPT_TOKENS, device=bench.device) < WORDS).long().expand(batch, -1)
    cached_latents = torch.randn(batch, 4, bench.latent_side, bench.latent_side, **like)
    cached_text = torch.randn(batch, pixart.PROMPT_TOKENS, bench.text_width, **like).to(bench.dtype)

    def step(_: int) -> Tensor:
        latents, text = cached_latents, cached_text
        if vae is not None and text_encoder is not None:
            with torch.no_grad():
                latents = vae.encode(pixels).latent_dist.sample().float() * vae.config.scaling_factor
                text = text_encoder(ids, attention_mask=mask)[0]
        noised, timesteps, target = noising.draw(latents)
        with torch.autocast(bench.device, torch.bfloat16, enabled=bench.device == "cuda"):
            predicted = model(
                noised.to(bench.dtype), encoder_hidden_states=text, encoder_attention_mask=mask, timestep=timesteps,
                added_cond_kwargs={"resolution": None, "aspect_ratio": None}, return_dict=False,
            )[0]  # fmt: skip
        loss = weighted_loss(predicted, target, torch.ones(batch, device=bench.device))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


def make_our_loop(bench: Bench, settings: TrainingSettings, accelerator: Any) -> TrainingStep:
    """Return the trainer's step over a transformer with random weights."""
    model = add_lora(bench.build("transformer"), settings)
    optimizer = build_optimizer(model, settings, bench.device)
    model, optimizer = accelerator.prepare(model, optimizer)
    return TrainingStep(settings, accelerator, model, optimizer, bench.scheduler(), bench.encodings())


def count_flops(bench: Bench, settings: TrainingSettings, accelerator: Any) -> float:
    """Return the floating-point operations of one eager step: frozen weights have no gradients, so none is counted."""
    step = make_our_loop(bench, replace(settings, compile=False, gradient_checkpointing=False), accelerator)
    with FlopCounterMode(display=False) as counter:
        step(0)
    return float(counter.get_total_flops())


def encode_offloaded(bench: Bench) -> dict[str, Any]:
    """Return what encoding captions costs with T5's parts coming to the GPU one by one."""
    encoder = bench.build("text_encoder").to("cpu")
    bench.clock.release_memory()
    encoder = place_text_encoder(encoder, bench.device, "always")
    bench.clock.reset_peak_memory()
    captions, tokens = 64, 40
    ids = torch.randint(16, 32000, (captions, tokens), device=bench.device)
    with torch.inference_mode():
        _, seconds = bench.clock.time(lambda: encoder(ids, attention_mask=torch.ones_like(ids)))
    peak = bench.clock.peak_memory_bytes() or 0
    print(f"64 captions, T5 in parts: {seconds:.1f} s, {peak / 1e9:.2f} GB", file=sys.stderr, flush=True)
    return {"name": "64 captions of 40 tokens, T5 offloaded in parts", "seconds": seconds, "peak_bytes": peak}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run every case; return the content of the JSON file."""
    from accelerate import Accelerator

    on_cuda = not arguments.tiny
    device = "cuda" if on_cuda else "cpu"
    side = min(arguments.side, 64) if arguments.tiny else arguments.side
    bench = Bench(side, device, arguments.steps, arguments.warmup, arguments.repeats)
    accelerator = Accelerator(mixed_precision="bf16" if on_cuda else "no", cpu=not on_cuda)
    plain = TrainingSettings(Path(), Path(), Path(), batch_size=arguments.batch, rank=arguments.rank, steps=10**6)
    rows: list[dict[str, Any]] = []
    chosen = set(arguments.cases.split(","))

    def run(case: str, name: str, batch: int, make: Callable[[], Callable[[int], Tensor]]) -> None:
        if case not in chosen:
            return
        try:
            step = make()
            rows.append({"case": case} | bench.time(name, batch, step))
            if isinstance(step, TrainingStep) and step.compiled_error is not None:
                rows[-1] |= {"compiled": step.compiled, "gradient_error": step.compiled_error}
                kept = "kept" if step.compiled else "left out"
                print(f"  torch.compile {kept}: gradients within {step.compiled_error:.1e}", file=sys.stderr)
            del step  # its memory is not the next case's
        except torch.OutOfMemoryError as error:
            print(f"{name}: out of memory ({str(error)[:90]})", file=sys.stderr, flush=True)
        accelerator.free_memory()
        bench.clock.release_memory()

    def ours(case: str, name: str, **changes: Any) -> None:
        settings = replace(plain, **changes)
        run(case, name, settings.batch_size, lambda: make_our_loop(bench, settings, accelerator))
        if rows and rows[-1]["case"] == case:
            with torch.device("meta"):
                outline = bench.builders["transformer"]()
            estimate = estimate_memory(outline, settings, (bench.side // 16) ** 2, bench.dtype)
            rows[-1]["estimated_bytes"] = estimate.total(settings.batch_size)

    large = 4 * arguments.batch
    run("plain", "plain loop, T5 and VAE in it", arguments.batch,
        lambda: make_plain_loop(bench, arguments.batch, plain, encodes=True))  # fmt: skip
    run("cached", "plain loop, cached latents and text", arguments.batch,
        lambda: make_plain_loop(bench, arguments.batch, plain, encodes=False))  # fmt: skip
    ours("eager", "ours, eager")
    ours("compiled", "ours, compiled", compile=True)
    ours("large", "ours, compiled", compile=True, batch_size=large)
    ours("checkpointed", "ours, checkpointed", gradient_checkpointing=True)
    ours("both", "ours, compiled and checkpointed", compile=True, gradient_checkpointing=True)
    ours("one", "ours, checkpointed", gradient_checkpointing=True, batch_size=1)
    result: dict[str, Any] = {"rows": rows}
    if "large" in chosen:
        flops = count_flops(bench, replace(plain, batch_size=large), accelerator)
        accelerator.free_memory()
        row = next((row for row in rows if row["case"] == "large"), None)
        bench.clock.release_memory()
        result["flops_of_large_step"] = flops
        if row is not None:
            result["roofline_share"] = flops / row["step_s"] / PEAK_FLOPS
            print(f"{flops / 1e12:.1f} TFLOP a step, {100 * result['roofline_share']:.1f} % of the roofline",
                  file=sys.stderr)  # fmt: skip
    if "offload" in chosen:
        result["offload"] = encode_offloaded(bench)
    return result | {"side": side, "rank": arguments.rank, "steps_timed": arguments.repeats * arguments.steps}


def main(given: Sequence[str] | None = None) -> int:
    """Measure what was asked."""
    parser = open_parser(__file__, __doc__, repeats=5, repeated="timed stretches")
    parser.add_argument("--batch", type=int, default=8, help="images a step [%(default)s]")
    parser.add_argument("--rank", type=int, default=16, help="of the LoRA [%(default)s]")
    parser.add_argument("--side", type=int, default=512, help="pixels [%(default)s]")
    parser.add_argument("--steps", type=int, default=6, help="steps in each stretch [%(default)s]")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them [%(default)s]")
    parser.add_argument("--cases", default="plain,cached,eager,compiled,large,checkpointed,both,one,offload")
    arguments = parser.parse_args(given)
    about = describe_run(__file__, "cpu" if arguments.tiny else "cuda")
    write_report(arguments.output, about, measure(arguments))
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
