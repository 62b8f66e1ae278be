"""Workers of a fork server can use the GPU, though the server has imported all that models load with."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cuda_works
import pytest
import torch

import models
from benchmark.run.servers import PRELOADED, PRELOADED_OF_MODES, WorkerDied, WorkerServer, open_server

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
MODULES = dict.fromkeys(
    (*PRELOADED, *(name for family in models.FAMILIES for name in family.imports), *PRELOADED_OF_MODES["compiled"])
)


@pytest.fixture(scope="module")
def server() -> Iterator[WorkerServer]:
    with open_server(tuple(MODULES)) as opened:
        yield opened


def never() -> bool:
    return False


def test_a_worker_can_use_cuda_and_its_server_has_not_touched_it(server: WorkerServer) -> None:
    for _ in range(2):  # the first worker leaves the server as it was
        messages: list[Any] = []
        server.run(cuda_works.tell_of_cuda, messages.append, never)
        (told,) = messages
        assert not told["bad_fork"]
        assert told["usable"]
        # Torch's threads ("pt_...") would be lost in a worker. Libraries may have threads of their own there: with
        # driver 580, an H200 had one named "cuda00001800007", as debuggers show it in code of libcuda.so.1. What had
        # started it is not known; that a worker computes on the GPU, as above, is what the server is asked for.
        assert not [name for name in told["threads_of_server"] if name.startswith("pt_")]
    assert server.preloaded == tuple(MODULES), "nothing of it had to be left out"


def test_what_torch_compiles_with_ends_with_a_killed_worker_and_with_its_server(server: WorkerServer) -> None:
    for killed in (1, 0):
        processes: list[int] = []

        def kill(message: Any, of: list[int] = processes, place: int = killed) -> None:
            of.extend(message)
            os.kill(message[place], signal.SIGKILL)

        with pytest.raises(WorkerDied, match="was killed by SIGKILL"):
            server.run(cuda_works.start_compile_workers_and_wait, kill, never)
        assert len(processes) == 4
        end = time.monotonic() + 3
        while any(map(is_running, processes[killed and 1 :])) and time.monotonic() < end:
            time.sleep(0.05)
        assert not any(map(is_running, processes[killed and 1 :]))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
