"""Runs what depends on tensors at fixed places alone, on a GPU as CUDA graphs: one launch instead of thousands."""

from __future__ import annotations

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

CAPACITY = 4
WARMUPS = 1


class Program(Protocol):
    """A computation of fixed shapes: its inputs are tensors that it owns and that are filled in place before a run."""

    def run(self) -> Tensor:
        """Return the answer, from the program's own tensors alone, without waiting for the device."""
        ...


ProgramT = TypeVar("ProgramT", bound=Program)
Preparing = Callable[[], contextlib.AbstractContextManager[None]]


class ProgramPool(Generic[ProgramT]):
    """The last few programs by key (batch size and whatever else fixes shapes); the least recently used one goes.

    captured: run them as CUDA graphs that share their memory; else plainly. All is released with the pool.
    preparing: in what the first run before a capture takes place; its answer is not used.
    """

    def __init__(self, captured: bool, capacity: int = CAPACITY, preparing: Preparing = contextlib.nullcontext) -> None:
        self._captured = captured
        self._preparing = preparing
        self._capacity = capacity
        self._programs: OrderedDict[Hashable, tuple[ProgramT, Callable[[], Tensor]]] = OrderedDict()
        self._memory = torch.cuda.graph_pool_handle() if captured else None

    def __len__(self) -> int:
        return len(self._programs)

    def __getitem__(self, key: Hashable) -> ProgramT:
        """Return the program of this key, which was called before."""
        return self._programs[key][0]

    def __call__(self, key: Hashable, make: Callable[[], ProgramT], fill: Callable[[ProgramT], None]) -> Tensor:
        """Return the answer of the program of this key, made by `make` at its first call, after `fill`."""
        if key not in self._programs:
            while len(self._programs) >= self._capacity:
                self._programs.popitem(last=False)
            program = make()
            fill(program)  # what is run before the capture should be valid inputs
            self._programs[key] = program, self._capture(program) if self._captured else program.run
        self._programs.move_to_end(key)
        program, run = self._programs[key]
        fill(program)
        return run()

    def _capture(self, program: ProgramT) -> Callable[[], Tensor]:
        # Libraries choose their algorithms and allocate their workspaces outside of the graph.
        stream = capture_stream(torch.cuda.current_device())
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), fastest_convolutions():
            with self._preparing():
                program.run()
            for _ in range(WARMUPS):
                program.run()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # the graph has memory of its own
        graph = torch.cuda.CUDAGraph()
        # thread_local: another thread may copy finished images to the host meanwhile.
        capture = torch.cuda.graph(graph, pool=self._memory, stream=stream, capture_error_mode="thread_local")
        with fastest_convolutions(), capture:
            answer = program.run()

        def replay() -> Tensor:
            graph.replay()
            return answer.clone()  # the graph's own memory is written again by the next replay

        return replay


@functools.cache
def capture_stream(device: int) -> torch.cuda.Stream:
    """Return the device's one stream for captures: libraries keep a workspace for every stream they meet."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def fastest_convolutions() -> Iterator[None]:
    """Let cuDNN try its algorithms for each shape that is new to it."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
