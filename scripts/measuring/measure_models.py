"""Times the SDXL and PixArt adapters against stock diffusers, and their compiled forms against each other.

Full-size networks with random weights, so nothing is downloaded. For each model: (a) the adapter and the same
pipeline called by hand take turns in one process; (b) each strategy of MODE=compiled gets a fresh pipeline with the
same weights, and is told how far its images are from the eager ones.

    python scripts/measuring/measure_models.py --output adapters.json
    python scripts/measuring/measure_models.py --strategies full+fuse+nhwc,pixart:full+fuse+empty --profile
    python scripts/measuring/measure_models.py --small --device cpu --strategies full
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from benchmark.measure.clock import Clock
from benchmark.measure.stages import time_stages
from models import pixart, sdxl
from models.base import DType, ModelFamily, Request, Runtime
from models.diffusers_pipeline import DiffusersGenerator

FAMILIES: dict[str, ModelFamily] = {"sdxl": sdxl.FAMILY, "pixart": pixart.FAMILY}
RATIO_BAR = 1.03
COMPILED_BAR_S = {"sdxl": 0.26, "pixart": 0.16}
COMPILE_BAR_S = 100.0
PROMPT = "a pink robot with a round head, one red eye, a moustache and an open barrel body, in a forest, image"


def request(index: int, batch: int) -> list[Request]:
    """Return the requests of one call; each has its own prompt and seed."""
    return [Request(i, f"{PROMPT} {index} {i}", 1000 * index + i) for i in range(batch)]


def synchronize(device: str) -> None:
    """Wait for the device's work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds(call: Callable[[], object], device: str) -> float:
    """Return how long a call takes, its device work included."""
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - start


def release(device: str) -> None:
    """Give back the memory of the pipeline that was dropped before."""
    torch._dynamo.reset()
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def load(model: str, runtime: Runtime, steps: int) -> DiffusersGenerator:
    """Return the adapter with random weights, the same at each call."""
    family = FAMILIES[model]
    options = family.options(steps=steps) if steps else family.options()
    generator = family.load(options, runtime)
    assert isinstance(generator, DiffusersGenerator)
    return generator


def by_hand(generator: DiffusersGenerator, requests: list[Request]) -> torch.Tensor:
    """Call the adapter's pipeline as a diffusers user would, up to the images that it returns."""
    noise = [torch.Generator("cpu").manual_seed(one.seed) for one in requests]
    prompts = [one.prompt for one in requests]
    images: torch.Tensor = generator.pipeline(prompts, generator=noise, output_type="pt", **generator.arguments).images
    return images


def compare_to_stock(generator: DiffusersGenerator, device: str, repeats: int, batch: int) -> dict[str, Any]:
    """Return the adapter's and the stock call's latencies, measured in turns, and the ratio of their medians."""
    for index in range(2):
        generator.generate(request(index, batch))
        by_hand(generator, request(index, batch))
    adapter_s: list[float] = []
    stock_s: list[float] = []
    for index in range(repeats):
        asked = request(index, batch)
        turns = [(adapter_s, partial(generator.generate, asked)), (stock_s, partial(by_hand, generator, asked))]
        # Whoever is first in a turn changes, so that neither profits from the clock's or the cache's state.
        for taken_s, call in turns if index % 2 else reversed(turns):
            taken_s.append(seconds(call, device))
    ratio = statistics.median(adapter_s) / statistics.median(stock_s)
    return {
        "adapter_median_s": statistics.median(adapter_s),
        "stock_median_s": statistics.median(stock_s),
        "ratio": ratio,
        "ratio_bar": RATIO_BAR,
        "adapter_s": adapter_s,
        "stock_s": stock_s,
    }


def stage_seconds(generator: DiffusersGenerator, device: str, batch: int) -> dict[str, float]:
    """Return where one call's time goes: text encoding, denoising, decoding."""
    names = {"text encoder": "text_s", "backbone": "denoise_s", "decoder": "decode_s"}
    times = time_stages(generator, request(0, batch), Clock(device))
    return {names[part.name]: part.seconds for part in times}


