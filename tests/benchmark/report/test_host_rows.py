"""What a report says of several ranks and cards, in each of its files; of one process it says nothing of them."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from host_cases import BY_FOUR, EQUAL, FOURTH, HOST, NOISE, NOT_ALONE, OWN, SECOND, SLOW, THIRD, TOO_SHORT, on_cards
from report_cases import PIXART, SDXL, VAR, report, timed_round

from benchmark.measure.findings import MachineState
from benchmark.report.host_notes import list_card_notes, list_host_notes
from benchmark.report.html.page import write_html_report
from benchmark.report.model_result import Card, ModelResult
from benchmark.report.results import read_results, write_results
from benchmark.report.table import format_report, table_rows
from benchmark.report.table_csv import write_csv
from files.records import read_record, write_record

ON_A_CARD = replace(BY_FOUR, rounds=(timed_round(0, 1.5, states=(MachineState(1.0, card_uuid=OWN),)),))


def rows_of(*models: ModelResult) -> dict[str, tuple[str, ...]]:
    return {row.label: row.cells for row in table_rows(models)}


def test_the_throughput_of_the_host_has_a_row_with_its_ratio_below() -> None:
    text = format_report(report(BY_FOUR))
    assert "\nThroughput, 4 GPUs (images/sec)     12.47               \n" in text
    assert "\nThroughput against one GPU          3.90x of 4          \n" in text


def test_a_column_without_the_figure_says_why_where_another_has_it() -> None:
    rows = rows_of(BY_FOUR, TOO_SHORT, PIXART, replace(BY_FOUR, host_throughput=NOT_ALONE))
    assert rows["Throughput, 4 GPUs (images/sec)"] == ("12.47", "n/a (under 60 s)", "n/a (one process)", "12.47")
    assert rows["Throughput against one GPU"] == ("3.90x of 4", "n/a", "n/a", "n/a (too few calls)")


def test_without_any_figure_there_is_no_row_but_the_reason_stands_below() -> None:
    assert not [label for label in rows_of(TOO_SHORT, VAR) if label.startswith("Throughput") and "sec" not in label]
    assert list(rows_of(TOO_SHORT, VAR)) == list(rows_of(SDXL, VAR))
    reason = "SDXL: no throughput of the host: 4 GPUs made images together for 12 s, and 60 s are needed"
    assert reason in format_report(report(TOO_SHORT, VAR)).splitlines()


def test_whether_the_other_gpus_were_idle_is_told_of_a_run_of_several_ranks() -> None:
    idle = MachineState(1.0, card_uuid=OWN, other_cards=3)
    busy = replace(idle, busy_cards=(SECOND,))
    rounds = (timed_round(0, 1.5, states=(idle, idle)),)
    by_four = replace(BY_FOUR, rounds=rounds)
    assert "The host's other GPUs (3) were idle at both ends of every timed round" in list_host_notes([by_four])
    disturbed = replace(by_four, rounds=(*rounds, timed_round(1, 1.5, states=(idle, busy))))
    told = f"WARNING: other GPUs of the host were in use at an end of timed rounds: {SECOND}"
    assert told in list_host_notes([by_four, disturbed])
    assert list_host_notes([replace(VAR, rounds=rounds)]) == [], "of one process"


def test_columns_of_other_numbers_of_ranks_have_rows_of_their_own() -> None:
    rows = rows_of(BY_FOUR, replace(PIXART, host_throughput=replace(HOST, ranks=2)))
    assert rows["Throughput, 4 GPUs (images/sec)"] == ("12.47", "n/a (with 2 GPUs)")
    assert rows["Throughput, 2 GPUs (images/sec)"] == ("n/a (with 4 GPUs)", "12.47")
    assert rows["Throughput against one GPU"] == ("3.90x of 4", "3.90x of 2")


def test_on_cpus_the_rows_name_processes_and_a_long_label_moves_all_columns() -> None:
    host = replace(HOST, device="process", ranks=3)
    lines = format_report(report(replace(VAR, host_throughput=host))).splitlines()
    assert "Throughput, 3 processes (images/sec) 12.47               " in lines
    assert "Throughput against one process       3.90x of 3          " in lines
    assert "Metric                               VAR-d16             " in lines


def test_the_footer_says_who_made_the_images_and_what_was_counted() -> None:
    assert list_host_notes([ON_A_CARD]) == [
        "Images made by 4 GPUs of gpu-7",
        "Throughput of the host gpu-7: VAR-d16 1,000 images in 80.2 s with 4 GPUs at work, 64 in 20.0 s with one",
    ]
    several = {f"gpu-{number}": {f"rank{rank}": 1 for rank in range(8)} for number in (7, 8)}
    assert list_host_notes([replace(ON_A_CARD, made_by=several, host_throughput=None)]) == [
        "Images made by 16 GPUs of 2 hosts: gpu-7 (8), gpu-8 (8)"
    ]
    many = {f"n{number}": {str(rank): 1 for rank in range(7 + number % 2)} for number in range(10)}
    assert list_host_notes([replace(VAR, made_by=many)]) == ["Images made by 75 processes of 10 hosts: 7..8 each"]


def test_a_missing_ratio_has_its_reason_in_the_footer() -> None:
    lines = list_host_notes([replace(BY_FOUR, host_throughput=NOT_ALONE)])
    assert "VAR-d16: not compared with one GPU: alone, it made 1 full calls" in lines


def test_the_footer_gives_each_cards_latency_and_names_a_slow_one() -> None:
    lines = list_card_notes([EQUAL, SLOW])
    assert lines[0] == (
        "Cards: VAR-d16 takes 9.100 ms on GPU-11111111 (1.000x), 9.100 ms on GPU-aaaaaaaa (1.000x), 9.120 ms on "
        "GPU-bbbbbbbb (1.003x), 9.090 ms on GPU-cccccccc (0.998x), each against the mean of the others; slowest over "
        "fastest 1.003x; slow: none"
    )
    assert lines[1].startswith("Cards: PixArt takes 200.0 ms on GPU-11111111 (0.973x), ")
    assert lines[1].endswith("; slowest over fastest 1.080x; slow: GPU-bbbbbbbb")
    assert lines[2].startswith("WARNING: GPU-bbbbbbbb is slow: PixArt takes 1.078x of what it takes on the other cards")
    assert len(lines) == 3


def test_too_few_rounds_decide_nothing_about_cards_and_a_card_that_does_not_count_is_named() -> None:
    few = on_cards(VAR, {OWN: 1.0, SECOND: 1.5}, NOISE[:2])
    (line,) = list_card_notes([few])
    assert line.endswith("slow: not decided, below 3 rounds on a card")
    partial = tuple(replace(made, complete=False) for made in few.cards[0].rounds)
    assert list_card_notes([replace(few, cards=(Card(SECOND, partial),))]) == [
        "VAR-d16: no round on GPU-aaaaaaaa counts: it is incomplete, or another process was on the card"
    ]


@pytest.mark.parametrize("model", [BY_FOUR, TOO_SHORT, SLOW, replace(EQUAL, host_throughput=NOT_ALONE)])
def test_results_json_gives_ranks_and_cards_back_and_prints_the_same(tmp_path: Path, model: ModelResult) -> None:
    run = report(model, SDXL)
    write_results(run, tmp_path / "results.json")
    found = read_results(tmp_path / "results.json")
    assert found == run
    assert format_report(found) == format_report(run)


def test_results_json_has_the_figures_that_readers_want_beside_what_was_counted(tmp_path: Path) -> None:
    write_results(report(replace(SLOW, host_throughput=HOST), VAR), tmp_path / "results.json")
    column, other = json.loads((tmp_path / "results.json").read_text())["models"]
    assert column["host_images_per_s"] == pytest.approx(12.467, abs=1e-3)
    assert column["host_ratio"] == pytest.approx(3.896, abs=1e-3)
    assert [(card["uuid"], card["is_slow"]) for card in column["card_speeds"]] == [
        (OWN, False), (SECOND, False), (THIRD, True), (FOURTH, False),
    ]  # fmt: skip
    assert (other["host_images_per_s"], other["host_ratio"], other["card_speeds"]) == (None, None, [])


def test_a_results_json_from_before_ranks_and_cards_is_read(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(report(VAR, SDXL), path)
    content = read_record(path)
    for model in content["models"]:
        for name in ("host_throughput", "made_by", "cards", "host_images_per_s", "host_ratio", "card_speeds"):
            del model[name]
    write_record(path, content)
    assert read_results(path) == report(VAR, SDXL)


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("host_throughput", {"ranks": 1}, "host_throughput.ranks is 1"),
        ("host_throughput", {"together": {"images": 5.0, "seconds": 0.0}}, "host_throughput.together has a figure"),
        ("host_throughput", {"alone": {"images": None, "seconds": 2.0}}, "host_throughput.alone has a figure"),
        ("cards", {"rounds": []}, r"cards\[0\].rounds is empty"),
        (
            "cards",
            {"rounds": [{"number": 0, "latencies_s": [0.0], "complete": True}]},
            r"cards\[0\].rounds\[0\].latencies_s",
        ),
    ],
)
def test_figures_of_ranks_and_cards_that_cannot_be_are_refused(
    tmp_path: Path, field: str, value: dict[str, object], place: str
) -> None:
    path = tmp_path / "results.json"
    write_results(report(replace(EQUAL, host_throughput=HOST)), path)
    content = read_record(path)
    entry = content["models"][0][field]
    (entry[0] if isinstance(entry, list) else entry).update(value)
    write_record(path, content)
    with pytest.raises(ValueError, match=rf"models\[0\]\.{place}"):
        read_results(path)


def test_results_csv_has_columns_of_ranks_and_cards_where_the_run_has_them(tmp_path: Path) -> None:
    write_csv(report(replace(SLOW, host_throughput=HOST), VAR), tmp_path / "results.csv")
    first, second = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert (first["host_ranks"], float(first["host_images_per_s"])) == ("4", pytest.approx(12.467, abs=1e-3))
    assert float(first["host_ratio"]) == pytest.approx(3.896, abs=1e-3)
    assert (first["cards"], first["slow_cards"]) == ("4", THIRD)
    assert float(first["slowest_over_fastest_card"]) == pytest.approx(1.08, abs=1e-3)
    assert {second[name] for name in ("host_ranks", "host_images_per_s", "host_ratio", "cards", "slow_cards")} == {""}


def test_the_page_has_a_table_of_the_cards_and_only_where_several_were_timed(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html_report(report(replace(EQUAL, host_throughput=HOST), SLOW, SDXL), None, path)
    page = path.read_text()
    assert page.count("<h2>Cards</h2>") == 1
    cells = ["9.120 ms (1.003x, 1.001..1.004)", "216.0 ms (1.078x, 1.077..1.080), SLOW"]
    assert f"<tr><td>{THIRD}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>" in page
    assert f"<tr><td>{OWN}</td><td>9.100 ms (1.000x, 0.998..1.001), own</td>" in page
    assert "<tr><td>Slowest over fastest</td><td>1.003x</td><td>1.080x</td></tr>" in page
    assert "<tr><td>Throughput, 4 GPUs (images/sec)</td><td>12.47</td>" in page
    write_html_report(report(VAR, SDXL), None, path)
    assert "Cards" not in path.read_text()


def test_a_run_of_one_process_says_nothing_of_ranks_and_cards(tmp_path: Path) -> None:
    one = replace(VAR, made_by={"gpu-7": {"0": 2}})
    assert format_report(report(one, SDXL)) == format_report(report(VAR, SDXL))
    assert list_host_notes([one, SDXL]) == list_card_notes([one, SDXL]) == []
    for name, model in (("one.csv", one), ("none.csv", VAR)):
        write_csv(report(model, SDXL), tmp_path / name)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "none.csv").read_bytes()
    assert "host_ranks" not in (tmp_path / "one.csv").read_text()


def test_on_cpus_processes_are_compared_and_that_of_the_column_is_rank_0s(tmp_path: Path) -> None:
    cards = on_cards(VAR, {"": 1.0, "process 1": 1.0, "process 2": 1.1}, own="")
    line, warning = list_card_notes([cards])
    assert line.startswith("Cards: VAR-d16 takes 1.000 s on rank 0 (")
    assert line.endswith("slow: process 2")
    assert warning.startswith("WARNING: process 2 is slow")
    write_html_report(report(cards), None, tmp_path / "report.html")
    assert "<tr><td>rank 0</td><td>1.000 s (" in (tmp_path / "report.html").read_text()
