"""What holds for every test: one thread, no downloads, no worker processes, and Triton's kernels where no GPU is."""

import gc
import os
from collections.abc import Iterator

import pytest
import torch
from in_process import open_in_process

from benchmark.run import servers

# Tests are many small operations, which threads slow down: with two of them the suite takes three times as long as with
# one. Threads of two programs on the same cores wait for each other, so the programs that tests start have one, too.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test asks the network for anything but itself; those of downloads take this away again.
os.environ.setdefault("OFFLINE", "1")

# One round is enough to see what is made; tests of rounds and of winners ask for more.
os.environ.setdefault("ROUNDS", "1")
# Passes take longer than the timed calls of a small test; tests of passes ask for them.
os.environ.setdefault("PASSES", "none")

if not torch.cuda.is_available():
    # Triton's kernels are interpreted; this has to be said before Triton is imported.
    os.environ["TRITON_INTERPRET"] = "1"

OPEN_SERVERS = servers.open_servers


@pytest.fixture(autouse=True, scope="session")
def workers_in_this_process() -> Iterator[None]:
    """Run the work of workers in the test's own process, where fakes are known and nothing is imported again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "open_servers", open_in_process)
        yield


@pytest.fixture
def real_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a test the worker processes that a run has."""
    monkeypatch.setattr(servers, "open_servers", OPEN_SERVERS)


@pytest.fixture(autouse=True, scope="module")
def what_was_imported_is_not_collected() -> None:
    """Keep from the collector what earlier files have left, as a server of workers does.

    The program collects before each model and each timing. With all libraries imported, that takes a third of a second
    and more: six files that took 292 s take 151 s.
    """
    gc.collect()
    gc.freeze()
