"""`python -m benchmark.compare OLD NEW`: what is printed, exit statuses, bad input, and what it costs to start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from comparison_cases import KEYED, a_run, kid, model, written
from costs_cases import large_run
from report_cases import hidden, hostile_name, run_with

from benchmark.compare import main
from benchmark.report.results import RunResult, write_results

ROOT = Path(__file__).parents[3]
SLOWER_S = (1.05, 1.051, 1.049, 1.05)


def pair(folder: Path, old: RunResult, new: RunResult) -> list[str]:
    return written(folder, old=old, new=new)


def test_equal_runs_pass_and_the_output_says_what_was_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(model(scores=[kid(0.01)]))
    old, new = pair(tmp_path, run, run)
    assert main([old, new]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    lines = told.out.splitlines()
    assert lines[:3] == ["COMPARISON OF TWO RUNS", f"old: {old} (2026-01-01)", f"new: {new} (2026-01-01)"]
    assert "What differs: nothing that is recorded" in lines
    assert [line.split() for line in lines if line.startswith("SDXL")] == [
        ["SDXL", "Latency", "(s/image)", "1.000", "1.000", "1.000x", "0.999..1.001", "TIE"],
        ["SDXL", "KID", "0.0100", "0.0100", "+0.0000", "+0.0000..+0.0000", "TIE"],
    ]
    assert lines[-1] == "Result: nothing is known to be worse by more than is allowed (2 passed); exit status 0"


def test_a_slowdown_beyond_the_threshold_is_exit_status_1_and_the_threshold_can_be_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = pair(tmp_path, a_run(model()), a_run(model(means_s=SLOWER_S)))
    assert main(places) == 1
    out = capsys.readouterr().out
    assert "  FAILED: SDXL, Latency (s/image): 1.050x, 1.049..1.051 (95 %); allowed: 1.030x" in out
    assert out.splitlines()[-1] == "Result: worse by more than is allowed (1 failed); exit status 1"
    assert [main([*places, "--slower", share]) for share in ("3%", "0.03", "4%", "6%", "none")] == [1, 1, 1, 0, 0]
    assert main([*reversed(places)]) == 0, "a run that got faster fails nothing"


def test_a_score_that_fell_is_exit_status_1_by_the_margin_that_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = (a_run(model(scores=[kid(value)])) for value in (0.01, 0.013))
    places = pair(tmp_path, old, new)
    assert main(places) == 1, "0.003 is more than 0.002, twice the half-width of the floor's interval"
    assert "worse by +0.0030" in capsys.readouterr().out
    for arguments, status in (
        (["--worse", "0.004"], 0), (["--worse", "kid=0.004"], 0), (["--worse", "kid=0.0005"], 1),
        (["--worse", "0"], 1), (["--worse", "none"], 0),
    ):  # fmt: skip
        assert main([*places, *arguments]) == status, arguments
    own = pair(tmp_path, old, replace(new, settings={**new.settings, "QUALITY_MARGIN": "0.005"}))
    assert main(own) == 0, "the run's QUALITY_MARGIN"


def test_what_stays_undecided_is_in_the_output_and_changes_no_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(pair(tmp_path, a_run(model()), a_run(model(means_s=(1.0, 1.1, 1.05, 0.98))))) == 0
    out = capsys.readouterr().out
    assert "  UNDECIDED: SDXL, Latency (s/image): 1.0" in out
    assert "(1 undecided; quality was not tested); exit status 0" in out


def test_where_nothing_can_be_compared_the_status_is_2_and_stderr_has_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for old, new in (
        (a_run(model()), a_run(model("VAR-d16"))),
        (a_run(model()), a_run(model(card="GPU-2"))),
        (a_run(model(means_s=(1.0,))), a_run(model(means_s=(1.0,)))),
    ):
        places = pair(tmp_path, old, new)
        assert main(places) == 2
        told = capsys.readouterr()
        assert told.err == f"benchmark.compare: {places[0]} and {places[1]} have no figure that can be compared\n"
        assert told.out.splitlines()[-1] == "Result: nothing could be compared; exit status 2"
        assert "Only in the old run, and not compared: SDXL" in told.out or "n/a: Latency" in told.out


def test_speeds_across_machines_are_compared_on_request_and_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = pair(tmp_path, a_run(model()), a_run(model(means_s=SLOWER_S, card="GPU-2")))
    assert main([*places, "--across-machines"]) == 1
    assert "WIN: old is faster, two machines" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["{old}"], "one run has nothing to be compared with: name two, or more for a leaderboard"),
        (["{old}", "{old}"], "{old} and {old} are the same run: name two"),
        (["{old}", "{folder}"], "{folder}/results.json does not exist: give a results.json, or the OUTPUT_DIR "
         "of a run that has one"),
        (["{old}", "{folder}/missing.json"], "{folder}/missing.json does not exist: give a results.json, or the "
         "OUTPUT_DIR of a run that has one"),
        (["{old}", "{folder}/text.json"], "{folder}/text.json cannot be read as results: not JSON (JSONDecodeError); "
         "run the benchmark again, which writes it anew"),
        (["{old}", "{new}", "--slower", "3"], "argument --slower: '3' is not a share from 0 to below 1: give 3%, "
         "0.03 or none"),
        (["{old}", "{new}", "--slower", "fast"], "argument --slower: 'fast' is no number"),
        (["{old}", "{new}", "--worse", "-1"], "argument --worse: '-1': give a number from 0 on, KEY=NUMBER, or none"),
        (["{old}", "{new}", "--worse", "kid=nan"], "argument --worse: 'nan' is no number"),
        (["{old}", "{new}", "--worse", "fid=1"], "--worse fid=...: no run has such a score; there are kid"),
        (["{old}", "{new}", "--worse", "1", "--worse", "kid=2"],
         "--worse VALUE is for kid, which decides, and so is --worse kid=...: give one"),
        (["{old}", "{new}", "--worse", "none", "--worse", "1"], "--worse: each score at most once, and none alone"),
        (["{old}", "{new}", "--worse", "kid=1", "--worse", "kid=2"],
         "--worse: each score at most once, and none alone"),
        (["{old}", "{new}", "--csv", "x.csv"], "--csv belongs to a leaderboard of three runs or more"),
        (["{old}", "{new}", "--speed"], "unrecognized arguments: --speed"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_on_stderr_and_status_2(
    arguments: list[str], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(model(scores=[kid(0.01)]))
    old, new = pair(tmp_path, run, run)
    (tmp_path / "text.json").write_text("no JSON")
    names = {"old": old, "new": new, "folder": str(tmp_path)}
    assert main([text.format(**names) for text in arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"benchmark.compare: {line.format(**names)}\n"


def test_a_run_is_named_by_its_folder_too(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        write_results(a_run(model()), tmp_path / name / "results.json")
    assert main([str(tmp_path / "old"), str(tmp_path / "new")]) == 0


def test_json_has_everything_that_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = a_run(model(scores=[kid(0.01)]), model("VAR-d16"))
    new = a_run(model(means_s=SLOWER_S, scores=[kid(0.01)]), versions={"torch": "3"})
    assert main([*pair(tmp_path, old, new), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["exit_status"] == 1
    assert told["differences"] == [{"what": "torch", "old": "2", "new": "3", "column": ""}]
    assert (told["only_old"], told["only_new"], told["deciding"]) == (["VAR-d16"], [], "kid")
    latency, score = told["rows"]
    assert (latency["figure"], latency["outcome"], latency["winner"]) == ("latency", "WIN", "old")
    assert latency["interval"][0] > 1.04
    assert (score["pairing"], score["outcome"], score["interval"]) == ("paired", "TIE", [0.0, 0.0])
    assert [(test["figure"], test["result"]) for test in told["gate"]["tests"]] == [
        ("latency", "FAILED"), ("kid", "PASSED"),
    ]  # fmt: skip


def test_a_fault_of_the_images_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = a_run(replace(model(), warnings=("12 images are blank",)))
    assert main(pair(tmp_path, a_run(model()), new)) == 0
    assert "WARNING: new SDXL: 12 images are blank" in capsys.readouterr().out


@pytest.mark.parametrize("number", range(12))
def test_text_from_elsewhere_acts_on_no_terminal(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = hostile_name(number).encode("utf-8", "replace").decode()
    old, new = (replace(run_with(name), device=f"{name}{which}") for which in "ab")
    main(pair(tmp_path, old, new))
    out = capsys.readouterr().out
    assert not [it for it in hidden(out) if it != "\n"]


def test_eight_columns_are_compared_in_a_fresh_process_without_torch_in_under_a_second(tmp_path: Path) -> None:
    """The bar is 1 s of a machine that does nothing else; here it is processor time, and three times as much."""
    columns = [
        replace(column, name=f"{column.name} {place}", options={"PLACE": str(place)}, family="a", scores=(kid(0.01),))
        for place in (0, 1) for column in large_run().models
    ]  # fmt: skip
    assert len(columns) == 8
    places = pair(tmp_path, a_run(*columns), a_run(*columns, versions={"torch": "3"}))
    program = (
        "import sys, time; from benchmark.compare import main; status = main(sys.argv[1:]); "
        "heavy = {'torch', 'diffusers', 'transformers', 'matplotlib'} & set(sys.modules); "
        "print(status, sorted(heavy), time.process_time(), file=sys.stderr)"
    )
    start = time.perf_counter()
    told = subprocess.run(
        [sys.executable, "-c", program, *places], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    assert time.perf_counter() - start < 30
    status, heavy, seconds = told.stderr.split()
    assert (status, heavy) == ("0", "[]")
    assert float(seconds) < 3
    assert sum(line.endswith("TIE") for line in told.stdout.splitlines()) == 16, "latency and KID of each"


def test_the_runs_of_the_cases_have_keys() -> None:
    assert all(found.family and found.options for found in KEYED.values())


def test_long_values_are_cut_where_they_still_tell_the_runs_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = "0123456789abcdef" * 4
    runs = [a_run(model(), prompts_identity=f"{digest} without {which}") for which in ("aaa", "bbb")]
    main(pair(tmp_path, *runs))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  prompts:")]
    assert "aaa -> ..." in line
    assert line.endswith("bbb")
    assert len(line) < 150


def test_columns_that_failed_and_runs_that_were_interrupted_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = a_run(model(), failures={"VAR-d16": "out of memory"}, interrupted=True)
    assert main(pair(tmp_path, a_run(model(), model("VAR-d16")), new)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "Only in the old run, and not compared: VAR-d16" in lines
    assert "WARNING: new VAR-d16 failed: out of memory" in lines
    assert "WARNING: the new run was interrupted: its columns may lack rounds and images" in lines
