"""A launched run of which a random process is killed ends in one line; another number of ranks then ends it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from benchmark.run.column_folder import lines_name
from scripts.measuring import kill_ranks
from scripts.measuring.kill_ranks import RankKill, check_rank_kills, recorded_batches, whole_batches

# One small model. The phases are those of the full check, each of them shorter.
SETTINGS = {name: value for name, value in kill_ranks.SETTINGS.items() if not name.startswith("PIXART_")}
SETTINGS |= {"MODELS": "sdxl", "NUM_SAMPLES": "18", "TIMED_SAMPLES": "2", "ROUNDS": "1"}
HOST = socket.gethostname()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RankKill]]:
    folder = tmp_path_factory.mktemp("ranks")
    return folder, list(check_rank_kills(folder, 3, seed=1, settings=SETTINGS, forked=True))


def test_ranks_killed_at_three_random_moments_lose_nothing_and_nothing_is_made_twice(
    killed: tuple[Path, list[RankKill]],
) -> None:
    _, kills = killed
    assert [kill.differences for kill in kills] == [()] * 3
    assert [kill.target for kill in kills] == [target for _, target in kill_ranks.TURNS[:3]]
    assert {kill.rank == 0 for kill in kills} == {True, False}, "rank 0 and others"
    assert all(kill.then_ranks != kill.ranks for kill in kills)
    assert max(kill.seconds_to_end for kill in kills) < kill_ranks.SECONDS_TO_END


def test_an_image_that_is_made_again_is_seen_and_so_is_one_that_is_lost(killed: tuple[Path, list[RankKill]]) -> None:
    column = min(killed[0].glob("killed-*/")) / "SDXL"
    whole = list(whole_batches(column.parent))
    assert list(kill_ranks._repeated(whole)) == []
    journal = column / lines_name()
    line = next(text for text in journal.read_text().splitlines() if '"kind": "batch"' in text)
    with journal.open("a") as file:
        file.write(f"{line}\n")
    repeated = list(kill_ranks._repeated(list(whole_batches(column.parent))))
    assert repeated
    assert all(told.endswith("was made 2 times") for told in repeated)
    for image in (column / "output").iterdir():
        os.truncate(image, 10)
    assert list(whole_batches(column.parent)) == []
    assert len(list(recorded_batches(column.parent))) == len(whole) + 1


@pytest.mark.parametrize(
    ("lines", "rank", "fault"),
    [
        ([], 1, "0 lines tell the end instead of one: "),
        (["run_inference.py: rank 1 on HOST: killed"] * 2, 1, "2 lines tell the end instead of one: "),
        (
            ["run_inference.py: rank 0 on HOST: killed"],
            1,
            "rank 1 was killed on HOST: run_inference.py: rank 0 on HOST",
        ),
        (["run_inference.py: rank 1 on elsewhere: killed"], 1, "rank 1 was killed on HOST: "),
        (["run_inference.py: stopped"], 1, "no rank, host and reason: run_inference.py: stopped"),
        (["run_inference.py: rank 1 on HOST: "], 1, "no rank, host and reason: "),
    ],
)
def test_a_run_must_end_with_one_line_of_rank_host_and_reason(lines: list[str], rank: int, fault: str) -> None:
    (found,) = kill_ranks._faults_of([line.replace("HOST", HOST) for line in lines], rank)
    assert found.startswith(fault.replace("HOST", HOST))


def test_the_line_may_name_any_rank_where_the_launcher_was_killed() -> None:
    told = f"run_inference.py: rank 2 on {HOST}: the launcher's store does not answer"
    assert list(kill_ranks._faults_of([told], rank=-1)) == []
    assert list(kill_ranks._faults_of([told], rank=2)) == []
