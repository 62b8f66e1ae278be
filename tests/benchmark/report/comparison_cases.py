"""Runs of two columns from which the tests of comparisons make what they look at."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from costs_cases import with_states
from report_cases import SDXL, VAR, report, with_rounds

from benchmark.report.model_result import ModelResult
from benchmark.report.results import RunResult, write_results
from metrics.base import Score

GROUPS = 20
KEYED = {
    "SDXL": replace(SDXL, family="sdxl", options={"SDXL_STEPS": "20"}, axes={"MODE": "eager"}, model="SDXL"),
    "VAR-d16": replace(VAR, family="var", options={"VAR_DEPTH": "16"}, axes={"MODE": "eager"}, model="VAR-d16"),
}


def kid(value: float, seed: int = 0, spread: float = 0.0001, reference_seed: int = 0, **changes: object) -> Score:
    """Return a KID whose replicates are noise of these seeds around its value; the same seeds, the same noise."""
    draws = {"generated": random.Random(f"generated {seed}"), "reference": random.Random(f"ref {reference_seed}")}
    replicates = {
        sample: tuple(value + spread * draw.gauss(0, 1) for _ in range(GROUPS)) for sample, draw in draws.items()
    }
    score = Score(
        "kid", "KID Score (lower = better)", "KID", value, "lower", 256, 2000, "inception",
        interval=(value - 3 * spread, value + 3 * spread), replicates=replicates, floor_interval=(-0.001, 0.001),
        decimals=4,
    )  # fmt: skip
    return replace(score, **changes)  # type: ignore[arg-type]


def model(
    name: str = "SDXL", means_s: Sequence[float] = (1.0, 1.001, 0.999, 1.0), scores: Sequence[Score] = (),
    card: str | None = "GPU-1", **changes: object,
) -> ModelResult:  # fmt: skip
    """Return a column with a round for each mean, on this card, None for a CPU."""
    found = replace(with_rounds(KEYED[name], *means_s), scores=tuple(scores))
    if card is not None:
        found = with_states(found, *range(len(means_s)), card_uuid=card)
        rounds = [
            replace(made, states=tuple(replace(state, card_uuid=card) for state in made.states))
            for made in found.rounds
        ]
        found = replace(found, rounds=tuple(rounds))
    return replace(found, **changes)  # type: ignore[arg-type]


def a_run(
    *models: ModelResult, seed: int = 42, settings: Mapping[str, str] | None = None, **changes: object
) -> RunResult:
    """Return a run on known prompts and references."""
    run = report(
        *models, settings={"SEED": str(seed), **(settings or {})}, prompts_identity="prompts",
        reference_identity="references",
    )  # fmt: skip
    return replace(run, **changes)  # type: ignore[arg-type]


def written(folder: Path, **runs: RunResult) -> list[str]:
    """Write each run as NAME.json, and return the paths."""
    paths = [folder / f"{name}.json" for name in runs]
    for path, run in zip(paths, runs.values(), strict=True):
        write_results(run, path)
    return list(map(str, paths))
