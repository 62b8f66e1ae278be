"""Signals and streams: whatever happens to them, a program ends with the right status and at most one line about it."""

from __future__ import annotations

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from benchmark.console.interruption import Stopped, exit_status_of, status_of, stop_on_interrupt
from benchmark.console.streams import Guarded, GuardedMessages

ROOT = Path(__file__).parents[3]
STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")

# A program without torch: it writes a data file, says something on both streams, and ends with 3.
PROGRAM = """
import os, sys, time
sys.path[:0] = [{root!r}, os.getcwd()]
from benchmark.console.interruption import exit_status_of, leave
def main():
    {body}
    return 3
leave(exit_status_of(main, "program", "stopped"))
"""
SAYS = """
    data = open("data", "w")
    print("progress", file=sys.stderr)
    os.write(2, b"from a library") if {closed!r} == "closed" else None
    data.write("whole")
    data.close()
    print("the table " * 2000)
"""


def start(folder: Path, body: str, **options: object) -> subprocess.Popen[str]:
    code = PROGRAM.format(root=str(ROOT), body=body.strip())
    return subprocess.Popen([sys.executable, "-c", code], cwd=folder, text=True, **options)  # type: ignore[call-overload,no-any-return]


def given_stream(kind: str) -> int:
    """Return a descriptor that takes nothing; for "closed" any, which the child closes."""
    if kind == "broken":
        reader, writer = os.pipe()
        os.close(reader)
        return writer
    return os.open("/dev/full" if kind == "full" else os.devnull, os.O_WRONLY)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("stderr", ["open", "closed", "full", "broken"])
@pytest.mark.parametrize("stdout", ["open", "closed", "full", "broken"])
def test_a_stream_that_takes_nothing_costs_neither_data_nor_status(tmp_path: Path, stdout: str, stderr: str) -> None:
    given = [subprocess.PIPE if kind == "open" else given_stream(kind) for kind in (stdout, stderr)]

    def close_some() -> None:
        os.close(0)
        for descriptor, kind in ((1, stdout), (2, stderr)):
            if kind == "closed":
                os.close(descriptor)

    body = SAYS.format(closed=stderr)
    process = start(tmp_path, body, stdout=given[0], stderr=given[1], preexec_fn=close_some)
    printed, told = process.communicate(timeout=60)
    assert process.returncode == 3
    assert (tmp_path / "data").read_text() == "whole", "no file got the number of a stream"
    if stdout == "open":
        assert printed == "the table " * 2000 + "\n"
    if stderr == "open":
        failure = "" if stdout == "open" else "program: what it printed cannot be written to stdout ("
        assert told.startswith(f"progress\n{failure}")
        assert told.count("\n") == 1 + bool(failure)
    for descriptor in given:
        if descriptor != subprocess.PIPE:
            os.close(descriptor)


