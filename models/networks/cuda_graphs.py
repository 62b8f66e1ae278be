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

from models.stages import StageName, StageWatch

CAPACITY = 4
WARMUPS = 1


class Program(Protocol):
    """A computation of fixed shapes: its inputs are tensors that it owns and that are filled in place before a run."""

    def run(self) -> Tensor:
        """Return the answer, from the program's own tensors alone, without waiting for the device."""
        ...


class StagedProgram(Program, Protocol):
    """A program that knows its stages."""

    def run(self, watch: StageWatch | None = None) -> Tensor:
        """Return the answer as ever, and tell the watch, if there is one, where each stage begins and ends."""
        ...


ProgramT = TypeVar("ProgramT", bound=Program)
Preparing = Callable[[], contextlib.AbstractContextManager[None]]


class GraphEdges:
    """The edges of stages in a graph, in their order, each with an event that every launch of the graph records.

    It is the watch of the work that is captured.
    """

    def __init__(self) -> None:
        self._edges: list[tuple[bool, StageName, torch.cuda.Event]] = []

    def enter(self, stage: StageName, event: torch.cuda.Event | None = None) -> None:
        """Make the entry of this stage a part of the graph."""
        assert event is None, "a graph has no other graph inside"
        self._capture_edge(True, stage)

    def leave(self, stage: StageName, event: torch.cuda.Event | None = None) -> None:
        """Make its end a part of the graph."""
        assert event is None, "a graph has no other graph inside"
        self._capture_edge(False, stage)

    def tell(self, watch: StageWatch) -> None:
        """Tell `watch` of the edges of the launch that was the last one."""
        for is_entry, stage, event in self._edges:
            if is_entry:
                watch.enter(stage, event)
            else:
                watch.leave(stage, event)

    def _capture_edge(self, is_entry: bool, stage: StageName) -> None:
        # Only as an external one is it a node of the graph; else it would order the streams of the capture.
        event = torch.cuda.Event(enable_timing=True, external=True)  # type: ignore[no-untyped-call]
        event.record()
        self._edges.append((is_entry, stage, event))


@dataclass
class Entry(Generic[ProgramT]):
    """A program, how it is run, and, once it was watched, the graph of this and the edges in it."""

    program: ProgramT
    run: Callable[[], Tensor]
    watched: tuple[Callable[[], Tensor], GraphEdges] | None = None


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
        return entry.run() if self._watch is None else self._run_watched(entry, self._watch)

    @contextlib.contextmanager
    def watched(self, watch: StageWatch) -> Iterator[None]:
        """Tell `watch` of the stages of each call as long as the context is open. The programs must be staged ones.

        A captured program then runs as another graph of the same kernels, with an event at each edge of a stage. It
        goes when the context ends.
        """
        self._watch = watch
        try:
            yield
        finally:
            self._watch = None
            for entry in self._entries.values():
                entry.watched = None

    def _run_watched(self, entry: Entry[ProgramT], watch: StageWatch) -> Tensor:
        program = cast(StagedProgram, entry.program)
        if not self._captured:
            return program.run(watch)
        if entry.watched is None:
            edges = GraphEdges()
            entry.watched = replaying(*self._record(lambda: program.run(edges))), edges
        replay, edges = entry.watched
        answer = replay().clone()
        edges.tell(watch)
        return answer

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


def use_device(device: str) -> None:
    """Make a numbered GPU ("cuda:1") the current one: kernels of our own and captures go to that."""
    if (number := torch.device(device).index) is not None:
        torch.cuda.set_device(number)


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
