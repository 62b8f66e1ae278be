"""Times VAR and Infinity at full size with random weights: MODE=compiled, beside eager in bfloat16 and in TF32.

    python scripts/measuring/measure_next_scale.py --output runs/next_scale.json
    python scripts/measuring/measure_next_scale.py --cases var-d16:1,infinity-1M:1 --profile
    python scripts/measuring/measure_next_scale.py --tiny --device cpu --repeats 2

Every time is CUDA-synchronised, from labels or encoded text to uint8 images on the device; median after warm-up. The
text encoder is not in Infinity's figures. Peaks are torch's, from before the first call on.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from benchmark.measure.clock import Clock
from benchmark.measure.machine import choose_machine
from models.networks.cuda_graphs import ProgramPool
from models.next_scale_programs import run_scales
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.next_scale_cases import Case, open_case

# The goals, milliseconds a batch.
BARS_MS = {"var-d16:1": 9, "var-d16:8": 25, "var-d16:64": 150, "var-d30:1": 25, "infinity-1M:1": 350}
BARS_MS |= {"infinity-1M:4": 1320, "infinity-0.06M:1": 45}
DEFAULT_CASES = ",".join(BARS_MS)
FORMS = {"compiled": ("bfloat16", "compiled"), "eager bf16": ("bfloat16", "eager"), "eager TF32": ("float32", "eager")}


def measure(case: Case, batch: int, repeats: int, budget_s: float, clock: Clock) -> dict[str, Any]:
    """Return the times of one form at one batch size, the first call apart."""
    clock.reset_peak_memory()
    _, first_s = clock.time(lambda: case.run(batch, 0))
    for seed in (1, 2):
        case.run(batch, seed)
    times: list[float] = []
    end = clock.now() + budget_s
    while len(times) < repeats and (clock.now() < end or len(times) < 3):
        times.append(clock.time(partial(case.run, batch, len(times)))[1])
    return {
        "median_ms": 1e3 * statistics.median(times),
        "min_ms": 1e3 * min(times),
        "max_ms": 1e3 * max(times),
        "samples": len(times),
        "first_call_s": first_s,
        "peak_gb": (clock.peak_memory_bytes() or 0) / 1e9,
        "reserved_gb": torch.cuda.max_memory_reserved() / 1e9 if torch.cuda.is_available() else 0.0,
    }


def kernel_times(case: Case, batch: int, clock: Clock, calls: int = 3) -> dict[str, Any]:
    """Return the device time of one call by kind of kernel, and what no kernel fills, in ms."""
    from torch.profiler import ProfilerActivity, profile

    def run_calls() -> None:
        for seed in range(calls):
            case.run(batch, seed)

    case.run(batch, 0)
    clock.synchronize()
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        wall_ms = 1e3 * clock.time(run_calls)[1] / calls
    kinds: dict[str, float] = {}
    names: dict[str, tuple[float, int]] = {}
    for event in record.key_averages():
        spent = event.self_device_time_total / 1e3 / calls
        kinds[kind_of(event.key)] = kinds.get(kind_of(event.key), 0.0) + spent
        names[event.key] = (spent, event.count // calls)
    top = sorted(names.items(), key=lambda item: -item[1][0])[:80]
    return {
        "wall_ms": wall_ms,
        "kernels": sum(count for _, count in names.values()),
        "kinds_ms": dict(sorted(kinds.items(), key=lambda item: -item[1])),
        "gaps_ms": wall_ms - sum(kinds.values()),
        "top": [{"name": name[:110], "ms": ms, "count": count} for name, (ms, count) in top],
    }


def kind_of(kernel: str) -> str:
    """Return what a kernel does, told by its name."""
    name = kernel.lower()
    kinds = {
        "attention": ("flash", "fmha", "attention", "sdpa", "attend_scale"),
        "fused norm and residual": ("residual_norm",),
        "fused split of heads": ("split_heads",),
        "sampling": ("draw_codes", "uniform_kernel", "log_", "exponential"),
        "group norm": ("moments", "affine", "groupnorm", "group_norm", "rowwisemoments"),
        "convolution": ("conv", "cudnn", "fprop", "implicit", "nhwc", "winograd", "add_kernel", "interleave"),
        "matrix product": (
            "skinny_linear",
            "gemm",
            "cutlass",
            "cublas",
            "splitk",
            "gemv",
            "nvjet",
            "dot_kernel",
            "xmma",
        ),
        "copies": ("memcpy", "memset", "copy"),
    }
    return next((kind for kind, words in kinds.items() if any(word in name for word in words)), "other elementwise")


class PartOfProgram:
    """A program that stops after some scales, before the decoder."""

    def __init__(self, program: Any, scales: int) -> None:
        self.program, self.scales = program, scales

    def run(self) -> torch.Tensor:
        latents: torch.Tensor = run_scales(self.program.steps(), self.scales)[2]
        return latents


def scale_times(case: Case, batch: int, clock: Clock, repeats: int = 10) -> list[float]:
    """Return the ms until each scale is done, as graphs that end there."""
    program = case.program(batch, 0)
    return [
        until_scale_ms(PartOfProgram(program, scale + 1), clock, repeats)
        for scale in range(len(program.noise.exponentials))
    ]


def until_scale_ms(part: PartOfProgram, clock: Clock, repeats: int) -> float:
    pool: ProgramPool[PartOfProgram] = ProgramPool(True)
    with torch.inference_mode():
        call = partial(pool, 0, lambda: part, lambda _: None)
        call()
        return 1e3 * statistics.median(clock.time(call)[1] for _ in range(repeats))


def main(given: Sequence[str] | None = None) -> int:
    """Measure what was asked."""
    parser = open_parser(__file__, __doc__, repeats=50, repeated="timed calls at most", device="cuda")
    parser.add_argument("--cases", default=DEFAULT_CASES, help="model:batch, comma-separated [%(default)s]")
    parser.add_argument("--forms", default=",".join(FORMS), help="comma-separated [%(default)s]")
    parser.add_argument("--budget", type=float, default=12.0, help="most seconds of repeats; eager: a fifth")
    parser.add_argument("--profile", action="store_true", help="also where each millisecond of compiled goes")
    arguments = parser.parse_args(given)
    about = describe_run(__file__, arguments.device)
    device = choose_machine(arguments.device, "auto").device
    clock = Clock(device)
    cases: dict[str, list[int]] = {}
    for entry in arguments.cases.split(","):
        name, batch = entry.split(":")
        cases.setdefault(name, []).append(int(batch))
    results: dict[str, Any] = {}
    for name, batches in cases.items():
        for form in arguments.forms.split(","):
            dtype, mode = FORMS[form]
            torch.backends.cuda.matmul.allow_tf32 = form == "eager TF32"
            budget_s = arguments.budget / (1 if form == "compiled" else 5)
            case = open_case(name, device, dtype, mode, arguments.tiny)  # type: ignore[arg-type]
            for batch in batches:
                label = f"{name}:{batch}"
                result = results.setdefault(label, {"bar_ms": BARS_MS.get(label)})
                try:
                    result[form] = measure(case, batch, arguments.repeats, budget_s, clock)
                    if arguments.profile and form == "compiled" and device.startswith("cuda"):
                        result["profile"] = kernel_times(case, batch, clock)
                        result["until_scale_ms"] = scale_times(case, batch, clock)
                except (RuntimeError, torch.OutOfMemoryError) as error:
                    result[form] = {"error": " ".join(str(error).split())[:500]}
                write_report(arguments.output, about, {"results": results})
                print(f"{label:18} {form:11} {summary(result[form])}", flush=True)
            case.close(clock)
            del case
            clock.release_memory()
    return 0


def summary(figures: dict[str, Any]) -> str:
    if "error" in figures:
        return f"failed: {figures['error']}"
    return (
        f"{figures['median_ms']:9.2f} ms ({figures['min_ms']:.2f}..{figures['max_ms']:.2f}, N = {figures['samples']}), "
        f"first call {figures['first_call_s']:.1f} s, peak {figures['peak_gb']:.1f} GB "
        f"(reserved {figures['reserved_gb']:.1f})"
    )


if __name__ == "__main__":
    end_script(__file__, main)
