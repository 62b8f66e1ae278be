"""report.html shows where time, energy and memory go: bars of stages, a roofline, tables, and the machine's state."""

from __future__ import annotations

import math
import random
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape
from itertools import pairwise
from pathlib import Path

import pytest
from costs_cases import (
    CARD,
    INFINITY_SCALES_S,
    VAR_SCALES_S,
    both_ends,
    energy,
    large_run,
    stage,
    stages,
    with_findings,
    with_states,
)
from report_cases import SDXL, VAR, report, with_rounds

from benchmark.measure.findings import Findings, Roofline
from benchmark.report.html.costs import tabulate_energy, tabulate_memory
from benchmark.report.html.machine import tabulate_states
from benchmark.report.html.page import write_html_report
from benchmark.report.html.rooflines import LABEL_HEIGHT, show_rooflines, spread_labels
from benchmark.report.html.stage_bars import MOST_SEGMENTS, show_stages
from benchmark.report.model_result import ModelResult

HEADINGS = ("Where the time goes", "Energy", "Roofline", "Memory")
MODEL = with_rounds(VAR, 1.0, 1.0, 1.0)


def rows_of(page: str) -> dict[str, list[str]]:
    """Return the cells of every row of every table behind its label; of equal labels, those of the last row."""
    return {row[0]: row[1:] for row in cells_of(page) if row}


