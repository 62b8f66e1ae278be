"""What workers do in tests: each stands in a module, so that it can be sent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmark.run.servers import Channel


def tell_itself(channel: Channel) -> None:
    channel.send(
        {
            "pid": os.getpid(),
            "server": os.getppid(),
            "hash": hash("robot"),
            "modules": sorted(sys.modules),
            "directory": str(Path.cwd()),
            "environment": dict(os.environ),
            "handlers": [signal.getsignal(number) not in (signal.SIG_IGN, signal.SIG_DFL) for number in (1, 2, 15)],
            "threads_of_server": len(list(Path(f"/proc/{os.getppid()}/task").iterdir())),
            "session": os.getsid(0),
        }
    )


def count_up(channel: Channel) -> None:
    for number in range(200):
        channel.send(number)


def send_back(content: str, channel: Channel) -> None:
    channel.send(len(content))


def write_everywhere(_: Channel) -> None:
    print("on stdout")
    print("on stderr", file=sys.stderr)
    os.write(1, b"on the descriptor\n")


def want_a_file(_: Channel) -> None:
    raise FileNotFoundError("no weights in\nthis folder")


def divide_by_zero(_: Channel) -> None:
    print(1 // 0)


def run_out_of_memory(_: Channel) -> None:
    raise MemoryError


def wait_for_stop(channel: Channel) -> None:
    channel.send("started")
    while not channel.stopped():
        time.sleep(0.01)
    channel.send("told to stop")


def kill_itself(number: int, channel: Channel) -> None:
    channel.send("last words")
    os.kill(os.getpid(), number)
    time.sleep(60)


def exit_with(status: int, _: Channel) -> None:
    os._exit(status)


def kill_server(channel: Channel) -> None:
    start_helper(channel)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def start_helper(channel: Channel) -> None:
    """Start a process as torch's compile workers are started, and tell its id and the own one."""
    program = "import os, time; parent = os.getppid()\nwhile os.getppid() == parent: time.sleep(0.1)"
    helper = subprocess.Popen([sys.executable, "-S", "-c", program])
    channel.send([os.getppid(), os.getpid(), helper.pid])


def start_helper_and_wait(channel: Channel) -> None:
    start_helper(channel)
    time.sleep(60)


def send_what_cannot_be_sent(channel: Channel) -> None:
    channel.send(lambda: None)
