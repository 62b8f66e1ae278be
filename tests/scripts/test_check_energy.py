"""The check of energy: what it says of a machine without a counter, and which bars it holds processes against."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.measure.findings import Energy, MachineState
from scripts.measuring import check_energy
from scripts.measuring.check_energy import describe_process, judge
from scripts.measuring.energy_rounds import EnergySpread, Measured, spread_of

START = MachineState(0.0)


def energy(joules: float, mean_power_w: float | None = 500.0) -> Energy:
    return Energy(joules, 20.0, joules * 20 / 500.0, mean_power_w, 90.0, "counter", ("sw power cap",))


def test_without_a_gpu_every_process_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "energy.json"
    assert check_energy.main(["--tiny", "--output", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"VAR-d16, eager, process {number}: n/a (no GPU)" for number in (1, 2)]
    (column,) = json.loads(output.read_text())["columns"]
    assert [process["reason"] for process in column["processes"]] == ["no GPU", "no GPU"]
    assert column["processes"][0]["end"]["cpu_cores"] > 0


def test_the_range_is_the_largest_less_the_smallest_over_the_mean() -> None:
    found = [Measured(energy(joules), "", 1.0, START, START) for joules in (95.0, 100.0, 105.0)]
    spread = spread_of([*found, Measured(None, "stopped", 1.0, START, START)])
    assert spread is not None
    assert spread.mean_j == 100.0
    assert spread.range == pytest.approx(0.1)
    assert spread.power_ratios == pytest.approx([1.0, 1.0, 1.0])
    assert spread_of(found[:1]) is None


@pytest.mark.parametrize(
    ("mode", "joules", "power_w", "met"),
    [
        ("compiled", 104.0, 500.0, {"power_ratio": True, "range": True}),
        ("compiled", 106.0, 500.0, {"power_ratio": True, "range": False}),
        ("eager", 106.0, 500.0, {"power_ratio": True}),
        ("eager", 101.0, 470.0, {"power_ratio": False}),
        ("eager", 101.0, None, {"power_ratio": True}),
    ],
)
def test_compiled_models_are_held_to_a_range_and_all_to_the_power(
    mode: str, joules: float, power_w: float | None, met: dict[str, bool]
) -> None:
    assert judge(mode, EnergySpread((energy(100.0), energy(joules, power_w)))) == met


def test_a_process_is_one_line_with_all_that_may_explain_it() -> None:
    start = MachineState(0.0, other_processes=("python3 (77)",))
    assert describe_process(Measured(energy(100.0), "", 1.0, start, start)) == (
        "100 J/image over 4.00 s (counter); 500 W, energy / (power x time) 1.000; idle 90 W; "
        "held down by sw power cap; beside python3 (77)"
    )
