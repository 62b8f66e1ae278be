"""Which rounds of a run can be compared with those of another run.

Within a run, columns take turns, and what slows all of them cancels. Between two runs nothing cancels. So on a CPU,
where the models themselves use every core, a round beside other work does not count here, though it does within a run.
"""

from __future__ import annotations

from benchmark.report.disturbances import is_heavy_load
from benchmark.report.model_result import ModelResult, Round


def counted_means_s(model: ModelResult) -> list[float]:
    """Return the mean latency of each round that counts between runs: complete, and undisturbed."""
    return [made.mean_latency_s for made in model.rounds if made.counts and not is_beside_other_work(made)]


def count_beside_other_work(model: ModelResult) -> int:
    """Return how many rounds do not count for other work on the CPU alone."""
    return sum(made.counts and is_beside_other_work(made) for made in model.rounds)


def is_beside_other_work(made: Round) -> bool:
    """Return whether other work kept the CPU busy while a model ran on it; of a GPU's round this is never so."""
    has_card = any(state.card_uuid or state.unread for state in made.states)
    return not has_card and any(map(is_heavy_load, made.states))
