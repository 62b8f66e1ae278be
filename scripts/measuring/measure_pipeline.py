"""Measures a pipeline of diffusers with random weights, from its configurations alone: latency, memory, compilation.

    python scripts/measuring/measure_pipeline.py
    python scripts/measuring/measure_pipeline.py ./folder --image-size 1024 --steps 20
    python scripts/measuring/measure_pipeline.py --tiny --device cpu --modes eager

It is loaded as `MODELS=hub:FOLDER WEIGHTS=random` loads it. flux-dev writes FLUX.1-dev's configurations first. In each
mode the pipeline is loaded anew, with the same weights, so that images can be compared.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch

from benchmark.measure.clock import Clock
from benchmark.measure.machine import choose_machine
from benchmark.measure.stages import time_stages
from benchmark.settings.fields import ASSETS
from models import diffusers_hub
from models.base import DType, Mode, Request, Runtime
from models.pipelines.generator import DiffusersGenerator
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.pipeline_configurations import WRITERS

PROMPT = "a pink robot with a round head, one red eye, a moustache and an open barrel body, in a forest"
WARMUPS = 2


def request(index: int, batch: int) -> list[Request]:
    """Return the requests of one call; each has its own prompt and seed."""
    return [Request(i, f"{PROMPT} {index} {i}", 1000 * index + i) for i in range(batch)]


def measure_mode(folder: Path, runtime: Runtime, args: argparse.Namespace) -> tuple[dict[str, Any], torch.Tensor]:
    """Return a mode's figures, and `images_BCHW` of the first requests."""
    clock = Clock(runtime.device)
    clock.release_memory()
    clock.reset_peak_memory()
    load = partial(diffusers_hub.FAMILY.load, diffusers_hub.Options(id=str(folder), steps=args.steps), runtime)
    generator, load_s = clock.time(load)
    assert isinstance(generator, DiffusersGenerator)
    loaded_bytes = clock.peak_memory_bytes()
    calls = [partial(generator.generate, request(index, args.batch_size)) for index in range(args.repeats)]
    images_BCHW, first_s = clock.time(calls[0])
    for _ in range(WARMUPS):
        calls[0]()
    clock.reset_peak_memory()
    latencies_s = [clock.time(call)[1] for call in calls]
    found: dict[str, Any] = {
        "mode": runtime.mode,
        "pipeline": type(generator.pipeline).__name__,
        "parameters": generator.parameters,
        "arguments": generator.arguments,
        "notes": generator.notes,
        "load_s": load_s,
        "first_call_s": first_s,
        "median_s": statistics.median(latencies_s),
        "latencies_s": latencies_s,
        "peak_memory_bytes": clock.peak_memory_bytes(),
        "peak_memory_of_loading_bytes": loaded_bytes,
    }
    if (done := generator.sped_up) is not None:
        found |= {"compiled_modules": done.modules, "graphs": done.graphs, "without_graphs": done.plain}
    times = time_stages(generator, request(0, args.batch_size), clock, statistics.fmean(latencies_s))
    found["stages_s"] = {part.name: part.seconds for part in times.stages}
    return found, images_BCHW.cpu()


def measure(folder: Path, args: argparse.Namespace, about: dict[str, Any]) -> None:
    """Measure each mode, and write and print what was found."""
    device = choose_machine(args.device, "auto").device
    figures: dict[str, Any] = {"modes": []}
    expected: torch.Tensor | None = None
    for mode in args.modes.split(","):
        runtime = Runtime(
            "random", device, cast(DType, args.dtype), args.image_size, ASSETS, folder / "cache", mode=cast(Mode, mode)
        )
        found, images_BCHW = measure_mode(folder, runtime, args)
        if expected is not None:
            difference = (images_BCHW.int() - expected.int()).abs().float()
            first = figures["modes"][0]
            found |= {
                "mean_difference_of_255": float(difference.mean()),
                "max_difference_of_255": float(difference.max()),
                "as_fast_as_first": first["median_s"] / found["median_s"],
            }
        else:
            expected = images_BCHW
        figures["modes"].append(found)
        write_report(args.output, about, figures)
        say(found)


def say(found: dict[str, Any]) -> None:
    """Print a mode's figures without waiting, so that a run that is cut off has said what it knew."""
    parts = [f"{found['median_s']:.4f} s", f"first call {found['first_call_s']:.1f} s", f"load {found['load_s']:.1f} s"]
    if found["peak_memory_bytes"] is not None:
        parts.append(f"peak {found['peak_memory_bytes'] / 2**30:.1f} GiB")
    if "as_fast_as_first" in found:
        parts.append(f"{found['as_fast_as_first']:.2f}x as fast")
        parts.append(f"images differ by {found['mean_difference_of_255']:.2f} of 255 on average")
    if "graphs" in found:
        parts.append(f"compiled modules {found['compiled_modules']}, graphs {found['graphs']}")
    print(f"{found['pipeline']} {found['mode']}: {', '.join(parts)}", flush=True)
    print("\n".join(f"  {note}" for note in found["notes"]), flush=True)


def main(given: Sequence[str] | None = None) -> int:
    """Measure what was asked."""
    parser = open_parser(__file__, __doc__, repeats=10, repeated="timed calls", device="auto")
    parser.add_argument(
        "pipeline", nargs="?", default="flux-dev", help=f"a folder, or {', '.join(WRITERS)} [%(default)s]"
    )
    parser.add_argument("--modes", default="eager,compiled", help="by comma [%(default)s]")
    parser.add_argument("--image-size", type=int, default=512, help="pixels per side [%(default)s]")
    parser.add_argument("--steps", type=int, default=28, help="denoising steps [%(default)s]")
    parser.add_argument("--batch-size", type=int, default=1, help="requests per call [%(default)s]")
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "float16", "bfloat16"))
    args = parser.parse_args(given)
    about = describe_run(__file__, args.device)
    if args.tiny:
        args.image_size, args.steps = min(args.image_size, 32), min(args.steps, 2)
    if args.pipeline not in WRITERS:
        measure(Path(args.pipeline), args, about)
        return 0
    with TemporaryDirectory() as folder:
        measure(WRITERS[args.pipeline](Path(folder), args.tiny), args, about)
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
