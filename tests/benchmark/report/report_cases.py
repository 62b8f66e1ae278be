"""Runs, columns and names from which the tests of the report make what they look at."""

from __future__ import annotations

import math
import random
import unicodedata
from dataclasses import replace

from benchmark.measure.findings import Energy, Findings, MachineState, Roofline, Stages, StageTime
from benchmark.report.host_throughput import Counted, HostThroughput
from benchmark.report.model_result import Bulk, Card, CardRound, ModelResult, Round
from benchmark.report.results import RunResult
from benchmark.report.verdicts import decide
from metrics.base import Score

PIECES = (
    "=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "＝1", "＋1", "－1", "＠x", "\t=1", "\r=1", "  =1",
    "\u3000=1", "\xa0=1", "\x1b[31m", "\x1b]0;title\x07", "\x9b2J", "\x00", "\x7f", "\n", "\r\n", "\v", "\f",
    "\x1c", "\x85", "\u2028", "\u2029", '"', "'", '""', ",", ";", "|", "<", ">", "&",
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</title>", "<!--", "-->", "]]>", "&lt;",
    "javascript:", "\u202e", "\u2066", "\u2069", "\u200f", "\u061c", "\u200b", "\ufeff", "\ud800", "\udfff",
    "\U000e0041", "name", "Ünïcode", "名前", "🤖", "\\n", "%s", "{0}", "$(id)", "`id`",
)  # fmt: skip


def fid(value: float) -> Score:
    return Score("fid", "FID Score (lower = better)", "FID", value, "lower", 6000, 6000, "inception")


def timed_round(number: int, *latencies_s: float, **changes: object) -> Round:
    """Return a complete round of these batches of one image each; of later rounds, all images are the recorded ones."""
    count = len(latencies_s)
    found = Round(
        number, (f"{number:08x}",), latencies_s, images=count, complete=True, equal=count * (number > 0),
        compared=count * (number > 0), load_s=1.0, first_call_s=2.0, warmup_s=3.0, warmup_agreed=True,
    )  # fmt: skip
    return replace(found, **changes)  # type: ignore[arg-type]


def with_rounds(model: ModelResult, *means_s: float, spread: float = 0.02) -> ModelResult:
    """Return the model with a round of two batches for each of the means; spread: half of their distance, relative."""
    rounds = [timed_round(at, mean_s * (1 - spread), mean_s * (1 + spread)) for at, mean_s in enumerate(means_s)]
    return replace(model, rounds=tuple(rounds))


def column(
    name: str, mean_s: float, std_s: float, parameters: float, fid_value: float | None, rounds: int = 4
) -> ModelResult:
    """Return a column of so many rounds of two batches; each round has this mean, all batches this sample deviation."""
    found = [timed_round(at, mean_s - std_s, mean_s + std_s) for at in range(rounds - 1)]
    last_s = std_s * math.sqrt(0.5)  # the squares of n batches add up to n - 1 variances
    return ModelResult(
        name=name, mode="eager", parameters=int(parameters * 1e6), image_size=512, batch_size=1, images=2,
        timed_images=2, rounds=(*found, timed_round(rounds - 1, mean_s - last_s, mean_s + last_s)),
        peak_memory_bytes=None, notes=(), folder="",
        scores=() if fid_value is None else (fid(fid_value),), unscored={},
    )  # fmt: skip


SDXL = column("SDXL", 3.45, 0.23, 2600, 15.2)
VAR = column("VAR-d16", 1.89, 0.15, 310, 12.8)
PIXART = column("PixArt", 2.10, 0.10, 610.9, 13.0)


def report(*models: ModelResult, rounds: int = 4, **changes: object) -> RunResult:
    run = RunResult(
        models=models, failures={}, dataset="Gundam", dataset_note="", num_samples=2, rounds=rounds, device="a GPU",
        dtype="bfloat16",
        weights="pretrained", versions={"torch": "2"}, settings={}, started="2026-01-01", protocol="timed",
        verdicts=decide(models, rounds),
    )  # fmt: skip
    return replace(run, **changes)  # type: ignore[arg-type]


def with_scores(model: ModelResult, count: int, kid: float, spread: float = 0.001) -> ModelResult:
    """Return the model with an FID of so many images and a KID with replicates."""
    replicates = {"generated": tuple(kid + spread * (i % 5 - 2) for i in range(20))}
    kernel = Score(
        "kid", "KID Score (lower = better)", "KID", kid, "lower", count, 2000, "inception",
        interval=(kid - spread, kid + spread), replicates=replicates, decimals=4,
    )  # fmt: skip
    return replace(model, scores=(replace(fid(20.0), n_generated=count), kernel))


def hostile_name(number: int) -> str:
    draw = random.Random(number)
    return "".join(draw.choice(PIECES) for _ in range(draw.randint(1, 6)))


def run_with(name: str) -> RunResult:
    """Return a run of two columns, with `name` at every place where text from elsewhere can stand."""
    first = column(name, 3.45, 0.23, 2600, 15.2)
    score = replace(first.scores[0], identity=name, floor=1.0, floor_count=3, floor_meaning=name)
    first = replace(
        first, scores=(score,), warnings=(name,), notes=(name,), unscored={"kid": name}, folder=name, images=1,
        family=name, options={name: name}, axes={"MODE": name}, bulk=Bulk((16, 8), 4, 2.0, 2.0),
        rounds=(*first.rounds, timed_round(4, 3.45, equal=0, complete=False, warmup_agreed=False)),
    )  # fmt: skip
    rounds = [replace(made, findings=findings_with(name), states=(state_with(name, 0.0),)) for made in first.rounds]
    rounds[1] = replace(rounds[1], states=(state_with(name, 0.0), state_with(name, 5.0, name)))
    cards = (
        Card(f"{name}2", (CardRound(0, (9.0,), True, (state_with(name, 0.0),)),)),
        Card(name, (CardRound(0, (9.0,), False),)),
    )
    first = replace(
        first, rounds=tuple(rounds), cards=cards, made_by={name: {name: 1, "0": 2}},
        host_throughput=HostThroughput(name, name, 2, "GPU", Counted(9.0, 70.0), None, name, name),
    )  # fmt: skip
    return report(
        first, column("Other", 1.0, 0.1, 10, 3.0), dataset=name, dataset_note=name, device=name, protocol=name,
        failures={name: name}, versions={name: name}, settings={"DATASET": name},
    )  # fmt: skip


def findings_with(name: str) -> Findings:
    """Return what passes found, with `name` at every place where text can stand."""
    return Findings(
        Stages(
            (StageTime("backbone", 3.0, 2, (1.0, 1.9)), StageTime("decoder", 0.6, 1, (0.5,))), 3.6, 3.45, 3.45, 2, 1
        ),
        None, Energy(100.0, 2.0, 5.0, 90.0, 50.0, "counter", (name,)), Roofline(1e12, 1e10, 1e14, 1e12, name),
        {"memory": name, name: name},
    )  # fmt: skip


def state_with(name: str, unix_s: float, *other_processes: str) -> MachineState:
    return MachineState(
        unix_s, card_uuid=name, driver=name, other_processes=other_processes, clock_limits=(name,), other_cpu_cores=3.0,
        cpu_cores=4, cpu_governor=name if other_processes else f"{name}!", unread=name,
    )  # fmt: skip


def hidden(text: str) -> list[str]:
    return [it for it in text if unicodedata.category(it) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
