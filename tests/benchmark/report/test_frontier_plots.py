"""Plots of cost against quality: labels stand apart and within, what is drawn is what was found, files are ours."""

from __future__ import annotations

import random
import re
import resource
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image
from report_cases import SDXL, hidden, hostile_name, report, with_rounds
from sweep_cases import MARGIN, configuration, pixart, sweep_of
from test_frontier import with_energy

from benchmark.report.equal_quality import find_equal_quality
from benchmark.report.files import write_reports
from benchmark.report.frontier import Frontier, find_frontier
from benchmark.report.frontier_plot import can_draw, draw_frontier
from benchmark.report.frontier_png import write_frontier_plot
from benchmark.report.html.drawings import to_svg, width_in_page
from benchmark.report.html.page import write_html_report
from benchmark.report.label_places import place_labels
from benchmark.report.marks import Box, Dot, Drawing, Line, Words
from benchmark.report.model_result import ModelResult
from benchmark.report.ownership import foreign_reports
from benchmark.report.plot_axes import Axis, shown_tick
from benchmark.report.results import RunResult
from files.images import is_our_png


def assert_apart(boxes: list[Box] | tuple[Box, ...], bounds: Box) -> None:
    assert all(bounds.holds(box) for box in boxes)
    for one, other in combinations(boxes, 2):
        assert one.overlap(other) == 0, (one, other)


@pytest.mark.parametrize("kind", ["scattered", "all at one place", "in a row", "at the edges"])
def test_labels_never_lie_over_each_other_wherever_their_points_are(kind: str) -> None:
    draw, bounds = random.Random(0), Box(80, 50, 840, 700)
    for count in (1, 2, 7, 24):
        places = {
            "scattered": [(draw.uniform(80, 840), draw.uniform(50, 700)) for _ in range(count)],
            "all at one place": [(300.0, 300.0)] * count,
            "in a row": [(80 + 30.0 * at, 400.0) for at in range(count)],
            "at the edges": [draw.choice([(80.0, 50.0), (840.0, 50.0), (840.0, 700.0)]) for _ in range(count)],
        }[kind]
        sizes = [(draw.uniform(40, 260), 17.0) for _ in range(count)]
        dots = [Box(x - 7, y - 7, x + 7, y + 7) for x, y in places]
        boxes = place_labels(places, sizes, bounds, dots)
        assert_apart(boxes, bounds)
        for box, size in zip(boxes, sizes, strict=True):
            assert (box.right - box.left, box.bottom - box.top) == pytest.approx(size)


def test_a_label_alone_stands_right_of_its_dot_and_left_where_there_is_no_room() -> None:
    (box,) = place_labels([(100.0, 100.0)], [(50.0, 17.0)], Box(0, 0, 400, 200))
    assert box.left > 100
    (box,) = place_labels([(390.0, 100.0)], [(50.0, 17.0)], Box(0, 0, 400, 200))
    assert box.right < 390


def test_labels_for_which_there_is_no_room_are_refused() -> None:
    with pytest.raises(ValueError, match="no room for 3 labels"):
        place_labels([(5.0, 5.0)] * 3, [(40.0, 17.0)] * 3, Box(0, 0, 50, 40))


def many_columns() -> list[ModelResult]:
    columns = pixart([2.4, 1.5, 1.02, 0.55], [0.0010, 0.0013, 0.0016, 0.012])
    columns += pixart([1.2, 0.75, 0.52, 0.28], [0.0011, 0.0012, 0.0018, 0.0125], mode="compiled")
    columns += [
        configuration("SDXL", seconds, kid, options={"steps": steps}, number=at)
        for at, (steps, seconds, kid) in enumerate(((20, 3.9, 0.0009), (12, 2.4, 0.0014), (4, 0.8, 0.03)))
    ]
    return columns


def found_in(columns: list[ModelResult]) -> Frontier:
    found = find_frontier(columns, 4)
    assert found is not None
    return found


def drawn(columns: list[ModelResult]) -> Drawing:
    return draw_frontier(found_in(columns), width_in_page)


def test_labels_of_a_sweep_stand_apart_and_within_the_plot() -> None:
    drawing = drawn(many_columns())
    assert len(drawing.labels) == 11
    assert_apart(drawing.labels, Box(0, 0, drawing.width, drawing.height))
    alike = [replace(column, name=f"{column.name} {at}") for at in range(8) for column in pixart([1.0], [0.001])]
    assert_apart(drawn(alike).labels, Box(0, 0, 860, 2000))