def busiest_kernels(generator: DiffusersGenerator, batch: int, count: int = 12) -> dict[str, Any]:
    """Return the device's busy seconds in one call and the kernels that take most of them."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        generator.generate(request(0, batch))
        torch.cuda.synchronize()
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
    device, batch = runtime.device, args.batch_size
    first_s = seconds(lambda: generator.generate(request(0, batch)), device)
    for index in range(1, 3):
        generator.generate(request(index, batch))
    latencies_s = [seconds(partial(generator.generate, request(index, batch)), device) for index in range(args.repeats)]
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
        **stage_seconds(generator, device, batch),
    }
    if device.startswith("cuda"):
        result["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
        if args.profile:
            result |= busiest_kernels(generator, batch)
    return result


def measure_model(model: str, runtime: Runtime, args: argparse.Namespace, keep: Callable[[], None]) -> dict[str, Any]:
    """Return all that was measured of one model; `keep` is called whenever there is something more."""
    generator = load(model, runtime, args.steps)
    expected = [generator.generate(request(index, args.batch_size)).int().cpu() for index in range(2)]
    found: dict[str, Any] = {
        "model": model,
        "parameters": generator.parameters,
        "arguments": generator.arguments,
        "picture_std_of_255": float(expected[0].float().std()),
        "stock": compare_to_stock(generator, runtime.device, args.repeats, args.batch_size),
        "eager_stages": stage_seconds(generator, runtime.device, args.batch_size),
        "strategies": [],
    }
    args.results.append(found)
    keep()
    stock = found["stock"]
    say(f"{model}: adapter {stock['adapter_median_s']:.4f} s, stock {stock['stock_median_s']:.4f} s, ", end="")
    say(f"ratio {stock['ratio']:.4f} (bar {RATIO_BAR})")
    del generator
    for entry in filter(None, args.strategies.split(",")):
        only, _, strategy = entry.rpartition(":")
        if only not in ("", model):
            continue
        release(runtime.device)
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
        keep()
    release(runtime.device)
    return found


def say(text: str, end: str = "\n") -> None:
    """Print without waiting, so that a run that is cut off has said what it knew."""
    print(text, end=end, flush=True)


def versions(device: str) -> dict[str, str]:
    """Return what the figures depend on."""
    import diffusers
    import transformers

    name = torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor() or platform.machine()
    return {
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
        "device": name,
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python", "scripts/measuring/measure_models.py", *sys.argv[1:]]),
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    strategies = f"sdxl:{sdxl.FASTEST},pixart:{pixart.FASTEST}"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="sdxl,pixart", help="which, by comma")
    parser.add_argument("--strategies", default=strategies, help="by comma; 'pixart:full+empty' is for PixArt alone")
    parser.add_argument("--image-size", type=int, default=512, help="pixels per side")
    parser.add_argument("--steps", type=int, default=0, help="denoising steps; 0: each model's default")
    parser.add_argument("--batch-size", type=int, default=1, help="requests per call")
    parser.add_argument("--repeats", type=int, default=10, help="timed calls")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "float16", "bfloat16"))
    parser.add_argument("--small", action="store_true", help="small networks: proves the script, measures nothing")
    parser.add_argument("--profile", action="store_true", help="name the busiest kernels (CUDA)")
    parser.add_argument("--output", type=Path, default=None, help="JSON file, rewritten as results come in")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Measure what was asked."""
    args = parse(arguments)
    args.results = []
    nowhere = Path()
    runtime = Runtime(
        "random", args.device, cast(DType, args.dtype), args.image_size, assets=nowhere, cache=nowhere, mode="eager",
        random_size="small" if args.small else "full",
    )  # fmt: skip
    about = versions(args.device)

    def keep() -> None:
        if args.output is not None:
            args.output.write_text(json.dumps({"about": about, "models": args.results}, indent=1) + "\n")

    say(f"{about['device']}, torch {about['torch']}, diffusers {about['diffusers']}")
    for model in args.models.split(","):
        measure_model(model, runtime, args, keep)


if __name__ == "__main__":
    main()
