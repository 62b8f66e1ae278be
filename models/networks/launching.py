"""Launches Triton kernels, or has all that a computation needs compiled at the same time before it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

try:
    from triton.runtime._async_compile import AsyncCompileMode
except ImportError:  # it is no public name before Triton 3.8; without it kernels compile one after the other
    AsyncCompileMode = None

_prepared: list[Any] | None = None  # kernels that were met, while nothing is to run; one thread makes programs


def launch(kernel: Any, grid: tuple[int, ...]) -> Callable[..., Any]:
    """Return what launches `kernel` on `grid`; inside of `compiling` it only has the kernel compiled."""
    return kernel[grid] if _prepared is None else partial(_prepare, kernel, grid)


def is_compiling() -> bool:
    """Return whether kernels leave what they should write as it was."""
    return _prepared is not None


@contextlib.contextmanager
def compiling() -> Iterator[None]:
    """Have the kernels launched inside compiled in threads; none runs, and all are ready at the end.

    One after the other they take some half a second each, most of it outside of Python (docs/performance.md).
    """
    global _prepared
    _prepared = []
    device = torch.cuda.current_device()
    try:
        with ThreadPoolExecutor() as threads:
            with AsyncCompileMode(threads) if AsyncCompileMode else contextlib.nullcontext():
                yield
            ready = {id(kernel): kernel for kernel in map(_result, _prepared)}
            list(threads.map(partial(_load, device), ready.values()))
    finally:
        _prepared = None


def _prepare(kernel: Any, grid: tuple[int, ...], *arguments: Any, **keywords: Any) -> None:
    assert _prepared is not None
    _prepared.append(kernel.warmup(*arguments, grid=grid, **keywords))


def _result(kernel: Any) -> Any:
    """Return the compiled kernel, of which there may only be a promise."""
    return kernel.result() if hasattr(kernel, "result") else kernel


def _load(device: int, kernel: Any) -> None:
    torch.cuda.set_device(device)  # a thread has none of its own
    kernel.run  # noqa: B018 - makes the launcher, with a C compiler, and loads the kernel
