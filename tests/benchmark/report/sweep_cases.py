"""Columns of a sweep, made by hand: configurations of models with their rounds and scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from report_cases import SDXL, report, with_rounds

from benchmark.report.model_result import ModelResult
from benchmark.report.results import RunResult
from metrics.base import Score

MARGIN = 0.008  # of the scores below, where QUALITY_MARGIN is "auto": twice the half-width of their floor's interval
PIXART_STEPS = (20, 12, 8, 4)


def configuration(
    model: str, seconds: float, kid: float, spread: float = 0.0005, options: Mapping[str, object] | None = None,
    mode: str = "eager", dtype: str = "bfloat16", images: int = 256, name: str = "", number: int = 0,
) -> ModelResult:  # fmt: skip
    """Return a column of four rounds that differ a little, and a KID whose replicates have a spread of their own."""
    family = model.split("-")[0].lower()
    keyed = {f"{family}_{key}".upper(): str(value) for key, value in (options or {}).items()}
    details = [f"{key} {value}" for key, value in (options or {}).items()] + ([mode] if mode != "eager" else [])
    title = name or (f"{model} ({', '.join(details)})" if details else model)
    column = with_rounds(SDXL, *(seconds * (1 + 0.004 * ((at + number) % 3 - 1)) for at in range(4)))
    return replace(
        column, name=title, model=model, family=family, options=keyed, axes={"MODE": mode, "DTYPE": dtype}, mode=mode,
        images=images, scores=(kernel(kid, spread, images, number),),
    )  # fmt: skip


def kernel(kid: float, spread: float, images: int = 256, number: int = 0) -> Score:
    """Return a KID; spread: about the standard error of its difference to another one of another number."""
    waves = [math.sin(2 * math.pi * (number + 1) * at / 20) for at in range(20)]
    replicates = {"generated": tuple(kid + spread / math.sqrt(20) * wave for wave in waves)}
    return Score(
        "kid", "KID-robots (lower = better)", "KID", kid, "lower", images, 2000, "robots",
        interval=(kid - 0.002, kid + 0.002), replicates=replicates, floor=0.0, floor_count=images,
        floor_interval=(-MARGIN / 2, MARGIN / 2), decimals=4,
    )  # fmt: skip


def pixart(
    seconds: Sequence[float], kids: Sequence[float], spread: float = 0.0005, **changes: object
) -> list[ModelResult]:
    """Return PixArt at 20, 12, 8 and 4 steps, or at the first of these."""
    return [
        configuration("PixArt", s, kid, spread, {"steps": steps}, number=at, **changes)  # type: ignore[arg-type]
        for at, (steps, s, kid) in enumerate(zip(PIXART_STEPS, seconds, kids, strict=False))
    ]


def sweep_of(*columns: ModelResult, **changes: object) -> RunResult:
    return report(*columns, num_samples=256, **changes)  # type: ignore[arg-type]
