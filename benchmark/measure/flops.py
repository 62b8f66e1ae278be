"""What one call of a model costs: floating-point operations, and bytes of weights that it reads.

Both are counted operation by operation while the plain network runs. torch's counter has a formula for each kind of
matrix product and convolution; what is left out (norms, activations, softmax, noise) is little beside these.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmark.measure.findings import NotMeasured
from models.base import ImageGenerator, Request

_ATEN = torch.ops.aten
# They read the elements of their first argument that they return.
_PICKS = frozenset((_ATEN.embedding, _ATEN.index, _ATEN.index_select, _ATEN.gather))


@dataclass(frozen=True)
class Counted:
    """What a call costs.

    flops: a multiplication and an addition count as two. weight_bytes: of weights as they are stored, each time that an
    operation reads them. by_operation: the FLOPs of each of torch's operations, by its name: "addmm".
    """

    flops: int
    weight_bytes: int
    by_operation: Mapping[str, int]


def count_call(generator: ImageGenerator, requests: Sequence[Request]) -> Counted:
    """Return what one `generate` of these requests costs. The generator must run its plain networks: MODE=eager.

    requests: as `prepare` returned them.

    Raises:
        NotMeasured: the model does not name its networks.
    """
    networks = generator.networks()
    if not networks:
        raise NotMeasured("the model does not name its networks")
    counted = count(lambda: generator.generate(requests), networks)
    generator.check()
    return counted


def count(work: Callable[[], object], networks: Iterable[nn.Module]) -> Counted:
    """Return what `work` costs, which runs without gradients. networks: those whose weights it reads."""
    reads = WeightReads(networks)
    counter = FlopCounterMode(display=False, custom_mapping=_FORMULAS)
    counter.mod_tracker = _Whole()  # type: ignore[assignment]
    # The counter stands in front: it takes operations apart, and what reads weights is seen behind it. Inference mode
    # alone shows it operations as they were called, attention among them.
    with torch.inference_mode(), _taken_apart(), reads, counter:
        work()
    flops = {
        str(name).removeprefix("aten."): number for name, number in counter.get_flop_counts().get("Global", {}).items()
    }
    return Counted(sum(flops.values()), reads.read_bytes, flops)


def attention_flops(
    query: Sequence[int], key: Sequence[int], *_: object, out_shape: Sequence[int], **__: object
) -> int:
    """Return the FLOPs of attention, given the shapes `(..., L, D)`, `(..., T, D)` and `(..., L, E)` of the answer.

    They are those of the two products that torch's plain form of attention consists of, whatever kernel runs: torch has
    no formula for the one that runs on CPUs. The plain form itself would hold the scores in float32: 5 GB for an image
    of Infinity-2B at 1024 px.
    """
    rows = math.prod(out_shape[:-1])
    return 2 * rows * key[-2] * (query[-1] + out_shape[-1])


def expert_flops(rows: Sequence[int], *_: object, out_shape: Sequence[int], **__: object) -> int:
    """Return the FLOPs of the experts' products, given the shapes of the rows, each for one expert, and the answer."""
    return 2 * math.prod(out_shape) * rows[-1]


# What torch has no formula for. Attention by its overload, so that the counter does not take it apart, and by its name,
# which it looks the formula up by.
_FORMULAS: dict[Any, Any] = {
    _ATEN.scaled_dot_product_attention.default: attention_flops,
    _ATEN.scaled_dot_product_attention: attention_flops,
    _ATEN._grouped_mm: expert_flops,
}


@contextmanager
def _taken_apart() -> Iterator[None]:
    """Let torch's own attention layers run as the operations that they consist of, not as one without a formula."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class _Whole:
    """In the place of what tells the counter in which module it is: one that asks for gradients fails without them."""

    parents = frozenset(("Global",))

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


class WeightReads(TorchDispatchMode):
    """Adds up the bytes of weights that operations read.

    A weight is a parameter or buffer of the networks, or a view of one: they share their storage. A view reads nothing;
    what picks rows reads those that it returns, at most the whole table; of what is repeated along a dimension each
    element is read once.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._networks = tuple(networks)
        # By their addresses. A weak reference lets the memory go, but no other storage have the address.
        self._storages: dict[int, StorageWeakRef] = {}
        self._look()
        self.read_bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        weights = [
            (place, tensor)
            for place, name in enumerate(_read_arguments(func))
            if name
            for tensor in _tensors_in(args[place] if place < len(args) else given.get(name))
            if self._is_weight(tensor)
        ]
        answer = func(*args, **given)
        if not func.is_view:
            for place, tensor in weights:
                is_picked = place == 0 and func.overloadpacket in _PICKS
                whole_bytes = _distinct_bytes(tensor)
                self.read_bytes += min(answer.nbytes, whole_bytes) if is_picked else whole_bytes
        return answer

    def _is_weight(self, tensor: Tensor) -> bool:
        storage = _address_of(tensor)
        if storage not in self._storages and isinstance(tensor, nn.Parameter):
            # Its network was moved or cast in the call, and has other storages: offloaded, or a VAE run in float32.
            self._look()
            self._storages.setdefault(storage, _reference_to(tensor))
        return storage in self._storages

    def _look(self) -> None:
        for network in self._networks:
            for tensor in (*network.parameters(), *network.buffers()):
                if (address := _address_of(tensor)) not in self._storages:
                    self._storages[address] = _reference_to(tensor)


@functools.cache
def _read_arguments(func: Any) -> tuple[str, ...]:
    """Return the names of an operation's arguments in their order, "" in the place of one that it does not read."""
    name = func.overloadpacket.__name__
    if name.startswith("new_") or name.endswith("_like"):
        return ()  # they ask for the shape alone
    return tuple(
        "" if one.alias_info is not None and one.alias_info.is_write else one.name for one in func._schema.arguments
    )


def _tensors_in(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors_in(part)


def _address_of(tensor: Tensor) -> int:
    """Return the address of the storage itself, not of its memory, which the meta device has not."""
    return int(tensor.untyped_storage()._cdata)


def _reference_to(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _distinct_bytes(tensor: Tensor) -> int:
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.element_size() * math.prod(size for size, stride in sizes if stride)
