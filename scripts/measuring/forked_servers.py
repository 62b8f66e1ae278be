"""Servers that are forked from a run instead of started anew: the same processes in the time that a test has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from scripts.measuring.killing import SECONDS_BETWEEN_LOOKS


class ForkedServer:
    """Stands in for `subprocess.Popen` where a server is started. What the run has imported is there at once.

    It has the session, the descriptors and the arguments of a real one, but neither a memory layout nor a hash seed of
    its own, and it cannot use CUDA.
    """

    def __init__(self, command: Sequence[str], *, pass_fds: Sequence[int], **_: Any) -> None:
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        try:
            self._serve(command[3:], pass_fds)  # after the interpreter, -c and the program
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def _serve(self, arguments: Sequence[str], pass_fds: Sequence[int]) -> None:
        os.setsid()
        kept = {0, 1, 2, *pass_fds}
        for descriptor in {int(path.name) for path in Path("/proc/self/fd").iterdir()} - kept:
            with suppress(OSError):  # that of the listing itself
                os.close(descriptor)
        sys.stdout = sys.stderr = os.fdopen(2, "w", closefd=False)
        sys.argv = ["server", *arguments]
        from benchmark.run import worker_server

        # The run may have counted CUDA devices, which matters on a GPU alone.
        setattr(worker_server, "_has_touched_cuda", lambda: False)  # noqa: B010
        worker_server.main()

    def poll(self) -> int | None:
        if self._status is None:
            process, status = os.waitpid(self.pid, os.WNOHANG)
            if process:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def wait(self, timeout: float = float("inf")) -> int:
        until = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("server", timeout)
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return status

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def fork_servers() -> None:
    """Have this process fork its servers from now on.

    It must not have called `torch.set_num_threads`: where threads of a worker then begin at the same time, one of them
    can find torch's thread pool while another replaces it ("Invalid thread pool!").
    """
    from benchmark.run import servers

    stand_in = SimpleNamespace(Popen=ForkedServer, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired)
    setattr(servers, "subprocess", stand_in)  # noqa: B010
