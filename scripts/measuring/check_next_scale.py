"""Holds the fast path of VAR and Infinity against the plain one at full size, with random weights, on a GPU.

    python scripts/measuring/check_next_scale.py --output runs/exactness.json
    python scripts/measuring/check_next_scale.py --tiny --device cpu

For each model: (1) both paths in float32 (TF32 off): the same codes; for Infinity bits are forced and compared where
the logits are more than 1e-3 apart; and the same images, graphs and decoder with it, from the same latents within one
level of 255. (2) Both paths in bfloat16 against float32, teacher-forced with the same codes:
root mean square error of the guided logits; the fast path's may be 1.5 times the plain one's. (3) Requests 0..7 one by
one and as one batch, float32: the same latents within 1e-3. Exit status 1 where one fails.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmark.measure.clock import Clock
from benchmark.measure.machine import choose_machine
from models.base import DType, Mode
from models.networks.bsq_vae import BSQVAE
from models.networks.decoding import decode_images
from models.networks.infinity_sampling import BitSampling
from models.networks.infinity_transformer import Infinity
from models.networks.next_scale import guidance_strength, guide
from models.networks.var_transformer import Choice
from models.next_scale_programs import VARProgram
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.next_scale_cases import Case, open_case

ERROR_BAR = 1.5
MARGIN = 1e-3


def steps_of(program: Any, forced: list[Tensor] | None = None) -> list[Any]:
    """Return all scales of a program's run; with `forced` codes or bits in the place of what it would draw."""
    if forced is None:
        return list(program.steps())
    if isinstance(program, VARProgram):
        return list(program.steps(lambda scale, _: Choice(forced[scale])))
    return list(program.steps(lambda scale, _: forced[scale]))


def guided(program: Any, steps: list[Any]) -> list[Tensor]:
    """Return the guided logits of all scales, float32."""
    if isinstance(program, VARProgram):
        count = len(steps)
        return [guide(s.logits_RLV.float(), guidance_strength(1.5, k, count)) for k, s in enumerate(steps)]
    sampling = BitSampling()
    return [sampling.guided(k, step.logits_RLV) for k, step in enumerate(steps)]


def run(name: str, device: str, dtype: DType, mode: Mode, tiny: bool, work: Callable[[Case], Any]) -> Any:
    """Return what `work` answers for this form of the model; all its memory is given back."""
    clock = Clock(device)
    case = open_case(name, device, dtype, mode, tiny)
    try:
        with torch.inference_mode():
            return work(case)
    finally:
        case.close(clock)
        del case
        clock.release_memory()


def to_host(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.cpu() for tensor in tensors]


def check(name: str, device: str, tiny: bool, batch: int) -> dict[str, Any]:
    """Return the figures of one model; `failures` names what does not hold."""
    bits = name.startswith("infinity")

    def sample(case: Case) -> tuple[list[Tensor], list[Tensor]]:
        program = case.program(batch, 0)
        steps = steps_of(program)
        return to_host([step[1] for step in steps]), to_host(guided(program, steps))

    codes, exact = run(name, device, "float32", "eager", tiny, sample)
    forced = codes

    def force(case: Case) -> list[Tensor]:
        program = case.program(batch, 0)
        return to_host(guided(program, steps_of(program, [code.to(device) for code in forced])))

    figures: dict[str, Any] = {"batch": batch, "tokens": sum(code[0].numel() for code in codes)}
    failures = []
    if bits:
        fast = run(name, device, "float32", "compiled", tiny, force)
        wrong = clear = 0
        for mine, plain in zip(fast, exact, strict=True):
            margin = plain[..., 1::2] - plain[..., 0::2]
            decided = margin.abs() > MARGIN
            wrong += int((((mine[..., 1::2] - mine[..., 0::2]) > 0) != (margin > 0))[decided].sum())
            clear += int(decided.sum())
        figures |= {"float32_bits_compared": clear, "float32_bits_that_differ": wrong}
        figures["float32_largest_difference"] = max(
            float((a - b).abs().max()) for a, b in zip(fast, exact, strict=True)
        )
        if wrong:
            failures.append("float32 bits")
    else:
        mine, _ = run(name, device, "float32", "compiled", tiny, sample)
        different = sum(int((a != b).sum()) for a, b in zip(mine, codes, strict=True))
        figures |= {"float32_codes_compared": sum(c.numel() for c in codes), "float32_codes_that_differ": different}
        if different:
            failures.append("float32 codes")
    figures["float32_decoder_largest_difference"] = worst = decoder_difference(name, device, tiny, batch)
    if worst > 1:
        failures.append("float32 decoder")
    errors = {}
    for mode in ("eager", "compiled"):
        logits = run(name, device, "bfloat16", mode, tiny, force)
        squares = sum(float((a - b).double().square().sum()) for a, b in zip(logits, exact, strict=True))
        errors[mode] = (squares / sum(b.numel() for b in exact)) ** 0.5
    figures |= {f"bfloat16_rms_error_{mode}": error for mode, error in errors.items()}
    figures["bfloat16_error_ratio"] = errors["compiled"] / errors["eager"]
    if figures["bfloat16_error_ratio"] > ERROR_BAR:
        failures.append("bfloat16 error")
    figures["failures"] = failures
    return figures


