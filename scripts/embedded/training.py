"""The training loop that all embedded models share: AdamW, warm-up and cosine, averaged weights, CUDA graphs."""

from __future__ import annotations

import datetime
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

LOG_SECONDS = 10.0
STEPS_IN_FLIGHT = 4

Loss = Tensor | tuple[Tensor, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Budget:
    """How long to train: exactly `steps` steps, or else as many as fit into `minutes` (compiling included)."""

    minutes: float
    steps: int | None = None


@dataclass(frozen=True)
class TrainingRecord:
    """What a model card says of a run."""

    steps: int
    seconds: float
    loss: float
    terms: Mapping[str, float] = field(default_factory=dict)


def log(name: str, text: str) -> None:
    print(f"{datetime.datetime.now():%H:%M:%S} {name}: {text}", file=sys.stderr, flush=True)


class AveragedWeights:
    """An exponential moving average of parameters that starts at zero and is corrected for it.

    Without the correction an early average still holds the random start.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self._sums = [torch.zeros_like(parameter, requires_grad=False) for parameter in parameters]
        self.updates = 0

    def update(self) -> None:
        """Take in the current parameters; `updates` is counted by the caller, since graphs replay this unseen."""
        torch._foreach_lerp_(self._sums, [parameter.detach() for parameter in self._parameters], 1 - self._decay)

    def copy_to_parameters(self) -> None:
        """Replace the parameters by their average."""
        correction = 1 - self._decay**self.updates
        for parameter, total in zip(self._parameters, self._sums, strict=True):
            parameter.detach().copy_(total / correction)


def train(
    name: str,
    modules: Sequence[nn.Module],
    loss_function: Callable[[], Loss],
    budget: Budget,
    device: str,
    *,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    betas: tuple[float, float] = (0.9, 0.99),
    warmup: float = 0.04,
    ema_decay: float = 0.999,
    clip_norm: float = 1.0,
    no_decay: Callable[[str], bool] = lambda _: False,
    milestones: Mapping[float, Callable[[], None]] | None = None,
    periodic: tuple[int, Callable[[], None]] | None = None,
) -> TrainingRecord:
    """Train the modules in place and leave the averaged weights in them, in evaluation mode.

    loss_function: draws its own data (from the device's default generator) and returns the loss, or the loss and
    named terms to log (scalar tensors). It must not wait for the device and must use the same shapes and the same
    tensors at every call, since it is captured in a CUDA graph with the whole step. It runs under bf16 autocast on
    CUDA, in float32 on a CPU. Only parameters with `requires_grad` are trained.
    milestones: {share of the budget: callable}, run once between two steps when that share is reached; the step is
    captured anew after it, so that it may change what loss_function does (through a Python flag, say) or set
    weights in place. The averaged weights start afresh then.
    periodic: (n, callable), run between two steps every n steps; it may change tensors in place, nothing else.
    no_decay: whether the parameter of this name takes no weight decay; those of one dimension never do.
    Raises FloatingPointError where the loss is not finite.
    """
    for module in modules:
        module.train()
    named = [
        (key, parameter)
        for module in modules
        for key, parameter in module.named_parameters()
        if parameter.requires_grad
    ]
    plain = [parameter for key, parameter in named if parameter.ndim < 2 or no_decay(key)]
    decayed = [parameter for key, parameter in named if not (parameter.ndim < 2 or no_decay(key))]
    on_cuda = device.startswith("cuda")
    rate = torch.tensor(0.0, device=device)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=rate, betas=betas, capturable=on_cuda, foreach=on_cuda
    )
    for group in optimizer.param_groups:
        group["lr"] = rate  # one tensor for all groups, set between steps
    step = _Step(loss_function, optimizer, [parameter for _, parameter in named], ema_decay, clip_norm, on_cuda)
    pending = sorted((milestones or {}).items())
    in_flight: deque[torch.cuda.Event] = deque()
    begin = time.monotonic()
    # The schedule's clock starts when the step is captured: compiling may take a minute, which is no training.
    start, end = begin, begin + 60 * budget.minutes
    logged_at, logged_step, mean_loss = begin, 0, math.nan
    done = 0
    log(name, f"{sum(parameter.numel() for _, parameter in named) / 1e6:.3f} M parameters on {device}")
    while True:
        share = done / budget.steps if budget.steps else (time.monotonic() - start) / max(end - start, 1e-6)
        if done <= _Step.PLAIN_STEPS + 1 and not budget.steps:
            share = 0.0
            start = time.monotonic()
        if share >= 1:
            break
        while pending and share >= pending[0][0]:
            pending.pop(0)[1]()
            step.reset()
        rate.fill_(learning_rate * _schedule(share, warmup))
        step.run()
        done += 1
        if periodic is not None and done % periodic[0] == 0:
            periodic[1]()
        if on_cuda:  # the share of time is only known if the device is not left far behind
            in_flight.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
            in_flight[-1].record()
            if len(in_flight) > STEPS_IN_FLIGHT:
                in_flight.popleft().synchronize()
        now = time.monotonic()
        if now - logged_at >= LOG_SECONDS or done == 1:
            terms = step.read_terms(done - logged_step)
            mean_loss = terms["loss"]
            text = " ".join(f"{key} {value:.4f}" for key, value in terms.items())
            log(
                name, f"step {done} {100 * share:.0f} % {text} {1000 * (now - logged_at) / (done - logged_step):.1f} ms"
            )
            logged_at, logged_step = now, done
            if not math.isfinite(mean_loss):
                raise FloatingPointError(f"{name}: the loss is {mean_loss} at step {done}")
    if done > logged_step:
        mean_loss = step.read_terms(done - logged_step)["loss"]
    if not math.isfinite(mean_loss):
        raise FloatingPointError(f"{name}: the loss is {mean_loss} at step {done}")
    step.average.copy_to_parameters()
    for module in modules:
        module.eval()
    record = TrainingRecord(done, time.monotonic() - begin, mean_loss)
    log(name, f"done: {record.steps} steps in {record.seconds:.0f} s, loss {record.loss:.4f}")
    return record


def _schedule(share: float, warmup: float) -> float:
    """Return the learning rate's factor: linear warm-up, then a cosine to zero at share 1."""
    if share < warmup:
        return share / warmup
    return 0.5 * (1 + math.cos(math.pi * (share - warmup) / (1 - warmup)))


class _Step:
    """One training step, captured in a CUDA graph after a few plain ones."""

    PLAIN_STEPS = 3

    def __init__(
        self,
        loss_function: Callable[[], Loss],
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        ema_decay: float,
        clip_norm: float,
        on_cuda: bool,
    ) -> None:
        self._loss_function = loss_function
        self._optimizer = optimizer
        self._parameters = parameters
        self._ema_decay = ema_decay
        self._clip_norm = clip_norm
        self._on_cuda = on_cuda
        self._sums: dict[str, Tensor] = {}
        self._stream = torch.cuda.Stream() if on_cuda else None  # type: ignore[no-untyped-call]
        self.reset()

    def reset(self) -> None:
        """Forget the graph and the averaged weights: the next step runs plainly again."""
        if self._on_cuda:
            torch.cuda.synchronize()  # a graph must not be freed while it runs
        self.average = AveragedWeights(self._parameters, self._ema_decay)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._plain_steps = 0

    def run(self) -> None:
        if self._stream is None:
            self._compute()
        elif self._graph is not None:
            self._graph.replay()
        elif self._plain_steps < self.PLAIN_STEPS:
            # Plain steps on a side stream first: libraries set themselves up, the optimizer makes its state.
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._compute()
            torch.cuda.current_stream().wait_stream(self._stream)
            self._plain_steps += 1
        else:
            self._optimizer.zero_grad(set_to_none=True)
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._compute()
            self._graph.replay()
        self.average.updates += 1

    def _compute(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        device_type = "cuda" if self._on_cuda else "cpu"
        with torch.autocast(device_type, torch.bfloat16, enabled=self._on_cuda):
            result = self._loss_function()
        loss, terms = (result, {}) if isinstance(result, Tensor) else result
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parameters, self._clip_norm, foreach=True)
        self._optimizer.step()
        self.average.update()
        for key, value in {"loss": loss, **terms}.items():
            if key not in self._sums:
                self._sums[key] = torch.zeros((), device=value.device)
            self._sums[key].add_(value.detach().float())

    def read_terms(self, steps: int) -> dict[str, float]:
        """Return the means since the last call (waits for the device)."""
        means = {key: total.item() / steps for key, total in self._sums.items()}
        for total in self._sums.values():
            total.zero_()
        return means
