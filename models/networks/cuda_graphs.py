"""Runs what depends on tensors at fixed places alone, on a GPU as CUDA graphs: one launch instead of thousands."""

from __future__ import annotations

import contextlib
import functools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor

from models.stages import StageWatch, inside

CAPACITY = 4
WARMUPS = 1


class Program(Protocol):
    """A computation of fixed shapes: its inputs are tensors that it owns and that are filled in place before a run."""

    def run(self) -> Tensor:
        """Return the answer, from the program's own tensors alone, without waiting for the device."""
        ...


class StagedProgram(Program, Protocol):
    """A program of two stages: `run` is `decode(latents())`."""

    def latents(self) -> Tensor:
        """Return what the backbone makes."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Return the answer that the decoder makes of it."""
        ...


ProgramT = TypeVar("ProgramT", bound=Program)
Preparing = Callable[[], contextlib.AbstractContextManager[None]]


@dataclass
class Entry(Generic[ProgramT]):
    """A program, how it is run, and, once it was watched, how each of its two stages is."""

    program: ProgramT
    run: Callable[[], Tensor]
    stages: tuple[Callable[[], Tensor], Callable[[], Tensor]] | None = None


class ProgramPool(Generic[ProgramT]):
    """The last few programs by key (batch size and whatever else fixes shapes); the least recently used one goes.

    captured: run them as CUDA graphs that share their memory; else plainly. All is released with the pool.
    preparing: in what the first run before a capture takes place; its answer is not used.
    """

    def __init__(self, captured: bool, capacity: int = CAPACITY, preparing: Preparing = contextlib.nullcontext) -> None:
        self._captured = captured
        self._preparing = preparing
        self._capacity = capacity
        self._entries: OrderedDict[Hashable, Entry[ProgramT]] = OrderedDict()
        self._memory = torch.cuda.graph_pool_handle() if captured else None
        self._watch: StageWatch | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, key: Hashable) -> ProgramT:
        """Return the program of this key, which was called before."""
        return self._entries[key].program

    def __call__(self, key: Hashable, make: Callable[[], ProgramT], fill: Callable[[ProgramT], None]) -> Tensor:
        """Return the answer of the program of this key, made by `make` at its first call, after `fill`."""
        if key not in self._entries:
            while len(self._entries) >= self._capacity:
                self._entries.popitem(last=False)
            program = make()
            fill(program)  # what is run before the capture should be valid inputs
            self._entries[key] = Entry(program, self._capture(program) if self._captured else program.run)
        self._entries.move_to_end(key)
        entry = self._entries[key]
        fill(entry.program)
        return entry.run() if self._watch is None else self._run_in_stages(entry, self._watch)

    @contextlib.contextmanager
    def watched(self, watch: StageWatch) -> Iterator[None]:
        """Tell `watch` of the stages of each call as long as the context is open. The programs must be staged ones.

        Captured programs then run as two graphs, one for each stage, with the same kernels: inside of one graph the
        host meets no boundary. They go when the context ends.
        """
        self._watch = watch
        try:
            yield
        finally:
            self._watch = None
            for entry in self._entries.values():
                entry.stages = None

    def _run_in_stages(self, entry: Entry[ProgramT], watch: StageWatch) -> Tensor:
        program = cast(StagedProgram, entry.program)
        if not self._captured:
            with inside(watch, "backbone"):
                latents = program.latents()
            with inside(watch, "decoder"):
                return program.decode(latents)
        if entry.stages is None:
            backbone, latents = self._record(program.latents)
            decoder, answer = self._record(lambda: program.decode(latents))
            entry.stages = replaying(backbone, latents), replaying(decoder, answer)
        replay_backbone, replay_decoder = entry.stages
        with inside(watch, "backbone"):
            replay_backbone()
        with inside(watch, "decoder"):
            return replay_decoder().clone()

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
        replay = replaying(*self._record(program.run))
        return lambda: replay().clone()  # the graph's own memory is written again by the next replay

    def _record(self, work: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """Return the work as a graph, and the tensor that each replay writes its answer into."""
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # the graph has memory of its own
        graph = torch.cuda.CUDAGraph()
        stream = capture_stream(torch.cuda.current_device())
        # thread_local: another thread may copy finished images to the host meanwhile.
        capture = torch.cuda.graph(graph, pool=self._memory, stream=stream, capture_error_mode="thread_local")
        with fastest_convolutions(), capture:
            answer = work()
        return graph, answer


def replaying(graph: torch.cuda.CUDAGraph, answer: Tensor) -> Callable[[], Tensor]:
    """Return a function that replays the graph and returns the tensor that it writes."""

    def replay() -> Tensor:
        graph.replay()
        return answer

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