def test_faster_is_left_and_better_is_below_and_the_frontier_is_filled_and_joined() -> None:
    columns = [*pixart([2.0, 1.0], [0.001, 0.006]), configuration("SDXL", 3.0, 0.003, number=3)]
    marks = drawn(columns).marks
    dots = {mark.title.partition(":")[0]: mark for mark in marks if isinstance(mark, Dot)}
    slow, fast, dominated = dots["PixArt (steps 20)"], dots["PixArt (steps 12)"], dots["SDXL"]
    assert fast.x < slow.x < dominated.x
    assert slow.y > dominated.y > fast.y, "pixels grow downwards"
    assert [slow.filled, fast.filled, dominated.filled] == [True, True, False]
    assert "PixArt (steps 20) is as fast and better" in dominated.title
    assert Line(((fast.x, fast.y), (slow.x, slow.y)), "#1c2430", 1.6) in marks


def test_intervals_and_the_floor_are_drawn_where_they_are() -> None:
    columns = pixart([2.0, 1.0], [0.001, 0.006])
    marks = drawn(columns).marks
    lines = [mark for mark in marks if isinstance(mark, Line)]
    dot = next(mark for mark in marks if isinstance(mark, Dot) and mark.title.startswith("PixArt (steps 20)"))
    upright = [line for line in lines if {x for x, _ in line.points} == {dot.x} and line.width == 1.4]
    (bar,) = upright
    ys = sorted(y for _, y in bar.points)
    assert dot.y == pytest.approx(sum(ys) / 2), "the interval is even about the score"
    (floor,) = [line for line in lines if line.dashed]
    assert floor.points[0][1] - dot.y == pytest.approx((ys[1] - ys[0]) / 0.004 * 0.001), "0.001 below it"
    bare = [
        replace(column, scores=(replace(column.scores[0], floor=None, floor_interval=None, interval=None),))
        for column in columns
    ]
    assert not [mark for mark in drawn(bare).marks if isinstance(mark, Line) and mark.dashed]


def test_an_interval_that_reaches_below_0_seconds_stays_within_the_plot() -> None:
    column, other = pixart([1.0, 2.0], [0.001, 0.002])
    wild = with_rounds(column, 0.1, 4.0, 0.1, 0.2)
    drawing = drawn([wild, other])
    assert all(0 <= x <= drawing.width for mark in drawing.marks if isinstance(mark, Line) for x, _ in mark.points)


def test_one_column_or_equal_columns_are_drawn_too() -> None:
    for columns in (pixart([1.0], [0.0]), pixart([1.0, 1.0], [0.001, 0.001])):
        bare = [
            replace(column, scores=(replace(column.scores[0], floor=None, floor_interval=None, interval=None),))
            for column in columns
        ]
        assert len([mark for mark in drawn(bare).marks if isinstance(mark, Dot)]) == len(columns)


def test_a_far_score_compresses_the_axis_and_its_label_says_so() -> None:
    columns = pixart([2.0, 1.0, 0.5, 0.2], [0.001, 0.0015, 0.002, 0.9])
    texts = [mark.text for mark in drawn(columns).marks if isinstance(mark, Words)]
    assert "KID-robots (lower = better), compressed scale" in texts
    texts = [mark.text for mark in drawn(columns[:3]).marks if isinstance(mark, Words)]
    assert "KID-robots (lower = better)" in texts


@pytest.mark.parametrize("scale", ["linear", "log", "wide"])
def test_an_axis_keeps_the_order_and_its_ticks_are_round_and_apart(scale: str) -> None:
    for low, high in ((0.13, 4.1), (1.0, 1.9), (0.0004, 900.0), (17.0, 17.6)):
        axis = Axis(low, high, 100.0, 800.0, scale, low, (high - low) / 50)  # type: ignore[arg-type]
        places = [axis.place(low + (high - low) * at / 10) for at in range(11)]
        assert places == sorted(places)
        assert (places[0], places[-1]) == pytest.approx((100.0, 800.0))
        ticks = axis.ticks()
        assert len(ticks) >= 2 or scale == "wide"
        assert all(low <= tick <= high for tick in ticks)
        shown = [shown_tick(tick, ticks) for tick in ticks]
        assert len(set(shown)) == len(ticks)
        assert [float(text.replace(",", "")) for text in shown] == pytest.approx(ticks)


def test_without_scores_there_is_nothing_to_draw() -> None:
    assert not can_draw(None)
    assert not can_draw(found_in(many_columns()), "joules")
    assert can_draw(found_in([with_energy(column, 9.0, 9.1) for column in many_columns()]), "joules")


