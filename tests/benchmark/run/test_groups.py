"""Groups of columns that differ in arguments of the call alone: who shares a worker, and what a failure costs."""

from __future__ import annotations

import dataclasses
import gc
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import swept_noise
import torch
from in_process import InProcess
from swept_noise import ALIVE, CALLED, LOADED

import models
from benchmark.console.interruption import Stop
from benchmark.console.progress import Progress
from benchmark.data.prompts import Prompt, PromptSet
from benchmark.data.sources.robots import Robots
from benchmark.measure import passes
from benchmark.measure.findings import Memory, Roofline
from benchmark.measure.machine import choose_machine
from benchmark.run.columns import Column, choose_models, plan_columns
from benchmark.run.groups import loaded_alike
from benchmark.run.jobs import open_jobs
from benchmark.run.rounds import generate
from benchmark.run.servers import WorkerDied
from benchmark.run.snapshot import Snapshot
from benchmark.settings.fields import ASSETS, settings_class
from models.base import ModelFamily
from scripts.measuring.check_verdicts import copies_of

ROUNDS, TIMED = 3, 2
CALLS = 1 + TIMED  # of a member in a round, without more warm-up than the first call


@dataclass(frozen=True)
class Run:
    """What a run of the rounds left: why columns failed, what it told, what each folder holds, by the titles."""

    failures: dict[str, str]
    told: str
    found: dict[str, Snapshot]

    def processes(self, title: str) -> list[set[str]]:
        """Return which processes timed each round of a column."""
        timed = self.found[title].timed
        return [{call.process for call in timed if call.round == number} for number in range(ROUNDS)]


