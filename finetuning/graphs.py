"""A pass forwards and backwards as one CUDA graph, so that its many small kernels need no launches of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

_WARMUPS = 3


class GraphedPass:
    """`compute(inputs)` returns the loss; a call returns it too, and adds to the parameters' gradients.

    Captured at the first call, for the shapes of its inputs, which all later calls must have. The gradients stay where
    they are: set them to zero in place between two steps, never to None.
    """

    def __init__(self, compute: Callable[[Mapping[str, Tensor]], Tensor], parameters: list[torch.nn.Parameter]) -> None:
        self._compute, self._parameters = compute, parameters
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the loss, a tensor that the next call overwrites."""
        if self._graph is None:
            self._capture(inputs)
        assert self._graph is not None
        for name, held in self._inputs.items():
            held.copy_(inputs[name])
        self._graph.replay()
        return self._loss

    def _capture(self, inputs: Mapping[str, Tensor]) -> None:
        self._inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        # Compilation and the libraries' workspaces must be done with before the capture.
        with torch.cuda.stream(stream):
            for _ in range(_WARMUPS):
                self._compute(self._inputs).backward()  # type: ignore[no-untyped-call]
        torch.cuda.current_stream().wait_stream(stream)
        for parameter in self._parameters:
            assert parameter.grad is not None
            parameter.grad.zero_()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._loss = self._compute(self._inputs)
            self._loss.backward()  # type: ignore[no-untyped-call]
        self._loss = self._loss.detach()