# The files.


def run_of(columns: list[ModelResult], **changes: object) -> RunResult:
    return sweep_of(
        *columns, frontier=find_frontier(columns, 4), equal_quality=find_equal_quality(columns, 4), **changes
    )


def test_the_png_is_ours_and_holds_a_plot(tmp_path: Path) -> None:
    path = tmp_path / "frontier.png"
    write_frontier_plot(found_in(many_columns()), path)
    assert is_our_png(path)
    with Image.open(path) as image:
        assert image.size[0] == 2 * 860
        assert len(image.convert("RGB").resize((86, 60)).getcolors(10_000) or []) > 50


def test_the_labels_of_the_png_stand_apart_as_matplotlib_sets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    boxes: list[Box] = []
    labels = {point.configuration for point in found_in(many_columns()).points}
    savefig = FigureCanvasAgg.print_figure

    def look(canvas: FigureCanvasAgg, *given: object, **named: object) -> object:
        renderer = canvas.get_renderer()
        for found in canvas.figure.axes[0].texts:
            if found.get_text() in labels:
                extent = found.get_window_extent(renderer)
                boxes.append(Box(extent.x0, extent.y0, extent.x1, extent.y1))
        return savefig(canvas, *given, **named)

    monkeypatch.setattr(FigureCanvasAgg, "print_figure", look)
    write_frontier_plot(found_in(many_columns()), tmp_path / "frontier.png")
    assert len(boxes) == len(labels) == 11
    for one, other in combinations(boxes, 2):
        assert one.overlap(other) == 0


def test_the_plot_is_written_where_there_is_a_choice_and_an_old_one_is_removed_where_there_is_none(
    tmp_path: Path,
) -> None:
    plot = tmp_path / "frontier.png"
    write_reports(run_of(many_columns()), [], tmp_path, print)
    assert is_our_png(plot)
    assert foreign_reports(tmp_path) == []
    write_reports(run_of([configuration("SDXL", 1.0, 0.1)]), [], tmp_path, print)
    assert not plot.exists()
    assert "Speed against quality" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_plot_that_cannot_be_written_is_told_in_all_reports(tmp_path: Path) -> None:
    (tmp_path / "frontier.png").mkdir()
    run = write_reports(run_of(many_columns()), [], tmp_path, print)
    assert "frontier.png" in run.failures
    assert "frontier.png: failed: " in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_disk_that_fills_up_leaves_the_former_plot_and_names_the_path(tmp_path: Path) -> None:
    path = tmp_path / "frontier.png"
    write_frontier_plot(found_in(many_columns()), path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as on a full disk, a longer file cannot be written
    try:
        with pytest.raises(OSError, match="File too large") as failure:
            write_frontier_plot(found_in(many_columns()[:3]), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failure.value.filename == str(path)
    assert [each.name for each in tmp_path.iterdir()] == ["frontier.png"]
    assert path.read_bytes() == before


def test_another_programs_plot_is_foreign_and_stays(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "frontier.png")
    before = (tmp_path / "frontier.png").read_bytes()
    assert foreign_reports(tmp_path) == ["frontier.png"]
    write_reports(report(SDXL), [], tmp_path, print)
    assert (tmp_path / "frontier.png").read_bytes() == before


def test_the_page_has_the_lines_the_plots_and_what_was_compared(tmp_path: Path) -> None:
    columns = [with_energy(column, 100.0 * column.mean_latency_s, 101.0) for column in many_columns()]
    write_html_report(run_of(columns), None, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Equal Quality: PixArt at 8 steps, compiled (4.6x faster than at 20, eager; " in page
    assert "Equal Quality [all models]: " in page
    assert page.count("against quality, 256 images of each configuration") == 2
    assert "joules per image (log scale; lower = better)" in page
    assert "no: PixArt (steps 8, compiled) is as fast and better" in page
    assert f"{MARGIN:.3g}" in page
    assert "<td>0.0000<br><small>-0.0040..0.0040</small><br><small>real images score, N = 256</small></td>" in page


def test_hostile_names_stay_text_in_plots(tmp_path: Path) -> None:
    for number in range(20):
        name = hostile_name(number)
        columns = pixart([2.0, 1.0], [0.001, 0.006])
        columns = [replace(column, name=f"{name} {at}", model=name) for at, column in enumerate(columns)]
        svg = to_svg(drawn(columns))
        assert not hidden(svg)
        assert not re.search(r"<(script|img|iframe)", svg)
        if number < 4:
            write_frontier_plot(found_in(columns), tmp_path / "frontier.png")
