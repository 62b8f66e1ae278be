"""Work in processes of its own: what it is given, how it ends, and that no process of it is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cuda_works
import pytest
import works

import models
from benchmark.console.interruption import Stopped
from benchmark.run.servers import (
    PRELOADED,
    PRELOADED_OF_MODES,
    Channel,
    WorkerDied,
    WorkerFailed,
    WorkerServer,
    open_server,
    open_servers,
)
from files.hub import network

ROOT = Path(__file__).parents[3]
FOLDER = Path(__file__).parent
LITTLE = ("benchmark.run.servers",)  # what the works import
SECONDS_TO_END = 20.0  # at most: on an idle machine a tenth of a second


def never() -> bool:
    return False


def messages_of(
    server: WorkerServer, work: Callable[[Channel], None], stopped: Callable[[], bool] = never
) -> list[Any]:
    messages: list[Any] = []
    server.run(work, messages.append, stopped)
    return messages


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for_end_of(pids: list[int], seconds: float) -> list[int]:
    """Return those that still run after so many seconds."""
    end = time.monotonic() + seconds
    while (left := [pid for pid in pids if is_running(pid)]) and time.monotonic() < end:
        time.sleep(0.02)
    return left


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": f"{ROOT}:{FOLDER}"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[WorkerServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OF_THIS_MOMENT", "1")
        opened = WorkerServer(LITTLE)
    with opened:
        yield opened


def test_each_server_is_another_process_with_a_hash_seed_of_its_own(server: WorkerServer) -> None:
    [first] = messages_of(server, works.tell_itself)
    [again] = messages_of(server, works.tell_itself)
    with open_servers(1, LITTLE) as [other]:
        [second] = messages_of(other, works.tell_itself)
    assert first["server"] == again["server"] == server.pid != second["server"] == other.pid
    assert len({first["pid"], again["pid"], second["pid"], os.getpid()}) == 4
    assert first["hash"] == again["hash"] != second["hash"]
    assert wait_for_end_of([other.pid], 0.0) == []


def test_a_worker_has_the_parents_environment_and_folder_and_a_session_without_terminal(server: WorkerServer) -> None:
    [told] = messages_of(server, works.tell_itself)
    expected = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "OF_THIS_MOMENT": "1", "OFFLINE": os.environ["OFFLINE"]}
    assert told["environment"].items() >= expected.items()
    assert told["directory"] == str(Path.cwd())
    assert told["session"] == server.pid != os.getsid(0)
    assert told["handlers"] == [True, True, True]
    assert "torch" not in told["modules"]


def test_messages_arrive_in_their_order(server: WorkerServer) -> None:
    assert messages_of(server, works.count_up) == list(range(200))


def test_work_of_many_megabytes_is_sent(server: WorkerServer) -> None:
    assert messages_of(server, partial(works.send_back, "x" * 20_000_000)) == [20_000_000]


def test_work_is_told_once_the_parent_is_stopped(server: WorkerServer) -> None:
    messages: list[Any] = []
    server.run(works.wait_for_stop, messages.append, lambda: bool(messages))
    assert messages == ["started", "told to stop"]


def test_nothing_is_run_where_it_was_stopped_before(server: WorkerServer) -> None:
    with open_server(LITTLE) as unready:
        assert messages_of(unready, works.count_up, stopped=lambda: True) == []
    assert server.is_ready()
    assert messages_of(server, works.count_up, stopped=lambda: True) == []


def test_what_a_worker_prints_goes_to_stderr() -> None:
    program = "import works\nfrom benchmark.run.servers import open_server\n"
    program += "with open_server(()) as server: server.run(works.write_everywhere, print, lambda: False)"
    told = start(program).communicate(timeout=60)
    assert told[0] == ""
    assert sorted(told[1].splitlines()) == ["on stderr", "on stdout", "on the descriptor"]


def test_an_error_is_one_line_and_an_unexpected_one_has_a_traceback_on_stderr(
    capfd: pytest.CaptureFixture[str],
) -> None:
    cases: list[tuple[Any, str, bool]] = [
        (works.want_a_file, "FileNotFoundError: no weights in this folder", False),
        (works.divide_by_zero, "ZeroDivisionError: integer division or modulo by zero", True),
        (works.run_out_of_memory, "MemoryError: MemoryError", True),
        (works.send_what_cannot_be_sent, "AttributeError: Can't pickle local object", True),
    ]
    with open_server(LITTLE) as own:
        for work, line, has_traceback in cases:
            with pytest.raises(WorkerFailed) as caught:
                messages_of(own, work)
            assert caught.value.line.startswith(line)
            assert "\n" not in caught.value.line
            assert ("Traceback" in capfd.readouterr().err) == has_traceback
        assert messages_of(own, works.count_up)[-1] == 199


def test_work_that_stands_in_no_module_is_refused(server: WorkerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkerFailed, match=r"AssertionError: what a worker runs, .* not a lambda"):
        messages_of(server, lambda channel: channel.send(1))
    here = types.ModuleType("module_of_the_parent_alone")
    monkeypatch.setitem(sys.modules, here.__name__, here)
    exec("def work(channel): ...", here.__dict__)
    with pytest.raises(
        WorkerFailed, match="AssertionError: work must stand in a module that a worker can import: No mod"
    ):
        messages_of(server, here.work)


@pytest.mark.parametrize(
    ("work", "line"),
    [
        (
            partial(works.kill_itself, signal.SIGKILL),
            "was killed by SIGKILL (the system does that where memory runs out)",
        ),
        (partial(works.kill_itself, signal.SIGSEGV), "was killed by SIGSEGV"),
        (partial(works.exit_with, 3), "ended with status 3"),
        (partial(works.exit_with, 0), "ended with status 0"),
    ],
    ids=["SIGKILL", "SIGSEGV", "status-3", "status-0"],
)
def test_a_worker_that_dies_is_told_of_and_the_next_one_runs(server: WorkerServer, work: Any, line: str) -> None:
    with pytest.raises(WorkerDied, match=f"^{re.escape(f'its process {line}')}$"):
        messages_of(server, work)
    assert messages_of(server, partial(works.send_back, "x")) == [1]


def test_a_server_that_is_killed_takes_its_worker_along_and_is_started_again() -> None:
    with open_server(LITTLE) as own:
        messages: list[Any] = []
        with pytest.raises(WorkerDied, match=r"^its server was killed by SIGKILL"):
            own.run(works.kill_server, messages.append, never)
        [first, *others] = messages[0]
        assert wait_for_end_of([first, *others], SECONDS_TO_END) == []
        assert messages_of(own, partial(works.send_back, "x")) == [1]
        assert own.pid != first


def test_what_a_worker_has_started_ends_with_it(server: WorkerServer) -> None:
    [[_, *processes]] = messages_of(server, works.start_helper)
    assert wait_for_end_of(processes, SECONDS_TO_END) == []


def test_an_error_in_the_parent_ends_all_at_once() -> None:
    processes: list[int] = []

    def be_stopped(message: Any) -> None:
        processes.extend(message)
        raise Stopped(signal.SIGINT)

    with pytest.raises(Stopped), open_server(LITTLE) as own:
        own.run(works.start_helper_and_wait, be_stopped, never)
    assert len(processes) == 3
    assert wait_for_end_of(processes, SECONDS_TO_END) == []


def test_no_process_is_left_where_the_parent_is_killed() -> None:
    program = "import works\nfrom benchmark.run.servers import open_servers\n"
    program += "with open_servers(2, ()) as (server, idle):\n    print(idle.pid, flush=True)\n    server.run("
    program += "works.start_helper_and_wait, lambda pids: print(*pids, flush=True), lambda: False)"
    parent = start(program)
    assert parent.stdout is not None
    processes = [int(pid) for _ in range(2) for pid in parent.stdout.readline().split()]
    assert len(processes) == 4
    assert all(map(is_running, processes))
    parent.kill()
    parent.wait()
    assert wait_for_end_of(processes, SECONDS_TO_END) == []


def test_no_server_is_left_where_the_parent_is_killed_during_its_imports(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(60)\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom benchmark.run.servers import open_server\n"
    program += "import time\nwith open_server(('slow',)) as server:\n    time.sleep(1)\n"
    program += "    print(server.pid, flush=True)\n    time.sleep(60)"
    parent = start(program)
    assert parent.stdout is not None
    process = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert wait_for_end_of([process], SECONDS_TO_END) == []


@pytest.mark.parametrize(("spoils", "left"), [("other", ("torch",)), ("torch", ())])
def test_a_server_whose_modules_touch_cuda_is_started_again_with_fewer(
    spoils: str, left: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "class cuda:\n    bad = False\n    _is_in_bad_fork = classmethod(lambda self: self.bad)\n"
    (tmp_path / "torch.py").write_text(text)
    (tmp_path / "other.py").write_text("import torch\n")
    with (tmp_path / f"{spoils}.py").open("a") as file:
        file.write("torch.cuda.bad = True\n" if spoils == "other" else "cuda.bad = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with open_server(("a_module_that_is_missing", "torch", "other", *LITTLE)) as own:
        assert messages_of(own, partial(works.send_back, "x")) == [1]
        assert own.preloaded == left


def test_a_server_of_all_models_leaves_cuda_and_threads_alone_and_knows_whether_it_is_offline() -> None:
    families = [name for family in models.FAMILIES for name in family.imports]
    preload = tuple(dict.fromkeys((*PRELOADED, *families, *PRELOADED_OF_MODES["compiled"])))
    with network(offline=True), open_server(preload) as own:
        [told] = messages_of(own, cuda_works.tell_of_cuda)
        assert own.preloaded == preload
    assert not told["bad_fork"]
    assert not told["initialized"]
    assert len(told["threads_of_server"]) == 1, told["threads_of_server"]
    assert told["offline"]
    assert told["sum"] == pytest.approx(300 * sum(range(200_000)), rel=1e-4), "threads of torch work in a worker"
    assert set(preload) <= set(told["modules"])