def test_a_character_that_the_encoding_lacks_is_escaped(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    body = 'print("n\\xf6 \\u2603"); print("n\\xf6", file=sys.stderr)'
    process = start(tmp_path, body, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.communicate(timeout=60) == ("n\\xf6 \\u2603\n", "n\\xf6\n")
    assert process.returncode == 3


@pytest.mark.parametrize("option", ["--help", "--check"])
@pytest.mark.parametrize("kind", ["closed", "full", "broken"])
def test_help_and_check_say_in_one_line_that_stdout_takes_nothing(option: str, kind: str) -> None:
    descriptor = given_stream(kind)
    close = (lambda: os.close(1)) if kind == "closed" else None
    command = [sys.executable, str(ROOT / "run_inference.py"), option, "--models", "var"]
    done = subprocess.run(command, stdout=descriptor, stderr=subprocess.PIPE, text=True, preexec_fn=close, check=False)
    os.close(descriptor)
    assert done.returncode == 0
    assert done.stderr.startswith("run_inference.py: ")
    assert "stdout (" in done.stderr
    assert done.stderr.count("\n") == 1


# Signals.


@pytest.mark.parametrize("name", STATUS)
def test_a_signal_ends_a_program_in_one_line_with_its_status(tmp_path: Path, name: str) -> None:
    process = start(
        tmp_path, "print('ready', flush=True); time.sleep(60)", stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    assert process.communicate(timeout=60) == ("", "program: stopped\n")
    assert process.returncode == STATUS[name]


@pytest.mark.parametrize("name", STATUS)
def test_a_signal_during_imports_ends_in_one_line_with_its_status(tmp_path: Path, name: str) -> None:
    # What is raised in a callback of the import system would be shown as "Exception ignored", and lost.
    (tmp_path / "slow.py").write_text(
        "import time\nprint('ready', flush=True)\ntry:\n time.sleep(60)\nexcept BaseException:\n pass\n"
    )
    process = start(tmp_path, "import slow", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    assert process.communicate(timeout=60) == ("", "program: stopped\n")
    assert process.returncode == STATUS[name]


@pytest.mark.parametrize("name", STATUS)
@pytest.mark.parametrize("handled", ["from the start", "by the run"])
def test_a_signal_in_what_can_raise_nothing_ends_in_one_line_with_its_status(
    tmp_path: Path, name: str, handled: str
) -> None:
    # What is raised in a finalizer or in a library's callback is shown as "Exception ignored", and lost.
    body = f"""
    import signal
    from contextlib import nullcontext
    from benchmark.console.interruption import stop_on_interrupt
    class Finalized:
        def __del__(self):
            signal.raise_signal(signal.{name})
            signal.raise_signal(signal.{name})
            time.sleep(2)  # a hang-up twice within a second is one
            signal.raise_signal(signal.{name})
    print('printed before')
    with stop_on_interrupt(is_quiet=True) if {handled == "by the run"} else nullcontext():
        Finalized()
    print('goes on')"""
    process = start(tmp_path, body, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.communicate(timeout=60) == ("printed before\n", "program: stopped\n")
    assert process.returncode == STATUS[name]


def test_before_signals_are_handled_nothing_is_imported_that_takes_time() -> None:
    code = (
        "import sys, run_inference; print({'torch', 'pydantic', 'numpy', 'PIL', 'tqdm', 'models'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "set()\n"


@needs_proc
@pytest.mark.parametrize("number", range(6))
def test_a_signal_while_the_benchmark_starts_shows_no_traceback(tmp_path: Path, number: int) -> None:
    name = list(STATUS)[number % len(STATUS)]
    environment = os.environ | {"WEIGHTS": "tiny", "MODELS": "pixart", "OUTPUT_DIR": str(tmp_path)}
    command = [sys.executable, str(ROOT / "run_inference.py")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ours = {signal.SIGTERM, getattr(signal, name)}  # Python itself has a handler for SIGINT
    while not all(catches(process.pid, number) for number in ours) and process.poll() is None:
        time.sleep(0.001)
    time.sleep(random.Random(number).uniform(0.0, 0.3))
    process.send_signal(getattr(signal, name))
    printed, told = process.communicate(timeout=60)
    assert (printed, process.returncode) == ("", STATUS[name]), told
    assert told == "run_inference.py: stopped; the same command goes on from the last whole batch\n"


def catches(process: int, number: int) -> bool:
    """Return whether the process has a handler for the signal: from then on it is ours."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    mask = next(line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_under_nohup_a_hangup_stays_ignored(tmp_path: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    body = "import signal; signal.raise_signal(signal.SIGHUP); print('goes on')"
    process = start(tmp_path, body, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=ignore)
    assert process.communicate(timeout=60) == ("goes on\n", "")
    assert process.returncode == 3


@pytest.mark.parametrize("name", STATUS)
def test_a_program_in_process_leaves_the_handlers_as_they_were(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = {name: signal.getsignal(getattr(signal, name)) for name in STATUS}

    def program() -> int:
        signal.raise_signal(getattr(signal, name))
        return 0

    assert exit_status_of(program, "program", "stopped") == STATUS[name]
    assert capsys.readouterr().err == "program: stopped\n"
    assert {name: signal.getsignal(getattr(signal, name)) for name in STATUS} == before


@pytest.mark.parametrize("name", STATUS)
def test_a_signal_while_the_handlers_are_set_is_told(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    number, set_handler, waiting = getattr(signal, name), signal.signal, [name]
    before = {name: signal.getsignal(getattr(signal, name)) for name in STATUS}

    def interrupted(which: int, handler: Any) -> Any:
        former = set_handler(which, handler)
        if which == number and waiting:
            waiting.clear()
            signal.raise_signal(number)
        return former

    monkeypatch.setattr(signal, "signal", interrupted)
    assert exit_status_of(lambda: pytest.fail("it begins"), "program", "stopped") == STATUS[name]
    assert capfd.readouterr() == ("", "program: stopped\n")
    assert {name: signal.getsignal(getattr(signal, name)) for name in STATUS} == before


def test_a_program_that_catches_the_stop_knows_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    def program() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as stop:
            return status_of(stop)
        return 0

    assert exit_status_of(program, "program", "stopped") == 143
    assert status_of(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", STATUS)
def test_the_first_signal_asks_to_stop_and_the_second_stops(name: str) -> None:
    number, other = getattr(signal, name), signal.SIGINT
    with stop_on_interrupt() as stop:
        assert (stop(), stop.status) == (False, 0)
        signal.raise_signal(number)
        assert (stop(), stop.status) == (True, STATUS[name])
        with pytest.raises(Stopped) as stopped:
            signal.raise_signal(other)
        assert stopped.value.status == 130
        assert stop.status == STATUS[name]


def test_two_hangups_of_one_closing_terminal_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with stop_on_interrupt() as stop:
        signal.raise_signal(signal.SIGHUP)
        now = 100.5
        signal.raise_signal(signal.SIGHUP)
        assert stop.status == 129
        now = 102.0
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGHUP)


def test_a_stop_that_a_library_has_caught_is_not_forgotten(capsys: pytest.CaptureFixture[str]) -> None:
    def program() -> int:
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        with stop_on_interrupt():
            raise AssertionError("nothing begins")

    assert exit_status_of(program, "program", "stopped") == 143
    assert capsys.readouterr() == ("", "program: stopped\n")


def test_in_another_thread_no_handler_is_set() -> None:
    statuses: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: statuses.append(exit_status_of(lambda: 7, "program", "stopped")))
    thread.start()
    thread.join()
    assert statuses == [7]
    assert signal.getsignal(signal.SIGINT) is before


# What is written.


def shown(*texts: str) -> str:
    stream = io.StringIO()
    for text in texts:
        GuardedMessages(stream).write(text)
    return stream.getvalue()


def test_messages_do_not_act_on_the_terminal() -> None:
    assert shown("a\x1b[31mred\x07\tb\n") == "a\\x1b[31mred\\x07\tb\n"
    assert shown("\rover\rwritten\n") == "\rover\\rwritten\n"
    assert shown("\x1b]0;title\x07") == "\\x1b]0;title\\x07"
    assert shown("\x1b[A\x1b[2J") == "\\x1b[A\\x1b[2J"
    assert shown("exe.\u202egpj") == "exe.\\u202egpj"


def test_progress_bars_are_drawn_as_without_the_guard() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def draw(guard: Callable[[io.StringIO], object]) -> str:
        terminal = Terminal()
        file = guard(terminal)
        bars = [tqdm(total=3, file=file, position=place, ncols=40, mininterval=0,
                     bar_format="{desc}{bar}{n}", ascii=False)
                for place in range(2)]  # type: ignore[call-overload]  # fmt: skip
        for bar in bars:
            bar.update(2)
        tqdm.write("a note", file=file)  # type: ignore[call-overload]
        for bar in bars:
            bar.close()
        return terminal.getvalue()

    plain = draw(lambda terminal: terminal)
    guarded = draw(lambda terminal: GuardedMessages(terminal))  # type: ignore[arg-type]
    assert "\x1b[A" in plain
    # In which order tqdm redraws the two bars differs from call to call.
    assert sorted(guarded) == sorted(plain)


def test_a_failing_stream_says_why_and_raises_nothing() -> None:
    class Failing(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(28, "No space left on device")

    stream = Guarded(Failing())
    print("text", file=stream, flush=True)
    assert stream.failure == "No space left on device"
    closed = Guarded(None)
    closed.flush()
    assert closed.failure == "", "nothing is lost before something is written"
    closed.write("text")
    assert closed.failure == "it is closed"
    assert not closed.isatty()