def decoder_difference(name: str, device: str, tiny: bool, batch: int) -> int:
    """Return the largest difference, of 255, of float32 images by the two paths, the fast ones replayed from a graph.

    Infinity's may differ by a bit that only rounding decides, so that its decoders are given the same latents.
    """

    def draw(case: Case) -> Tensor:
        if name.startswith("var"):
            case.run(batch, 1)  # the graph is captured; what is compared is a replay
            return case.run(batch, 0).cpu()
        infinity, vae = case.networks
        assert isinstance(infinity, Infinity)
        assert isinstance(vae, BSQVAE)
        bits = infinity.shape.bits
        signs_BdHW = torch.randn(batch, bits, 16, 16, generator=torch.Generator().manual_seed(0)).sign()
        return decode_images(vae.decode_latents, signs_BdHW.to(device) / bits**0.5, vae.shape.downsampling).cpu()

    plain, fast = (run(name, device, "float32", mode, tiny, draw).int() for mode in ("eager", "compiled"))
    return int((plain - fast).abs().max())


def check_batches(name: str, device: str, tiny: bool) -> dict[str, Any]:
    """Return whether eight requests get the same codes one by one and together, float32."""
    failures, figures = [], {}
    for mode in ("eager", "compiled"):

        def draw(case: Case) -> tuple[Tensor, Tensor]:
            one_by_one = torch.cat([case.program(1, seed).latents() for seed in range(8)])
            return one_by_one.cpu(), case.program(8, 0).latents().cpu()

        # Requests i of a batch have seed and class of call i, so that they are the same requests.
        one_by_one, together = run(name, device, "float32", mode, tiny, draw)
        differing = int(((one_by_one - together).abs().flatten(1).amax(dim=1) > MARGIN).sum())
        figures[f"images_that_differ_{mode}"] = differing
        if differing:
            failures.append(f"batch invariance, {mode}")
    return figures | {"failures": failures}


def main(given: Sequence[str] | None = None) -> int:
    """Check what was asked; return the exit status."""
    parser = open_parser(__file__, __doc__, device="cuda")
    parser.add_argument(
        "--cases", default="var-d16:4,var-d36:1,infinity-0.06M:2,infinity-1M:1", help="model:batch, comma-separated"
    )
    parser.add_argument("--batches", default="var-d16,infinity-0.06M", help="models whose batches are compared")
    arguments = parser.parse_args(given)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    about = describe_run(__file__, arguments.device)
    device, tiny = choose_machine(arguments.device, "auto").device, arguments.tiny
    jobs: list[tuple[str, Callable[[], dict[str, Any]]]] = []
    for entry in filter(None, arguments.cases.split(",")):
        name, batch = entry.split(":")
        jobs.append((entry, partial(check, name, device, tiny, int(batch))))
    for name in filter(None, arguments.batches.split(",")):
        jobs.append((f"{name} 1 and 8", partial(check_batches, name, device, tiny)))
    results: dict[str, Any] = {}
    for label, job in jobs:
        try:
            figures = job()
        except RuntimeError as error:
            figures = {"failures": [" ".join(str(error).split())[:500]]}
        results[label] = figures
        print(f"{label}: {'FAILED ' if figures['failures'] else 'ok '}{figures}", flush=True)
        write_report(arguments.output, about, {"results": results})
    return int(any(figures["failures"] for figures in results.values()))


if __name__ == "__main__":
    end_script(__file__, main)
