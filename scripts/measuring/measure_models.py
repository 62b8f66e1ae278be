"""Times SDXL and PixArt against stock diffusers, and their compiled forms against each other.

Full-size networks with random weights, so nothing is downloaded. For each model: (a) our wrapper and the same
pipeline called by hand take turns in one process; (b) each strategy of MODE=compiled gets a fresh pipeline with the
same weights, and its images are compared with the eager ones.

    python scripts/measuring/measure_models.py --output models.json
    python scripts/measuring/measure_models.py --strategies full+fuse+nhwc,pixart:full+fuse+empty --profile
    python scripts/measuring/measure_models.py --tiny --device cpu --strategies full
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from benchmark.measure.clock import Clock
from benchmark.measure.machine import choose_machine
from benchmark.measure.stages import time_stages
from models import pixart, sdxl
from models.base import DType, ModelFamily, Request, Runtime
from models.pipelines.generator import DiffusersGenerator
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report

FAMILIES: dict[str, ModelFamily] = {"sdxl": sdxl.FAMILY, "pixart": pixart.FAMILY}
RATIO_BAR = 1.03
COMPILED_BAR_S = {"sdxl": 0.26, "pixart": 0.16}
COMPILE_BAR_S = 100.0
PROMPT = "a pink robot with a round head, one red eye, a moustache and an open barrel body, in a forest, image"


def request(index: int, batch: int) -> list[Request]:
    """Return the requests of one call; each has its own prompt and seed."""
    return [Request(i, f"{PROMPT} {index} {i}", 1000 * index + i) for i in range(batch)]


def load(model: str, runtime: Runtime, steps: int) -> DiffusersGenerator:
    """Return the wrapper with random weights, the same at each call."""
    family = FAMILIES[model]
    options = family.options(steps=steps) if steps else family.options()
    generator = family.load(options, runtime)
    assert isinstance(generator, DiffusersGenerator)
    return generator


def by_hand(generator: DiffusersGenerator, requests: list[Request]) -> torch.Tensor:
    """Call the wrapper's pipeline as a diffusers user would, up to the images that it returns."""
    noise = [torch.Generator("cpu").manual_seed(one.seed) for one in requests]
    prompts = [one.prompt for one in requests]
    images: torch.Tensor = generator.pipeline(prompts, generator=noise, output_type="pt", **generator.arguments).images
    return images


def compare_to_stock(generator: DiffusersGenerator, clock: Clock, repeats: int, batch: int) -> dict[str, Any]:
    """Return the wrapper's and the stock call's latencies, measured in turns, and the ratio of their medians."""
    for index in range(2):
        generator.generate(request(index, batch))
        by_hand(generator, request(index, batch))
    wrapper_s: list[float] = []
    stock_s: list[float] = []
    for index in range(repeats):
        asked = request(index, batch)
        turns = [(wrapper_s, partial(generator.generate, asked)), (stock_s, partial(by_hand, generator, asked))]
        # Whoever is first in a turn changes, so that neither profits from the clock's or the cache's state.
        for taken_s, call in turns if index % 2 else reversed(turns):
            taken_s.append(clock.time(call)[1])
    ratio = statistics.median(wrapper_s) / statistics.median(stock_s)
    return {
        "wrapper_median_s": statistics.median(wrapper_s),
        "stock_median_s": statistics.median(stock_s),
        "ratio": ratio,
        "ratio_bar": RATIO_BAR,
        "wrapper_s": wrapper_s,
        "stock_s": stock_s,
    }


def stage_seconds(
    generator: DiffusersGenerator, clock: Clock, batch: int, latencies_s: list[float]
) -> dict[str, float]:
    """Return where one call's time goes: text encoding, denoising, decoding. latencies_s: of calls that were timed."""
    names = {"text encoder": "text_s", "backbone": "denoise_s", "decoder": "decode_s"}
    found = time_stages(generator, request(0, batch), clock, statistics.fmean(latencies_s))
    return {names[part.name]: part.seconds for part in found.stages}