@pytest.fixture(autouse=True)
def plain_family(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModelFamily:
    plain = dataclasses.replace(swept_noise.FAMILY, key="plain", title=lambda _: "Plain", call_options=frozenset())
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, swept_noise.FAMILY, plain))
    for name, value in {
        "WEIGHTS": "tiny", "MODELS": "swept", "SWEEP": "swept.level=1,2,3", "NUM_SAMPLES": str(TIMED), "WARMUP": "0",
        "ROUNDS": str(ROUNDS), "OUTPUT_DIR": str(tmp_path / "out"), "DEVICE": "cpu",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    LOADED.clear()
    CALLED.clear()
    return plain


def plan(**given: Any) -> list[Column]:
    settings = settings_class()(**given)
    return plan_columns(settings, choose_models(settings, "Robots", print), choose_machine("cpu", "auto"))


class StopAfter(Stop):
    """Asks to stop once so many calls were made."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self._calls = calls

    def __call__(self) -> bool:
        return len(CALLED) >= self._calls


def run(stop: Stop | None = None, **given: Any) -> Run:
    """Generate as a run of the program does."""
    examples = zip(range(4), Robots(ASSETS, 0).examples(), strict=False)
    prompts = tuple(Prompt(row, example.caption, example.label) for row, example in examples)
    jobs = open_jobs(plan(**given), choose_machine("cpu", "auto"), "robots", Robots(ASSETS, 0).label_names)
    failures: dict[str, str] = {}
    told = io.StringIO()
    given_prompts = PromptSet("Robots", "robots", Robots(ASSETS, 0).label_names, prompts, exhausted=True)
    generate(jobs, given_prompts, "cpu", Progress(told), stop or Stop(), failures)
    return Run(failures, told.getvalue(), {job.title: job.journal.read() for job in jobs})


def groups_of(columns: list[Column]) -> list[list[str]]:
    """Return the titles of the columns that share a load, group by group."""
    groups: dict[Any, list[str]] = {}
    for job in open_jobs(columns, choose_machine("cpu", "auto"), "identity"):
        groups.setdefault(loaded_alike(job), []).append(job.title)
    return list(groups.values())


def sizes_of(columns: list[Column]) -> list[int]:
    return [len(group) for group in groups_of(columns)]


def test_columns_that_differ_in_arguments_of_the_call_are_a_group_in_each_mode() -> None:
    assert groups_of(plan(SWEEP="swept.level=1,2; swept.kind=0,1", MODE="eager,compiled")) == [
        ["Swept (level 1, kind 0)", "Swept (level 2, kind 0)"],
        ["Swept (level 1, kind 1)", "Swept (level 2, kind 1)"],
        ["Swept (level 1, kind 0, compiled)", "Swept (level 2, kind 0, compiled)"],
        ["Swept (level 1, kind 1, compiled)", "Swept (level 2, kind 1, compiled)"],
    ]


def test_columns_of_another_dtype_or_with_a_lora_of_another_strength_are_other_groups() -> None:
    assert sizes_of(plan(DTYPE="float32,bfloat16")) == [3, 3]
    lora = ASSETS / "emoji_lora"
    assert lora.is_dir()
    columns = plan(MODELS="pixart", SWEEP="pixart.steps=1,2; pixart.lora_scale=0.5,1", PIXART_LORA=str(lora))
    assert sizes_of(columns) == [2, 2, 2], "without it, and at each strength"


def test_a_family_without_such_options_and_offloaded_models_share_nothing(
    monkeypatch: pytest.MonkeyPatch, plain_family: ModelFamily
) -> None:
    assert sizes_of(plan(MODELS="plain", SWEEP="plain.level=1,2,3")) == [1, 1, 1]
    assert sizes_of(plan(OFFLOAD="1")) == [1, 1, 1]
    wary = dataclasses.replace(swept_noise.FAMILY, shares_compiled=False)
    monkeypatch.setattr(models, "FAMILIES", (wary, plain_family))
    assert sizes_of(plan(MODE="eager,compiled")) == [3, 1, 1, 1]


def test_copies_of_one_column_each_have_a_worker_of_their_own() -> None:
    (column,) = plan(SWEEP="")
    assert sizes_of([*copies_of(column, ("A", "B"))]) == [1, 1]


def test_a_group_is_loaded_once_in_each_round_and_its_process_is_that_of_each_member() -> None:
    made = run()
    assert LOADED == ["1", "3", "2"], "the first member of each round loads: 1 2 3, 3 2 1, 2 3 1"
    first = made.processes("Swept (level 1)")
    assert [len(each) for each in first] == [1, 1, 1]
    assert len(set.union(*first)) == ROUNDS
    loads_s = {loaded.process: loaded.load_s for loaded in made.found["Swept (level 1)"].processes}
    for level in (2, 3):
        found = made.found[f"Swept (level {level})"]
        assert made.processes(f"Swept (level {level})") == first
        assert {loaded.process: loaded.load_s for loaded in found.processes} == loads_s
        assert {loaded.notes for loaded in found.processes} == {(f"level {level}",)}


def test_members_come_in_reversed_order_every_other_round_and_groups_as_columns_do() -> None:
    run(MODELS="swept,plain", ROUNDS=4)
    members = CALLED[::CALLS]
    assert [level for level in members for _ in range(CALLS)] == CALLED, "one ends before the next one begins"
    plain = [1]
    assert members == [1, 2, 3, *plain, *plain, 3, 2, 1, 2, 3, 1, *plain, *plain, 1, 3, 2]


def test_each_member_has_its_own_first_call_states_passes_and_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def measure(generator: Any, *_: Any) -> Memory:
        seen.append(generator.options.level)
        return Memory(10, 20, "call", False)

    monkeypatch.setattr(passes, "_PASSES", passes._PASSES | {"memory": measure})
    made = run(PASSES="memory", ROUNDS=1)
    assert seen == [1, 2, 3]
    for found in made.found.values():
        assert [len(loaded.warmups_s) for loaded in found.processes] == [1]
        assert [state.edge for state in found.states] == ["start", "end"]
        assert len(found.measured) == len(found.finished) == 1
    assert len({batch.pixels for found in made.found.values() for batch in found.batches}) == 3


def test_a_members_generator_is_gone_when_the_next_one_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[list[int]] = []

    def note(generator: Any, requests: Any, own: Any = swept_noise.Swept.generate) -> torch.Tensor:
        alive.append(list(ALIVE))
        images: torch.Tensor = own(generator, requests)
        return images

    gc.collect()
    before = list(ALIVE)
    monkeypatch.setattr(swept_noise.Swept, "generate", note)
    run(ROUNDS=1)
    assert alive == [[*before, level] for level in (1, 2, 3) for _ in range(CALLS)]


def test_compiled_members_are_counted_on_one_eager_model_after_all_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[tuple[str, str, int]] = []

    def find(name: str, finding: Any) -> Callable[..., Any]:
        def found(generator: Any, *_: Any) -> Any:
            order.append((name, generator.runtime.mode, generator.options.level))
            return finding

        return found

    memory, roofline = Memory(10, 20, "call", False), Roofline(1e12, 1e9, 1e14, 1e12, "float32")
    table = {"memory": find("memory", memory), "roofline": find("roofline", roofline)}
    monkeypatch.setattr(passes, "_PASSES", passes._PASSES | table)
    made = run(MODE="compiled", PASSES="memory,roofline", ROUNDS=1)
    assert LOADED == ["compiled 1", "1"]
    assert order == [
        *(("memory", "compiled", level) for level in (1, 2, 3)), *(("roofline", "eager", level) for level in (1, 2, 3))
    ]  # fmt: skip
    assert all([line.name for line in found.measured] == ["memory", "roofline"] for found in made.found.values())


def test_progress_names_members_by_their_titles_and_other_columns_by_their_models() -> None:
    told = run(ROUNDS=1, NUM_SAMPLES=3, TIMED_SAMPLES=2).told
    for level in (1, 2, 3):
        assert f"Swept (level {level}), round 1 of 1: 2/2" in told
        assert f"Swept (level {level}), bulk: 1/1" in told
    told = run(SWEEP="", SWEPT_LEVEL=5, ROUNDS=1, MODE="eager,compiled").told
    assert told.count("Swept, round 1 of 1: 2/2") == 2


@pytest.mark.parametrize(
    ("trouble", "reason", "loads"),
    [
        ("user", "ValueError: it cannot draw that", ["1", "3", "3"]),
        # It may have damaged the process: another one runs the rest of the round.
        ("bug", "RuntimeError: CUDA error: an illegal memory access", ["1", "3", "3", "3"]),
    ],
)
def test_an_error_in_a_member_costs_that_member_alone(
    trouble: str, reason: str, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TROUBLE", f"2:{trouble}")
    made = run()
    assert made.failures == {"Swept (level 2)": f"{reason} (round 1 of 3)"}
    assert made.told.count("Swept (level 2) failed: ") == 1
    assert loads == LOADED
    assert made.processes("Swept (level 2)") == [set()] * ROUNDS
    first, third = made.processes("Swept (level 1)"), made.processes("Swept (level 3)")
    assert [len(each) for each in first] == [len(each) for each in third] == [1] * ROUNDS
    assert (first[0] == third[0]) is (trouble == "user")
    assert first[1:] == third[1:]


def test_options_that_the_model_cannot_be_called_with_cost_their_column_alone() -> None:
    made = run(SWEEP="swept.level=1,10,3", ROUNDS=1)
    assert made.failures == {"Swept (level 10)": "ValueError: there is no such level (round 1 of 1)"}
    assert made.processes("Swept (level 1)") == made.processes("Swept (level 3)")


def test_members_that_all_fail_are_each_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROUBLE", "1:bug 2:bug 3:bug")
    assert len(run().failures) == 3
    assert LOADED == ["1", "2", "3"]


@pytest.mark.usefixtures("real_servers")
def test_a_worker_that_is_killed_costs_the_member_that_was_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROUBLE", "2:kill")
    made = run(ROUNDS=1, SWEEP="swept.level=1,2,3,4")
    (title,) = made.failures
    assert title == "Swept (level 2)"
    assert made.failures[title].startswith("its process was killed by SIGKILL")
    first, third, fourth = (made.processes(f"Swept (level {level})")[0] for level in (1, 3, 4))
    assert len(first) == len(third) == 1
    assert first != third == fourth, "one more worker ran the rest"


def test_a_member_whose_worker_dies_in_a_pass_keeps_its_times_and_another_worker_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Death(BaseException):
        pass

    def measure(generator: Any, *_: Any) -> Memory:
        if generator.options.level == 2:
            raise Death
        return Memory(10, 20, "call", False)

    def run_or_die(server: InProcess, *given: Any, own: Any = InProcess.run) -> None:
        try:
            own(server, *given)
        except Death:
            raise WorkerDied("its process was killed by SIGKILL") from None

    monkeypatch.setattr(passes, "_PASSES", passes._PASSES | {"memory": measure})
    monkeypatch.setattr(InProcess, "run", run_or_die)
    made = run(PASSES="memory", ROUNDS=1)
    assert made.failures == {}
    assert (
        "Swept (level 2): its process was killed by SIGKILL after its timed calls; what passes lack is n/a" in made.told
    )
    found = {title: snapshot.measured[0].reason for title, snapshot in made.found.items()}
    assert list(found.values()) == ["", "its process was killed by SIGKILL", ""]
    assert LOADED == ["1", "3"]
    assert set(CALLED[: 2 * CALLS]) == {1, 2}
    assert CALLED[2 * CALLS :] == [3] * CALLS


def test_a_group_that_was_stopped_goes_on_where_it_was() -> None:
    first = run(StopAfter(CALLS + 2), ROUNDS=2)
    assert first.failures == {}
    assert [len(found.timed) for found in first.found.values()] == [TIMED, 1, 0]
    whole = run(ROUNDS=2)
    for found in whole.found.values():
        assert [(call.round, call.indices) for call in found.timed] == [
            (number, (index,)) for number in range(2) for index in range(TIMED)
        ]
    assert LOADED == ["1", "2", "3"], "the first member had its round; the other round is reversed"


def test_members_that_have_their_rounds_are_not_timed_again() -> None:
    run(SWEEP="swept.level=1,3")
    LOADED.clear()
    CALLED.clear()
    run(SWEEP="swept.level=1,2,3")
    assert LOADED == ["2", "2", "2"]
    assert set(CALLED) == {2}


def test_a_run_without_a_sweep_has_a_worker_for_each_column() -> None:
    made = run(SWEEP="", MODELS="swept,plain")
    assert len(LOADED) == 2 * ROUNDS
    swept, plain = (set.union(*made.processes(title)) for title in ("Swept", "Plain"))
    assert not swept & plain
    shown = [line.partition(":")[0] for line in made.told.splitlines() if "round" in line]
    assert shown[:4] == ["Swept, round 1 of 3"] * 2 + ["Swept, round 2 of 3"] * 2, "both are called so by the fake"


@pytest.mark.parametrize(
    ("model", "sweep"),
    [("sdxl", "sdxl.steps=1,2"), ("var", "var.cfg=0,4"), ("infinity", "infinity.cfg=1,3")],
)
def test_members_make_the_images_of_a_run_with_one_column(model: str, sweep: str, tmp_path: Path) -> None:
    together = run(MODELS=model, SWEEP=sweep, ROUNDS=1, NUM_SAMPLES=1)
    assert not together.failures
    option, _, values = sweep.partition("=")
    digests = []
    for place, value in enumerate(values.split(",")):
        given = {option.replace(".", "_").upper(): value}
        alone = run(MODELS=model, SWEEP="", ROUNDS=1, NUM_SAMPLES=1, OUTPUT_DIR=tmp_path / value, **given)
        ((_, expected),) = alone.found.items()
        found = list(together.found.values())[place]
        assert [batch.digests for batch in found.batches] == [batch.digests for batch in expected.batches]
        assert [loaded.notes for loaded in found.processes] == [loaded.notes for loaded in expected.processes]
        digests.append(found.batches[0].digests)
    assert digests[0] != digests[1]