def cells_of(page: str) -> list[list[str]]:
    """Return the texts of the cells of every row of every table."""
    rows = (re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", page))
    return [list(map(unescape, row)) for row in rows]


def widths_of(svg: str) -> list[tuple[float, str]]:
    """Return the width and the title of each part of the bars."""
    found = re.findall(r'<rect [^>]*width="([\d.]+)"[^>]*><title>(.*?)</title>', svg)
    return [(float(width), title) for width, title in found]


def with_backbone(*call_seconds: float, seconds: float = 1.0) -> ModelResult:
    found = stages(1.0, stage("backbone", seconds, *call_seconds))
    return with_findings(MODEL, [Findings(stages=found)] * 3)


def test_there_is_a_section_for_each_pass_that_found_something_and_none_for_the_others(tmp_path: Path) -> None:
    write_html_report(large_run(), None, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [heading for heading in HEADINGS if f"<h2>{heading}</h2>" in page] == list(HEADINGS)
    assert "<details><summary>State of the machine" in page
    write_html_report(report(SDXL, VAR), None, tmp_path / "plain.html")
    plain = (tmp_path / "plain.html").read_text(encoding="utf-8")
    assert not any(f"<h2>{heading}</h2>" in plain for heading in HEADINGS)
    assert "<details>" not in plain


def test_a_bar_has_a_part_for_each_call_of_the_backbone_as_wide_as_its_time() -> None:
    svg = show_stages(large_run().models[:1])[2]
    parts = widths_of(svg)
    assert [title.split(":")[0] for _, title in parts] == [
        *(f"backbone, call {number} of 10" for number in range(1, 11)), "backbone, between its calls", "decoder",
    ]  # fmt: skip
    seconds = [*VAR_SCALES_S, 0.0074 - sum(VAR_SCALES_S), 0.00169]
    whole = sum(width for width, _ in parts)
    assert [width / whole for width, _ in parts] == pytest.approx([each / sum(seconds) for each in seconds], abs=1e-4)
    colours = re.findall(r'fill="(#\w+)"><title>backbone, call', svg)
    assert len(set(colours)) == 2
    assert all(one != other for one, other in pairwise(colours)), "shades alternate"


def test_all_bars_are_as_long_whatever_the_calls_take_and_say_how_long_these_are() -> None:
    svg = show_stages(large_run().models)[2]
    ends = [float(x) for x in re.findall(r'<text x="([\d.]+)" y="\d+">[\d.,]+ ms</text>', svg)]
    assert len(ends) == 4
    assert ends == pytest.approx([ends[0]] * 4, abs=0.1)
    assert re.findall(r">([\d.,]+) ms</text>", svg) == ["9.09", "2,599", "1,010", "1,417"]


def test_calls_too_many_to_be_told_apart_and_those_that_are_not_known_are_one_part() -> None:
    for calls in ((), (1.0,), (0.5 / MOST_SEGMENTS,) * (MOST_SEGMENTS + 1)):
        assert [title for _, title in widths_of(show_stages([with_backbone(*calls)])[2])] == ["backbone: 1,000 ms"]


def test_calls_that_take_longer_than_their_stage_do_not_make_the_bar_longer() -> None:
    (whole,) = widths_of(show_stages([with_backbone()])[2])
    assert sum(width for width, _ in widths_of(show_stages([with_backbone(0.6, 0.6)])[2])) == pytest.approx(whole[0])


def test_the_table_of_stages_has_calls_milliseconds_for_each_and_the_sum_beside_unwatched_calls_and_its_rounds() -> (
    None
):
    page = "".join(show_stages(large_run().models[2:3]))
    cells = cells_of(page)
    assert ["Infinity-2B", "text encoder", "34.0", "3.4 %", "1", "33.0", ""] in cells
    assert ["", "backbone", "790", "78.2 %", "13", "59.8 (24.0..190)", ""] in cells
    assert ["", "sum", "1,010", "99.8 % of the 1,012 ms of unwatched calls", "", "", "3"] in cells
    assert rows_of(page)["Call 13"] == [f"{1e3 * INFINITY_SCALES_S[-1]:.0f}"]


def test_a_stage_whose_calls_are_not_known_has_no_time_for_each_and_a_stage_without_time_divides_nothing() -> None:
    empty = stages(1.0, stage("backbone", 0.0, calls=3))
    page = "".join(show_stages([with_findings(MODEL, [Findings(stages=empty)] * 3)]))
    assert rows_of(page)["VAR-d16"] == ["backbone", "0", "n/a", "3", "n/a", ""]


def test_the_table_of_energy_has_spread_powers_and_throughput_per_joule() -> None:
    model = with_findings(MODEL, [Findings(energy=energy(joules)) for joules in (2.0, 2.5, 3.0)])
    rows = rows_of("".join(tabulate_energy([model])))
    assert rows["Energy (J/image)"] == ["2.50"]
    assert rows["Spread between rounds"] == ["20.0 %"]
    assert rows["Images per kWh"] == ["1,440,000"]
    assert rows["Throughput per watt (images/s/W)"] == ["0.400"]
    assert rows["Throughput per joule (images/s per J/image)"] == ["0.400"], "one image a second"
    assert (rows["Mean power (W)"], rows["Idle power (W)"]) == (["48"], ["75"])
    assert rows["Energy / (mean power x seconds)"] == ["1.000"]


def test_the_table_of_memory_says_since_when_and_how_the_allocator_grows() -> None:
    rows = rows_of("".join(tabulate_memory(large_run().models[:2])))
    assert rows["Peak of tensors (GB)"] == ["1.48", "12.60"]
    assert rows["Peak of the allocator's reservation (GB)"] == ["1.66", "14.11"]
    assert rows["Peak of tensors is of"] == ["all calls from the first one on", "one call"]
    assert rows["Expandable segments"] == ["yes", "yes"]


def test_the_table_of_the_roofline_has_both_shares_and_the_words_name_the_limit() -> None:
    near = Roofline(6e13, 1e9, 1e14, 1e12, "bfloat16")
    page = "".join(show_rooflines([with_findings(MODEL, [Findings(roofline=near), Findings(), Findings()])]))
    rows = rows_of(page)
    assert rows["Operations for an image"] == ["60.0 TFLOP"]
    assert rows["FLOP for each byte of weights"] == ["60,000"]
    assert rows["Throughput"] == ["60.0 TFLOP/s"]
    assert rows["Matrix throughput of the device"] == ["100 TFLOP/s (bfloat16)"]
    assert rows["Share of the matrix throughput"] == ["60.0 %"]
    assert rows["Share of the copy bandwidth"] == ["0.1 %"]
    assert "<li>VAR-d16: matrix throughput (60 %)</li>" in page
    assert "near: half of it or more, so that it could not become twice as fast" in page
    assert "eager model" not in page, "no column is compiled"


def test_plot_and_table_have_one_roof_for_all_columns_of_a_dtype() -> None:
    each = {
        "one": Roofline(6e13, 1e9, 1.0e14, 1e12, "bfloat16"),
        "other": Roofline(6e13, 1e9, 1.2e14, 9e11, "bfloat16"),
    }
    models = [with_findings(replace(MODEL, name=name), [Findings(roofline=it)] * 3) for name, it in each.items()]
    page = "".join(show_rooflines(models))
    rows = rows_of(page)
    assert rows["Matrix throughput of the device"] == ["120 TFLOP/s (bfloat16)"] * 2
    assert rows["Share of the matrix throughput"] == ["50.0 %"] * 2
    assert rows["Copy bandwidth of the device"] == ["1.00 TB/s"] * 2
    assert page.count("<polyline ") == 1


def test_a_compiled_column_is_said_to_be_counted_on_its_eager_model() -> None:
    assert "of a compiled column are those of its eager model" in "".join(show_rooflines(large_run().models))


def test_the_plot_puts_each_column_where_its_intensity_and_throughput_are() -> None:
    svg = show_rooflines(large_run().models)[2]
    dots = {
        name: (float(x), float(y))
        for x, y, name in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*><title>(.*?)</title>', svg)
    }
    (corner_x, roof_y), (end_x, end_y) = (
        tuple(map(float, point.split(","))) for point in re.findall(r'points="([^"]*)"', svg)[0].split()[1:]
    )
    assert roof_y == end_y, "the roof is level"
    ticks = {
        text: float(x) for x, text in re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">([\d,]+)<', svg)
    }
    decade = ticks["1,000"] - ticks["100"]
    for name, intensity in (
        ("VAR-d16 (compiled)", 0.83e12 / 6.1e9),
        ("SDXL", 605 / 0.262),
        ("PixArt-Sigma", 178e3 / 24.4),
    ):
        assert dots[name][0] == pytest.approx(ticks["100"] + decade * math.log10(intensity / 100), abs=0.2)
    assert corner_x == pytest.approx(ticks["100"] + decade * math.log10(6.9e14 / 4.05e12 / 100), abs=0.2)
    assert all(roof_y < y and x < end_x for x, y in dots.values()), "below the roof"
    highest = min(dots, key=lambda name: dots[name][1])
    assert highest == "SDXL"


def test_each_dtype_has_a_roof_of_its_own() -> None:
    rooflines = [Roofline(1e12, 1e9, flops_per_s, 1e12, dtype) for dtype, flops_per_s in
                 (("bfloat16", 7e14), ("float32", 5e13))]  # fmt: skip
    models = [with_findings(replace(MODEL, name=each.dtype), [Findings(roofline=each)] * 3) for each in rooflines]
    svg = show_rooflines(models)[2]
    assert svg.count("<polyline ") == 2
    assert "bfloat16 700 TFLOP/s" in svg
    assert "float32 50.0 TFLOP/s" in svg


def test_a_model_without_operations_or_weights_has_no_point_but_a_row() -> None:
    empty = Roofline(0.0, 0.0, 1e14, 1e12, "float32")
    page = "".join(show_rooflines([with_findings(MODEL, [Findings(roofline=empty)] * 3)]))
    assert "<svg" not in page
    assert rows_of(page)["FLOP for each byte of weights"] == ["n/a"]


def test_labels_never_overlap_keep_their_order_and_stay_in_the_plot() -> None:
    draw = random.Random(17)
    for _ in range(300):
        wanted = sorted(draw.uniform(-50, 450) for _ in range(draw.randint(1, 20)))
        placed = spread_labels(wanted, 10.0, 400.0)
        assert all(other - one >= LABEL_HEIGHT - 1e-9 for one, other in pairwise(placed))
        assert all(10.0 - 1e-9 <= y <= 400.0 for y in placed)
    assert spread_labels([50.0, 100.0], 10.0, 400.0) == [50.0, 100.0], "labels with room stay where they are"


def test_states_are_listed_in_order_of_time_and_what_never_changes_is_said_once() -> None:
    hot = with_states(MODEL, 1, temperature_c=88, clock_limits=("sw thermal slowdown",), power_limit_w=500.0)
    (page,) = tabulate_states([hot])
    head = re.findall(r"<th>(.*?)</th>", page)
    assert head == ["Round", "Seconds since the first", "Clocks held down by", "°C", "Power limit (W)"]
    assert rows_of(page)["Round 2, VAR-d16, start"] == ["60", "gpu idle", "41", "700"]
    assert rows_of(page)["Round 2, VAR-d16, end"] == ["90", "sw thermal slowdown", "88", "500 of 700"]
    assert "Driver: 570.86; Card: GPU-1a2b3c4d</small>" in page
    seconds = [int(row[1]) for row in re.findall(r"<tr><td>(.*?)</td><td>(\d+)</td>", page)]
    assert seconds == sorted(seconds) == [0, 30, 60, 90, 120, 150]


def test_the_end_of_a_process_that_was_killed_is_not_made_up() -> None:
    known, unknown = replace(CARD, other_cpu_cores=1.5), CARD
    for states, ends in (
        ((unknown, known), ("start", "end")), ((unknown, unknown), ("start", "end")), ((unknown,), ("start",)),
        ((unknown, unknown, known), ("start", "", "end")),
    ):  # fmt: skip
        found = [replace(state, unix_s=float(place)) for place, state in enumerate(states)]
        (page,) = tabulate_states([replace(MODEL, rounds=(replace(MODEL.rounds[0], states=tuple(found)),))])
        labels = [row[0] for row in cells_of(page) if row]
        assert labels == [", ".join(filter(None, ("Round 1, VAR-d16", end))) for end in ends]


def test_a_machine_of_which_nothing_is_known_has_no_table() -> None:
    assert tabulate_states([MODEL]) == []
    assert both_ends(0)[0].unix_s < both_ends(0)[1].unix_s


def test_a_report_is_written_without_torch() -> None:
    code = "import sys, benchmark.report.files, benchmark.report.table; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