def busiest_kernels(generator: DiffusersGenerator, batch: int, clock: Clock, count: int = 12) -> dict[str, Any]:
    """Return the device's busy seconds in one call and the kernels that take most of them."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        generator.generate(request(0, batch))
        clock.synchronize()
    events = [event for event in profile.key_averages() if str(event.device_type).endswith("CUDA")]
    events.sort(key=lambda event: -event.self_device_time_total)
    return {
        "busy_s": sum(event.self_device_time_total for event in events) / 1e6,
        "kernels": [
            {"name": event.key[:100], "calls": event.count, "ms": round(event.self_device_time_total / 1e3, 3)}
            for event in events[:count]
        ],
    }


def measure_strategy(
    model: str, strategy: str, runtime: Runtime, args: argparse.Namespace, expected: list[torch.Tensor]
) -> dict[str, Any]:
    """Return one strategy's compile time, latency, stages and distance from the eager images."""
    generator = load(model, runtime, args.steps)
    generator.speed_up(strategy, runtime.device)
    clock, batch = Clock(runtime.device), args.batch_size
    clock.reset_peak_memory()
    _, first_s = clock.time(lambda: generator.generate(request(0, batch)))
    for index in range(1, 3):
        generator.generate(request(index, batch))
    calls = [partial(generator.generate, request(index, batch)) for index in range(args.repeats)]
    latencies_s = [clock.time(call)[1] for call in calls]
    distances = [
        (generator.generate(request(index, batch)).int().cpu() - eager).abs().float()
        for index, eager in enumerate(expected)
    ]
    result: dict[str, Any] = {
        "strategy": strategy,
        "first_call_s": first_s,
        "first_call_bar_s": COMPILE_BAR_S,
        "median_s": statistics.median(latencies_s),
        "bar_s": COMPILED_BAR_S[model],
        "latencies_s": latencies_s,
        "max_difference_of_255": max(float(distance.max()) for distance in distances),
        "mean_difference_of_255": statistics.fmean(float(distance.mean()) for distance in distances),
        **stage_seconds(generator, clock, batch, latencies_s),
    }
    if (peak := clock.peak_memory_bytes()) is not None:
        result["peak_memory_bytes"] = peak
        if args.profile:
            result |= busiest_kernels(generator, batch, clock)
    return result


def measure_model(
    model: str, runtime: Runtime, args: argparse.Namespace, keep: Callable[[dict[str, Any]], None]
) -> None:
    """Measure one model. `keep` is given all of its figures whenever there are more."""
    clock = Clock(runtime.device)
    generator = load(model, runtime, args.steps)
    expected = [generator.generate(request(index, args.batch_size)).int().cpu() for index in range(2)]
    stock = compare_to_stock(generator, clock, args.repeats, args.batch_size)
    found: dict[str, Any] = {
        "model": model,
        "parameters": generator.parameters,
        "arguments": generator.arguments,
        "image_std_of_255": float(expected[0].float().std()),
        "stock": stock,
        "eager_stages": stage_seconds(generator, clock, args.batch_size, stock["wrapper_s"]),
        "strategies": [],
    }
    keep(found)
    say(f"{model}: wrapper {stock['wrapper_median_s']:.4f} s, stock {stock['stock_median_s']:.4f} s, ", end="")
    say(f"ratio {stock['ratio']:.4f} (bar {RATIO_BAR})")
    del generator
    for entry in filter(None, args.strategies.split(",")):
        only, _, strategy = entry.rpartition(":")
        if only not in ("", model):
            continue
        clock.release_memory()
        try:
            measured = measure_strategy(model, strategy, runtime, args, expected)
            say(
                f"{model} {strategy}: {measured['median_s']:.4f} s (bar {measured['bar_s']}), first call "
                f"{measured['first_call_s']:.1f} s, differs by {measured['max_difference_of_255']:.0f}/255 at most, "
                f"{measured['mean_difference_of_255']:.2f} on average; text {measured['text_s'] * 1e3:.1f} ms, "
                f"denoise {measured['denoise_s'] * 1e3:.1f} ms, decode {measured['decode_s'] * 1e3:.1f} ms"
            )
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            # A candidate that this version cannot compile is a finding, and no reason to lose the others.
            measured = {"strategy": strategy, "error": f"{type(error).__name__}: {error}"[:2000]}
            say(f"{model} {strategy}: {measured['error'][:600]}")
        found["strategies"].append(measured)
        keep(found)
    clock.release_memory()


def say(text: str, end: str = "\n") -> None:
    """Print without waiting, so that a run that is cut off has said what it knew."""
    print(text, end=end, flush=True)


def main(given: Sequence[str] | None = None) -> int:
    """Measure what was asked."""
    strategies = f"sdxl:{sdxl.FASTEST},pixart:{pixart.FASTEST}"
    parser = open_parser(__file__, __doc__, repeats=10, repeated="timed calls", device="auto")
    parser.add_argument("--models", default="sdxl,pixart", help="which, by comma [%(default)s]")
    parser.add_argument("--strategies", default=strategies, help="by comma; 'pixart:full+empty' is for PixArt alone")
    parser.add_argument("--image-size", type=int, default=512, help="pixels per side [%(default)s]")
    parser.add_argument("--steps", type=int, default=0, help="denoising steps; 0: each model's default")
    parser.add_argument("--batch-size", type=int, default=1, help="requests per call [%(default)s]")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--profile", action="store_true", help="name the busiest kernels (CUDA)")
    args = parser.parse_args(given)
    about = describe_run(__file__, args.device)
    nowhere = Path()
    runtime = Runtime(
        "random", choose_machine(args.device, "auto").device, cast(DType, args.dtype),
        min(args.image_size, 32) if args.tiny else args.image_size, assets=nowhere, cache=nowhere, mode="eager",
        random_size="small" if args.tiny else "full",
    )  # fmt: skip
    models: dict[str, dict[str, Any]] = {}

    def keep(found: dict[str, Any]) -> None:
        models[found["model"]] = found
        write_report(args.output, about, {"models": list(models.values())})

    say(f"{about['device']}, torch {about['versions']['torch']}, diffusers {about['versions']['diffusers']}")
    for model in args.models.split(","):
        measure_model(model, runtime, args, keep)
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
