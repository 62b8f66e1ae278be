"""Each reason why a column has no energy has words that fit its cell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmark.report.cell_reasons import shorten_reason
from benchmark.report.costs import ONLY_BESIDE_OTHERS
from benchmark.report.table import COLUMN_WIDTH

MEASURE = Path(__file__).parents[3] / "benchmark" / "measure"


def text_of(node: ast.expr) -> str:
    """Return a text of the source, with words of NVML or of the system in the place of what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    assert isinstance(node, ast.JoinedStr)
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "not supported" for part in node.values)


def reasons_in_source() -> Iterator[str]:
    """Yield each reason that the energy pass, or NVML for it, writes down."""
    for name in ("energy.py", "nvml.py"):
        for node in ast.walk(ast.parse((MEASURE / name).read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Raise)
                and isinstance(node.exc, ast.Call)
                and ast.unparse(node.exc.func) == ("NotMeasured")
            ):
                (given,) = node.exc.args
                if not isinstance(given, ast.Call):
                    yield text_of(given)
            elif isinstance(node, ast.FunctionDef) and node.name == "_words":
                words = next(each for each in ast.walk(node) if isinstance(each, ast.Dict))
                yield from map(text_of, words.values)
                yield from (text_of(each) for each in ast.walk(node) if isinstance(each, ast.JoinedStr))


def test_every_reason_of_the_energy_pass_fits_a_column_as_it_is_and_says_something() -> None:
    reasons = [*reasons_in_source(), ONLY_BESIDE_OTHERS, "its process was killed by SIGKILL"]
    assert len(reasons) > 15
    for reason in reasons:
        short = shorten_reason(reason)
        assert len(f"n/a ({short})") <= COLUMN_WIDTH, reason
        assert short != "see footer", reason


@pytest.mark.parametrize(
    ("reason", "short"),
    [
        ("no GPU", "no GPU"),
        ("a MIG slice", "a MIG slice"),
        ("other processes on the card: python3 (4711)", "shared card"),
        ("the card tells neither energy nor power: no permission", "no permission"),
        ("nvidia-ml-py is not installed", "no pynvml"),
        ("NVML does not list this card", "not in NVML"),
        ("RuntimeError: something that is too long for a cell", "see footer"),
        ("", ""),
    ],
)
def test_a_reason_is_short_in_a_cell(reason: str, short: str) -> None:
    assert shorten_reason(reason) == short
