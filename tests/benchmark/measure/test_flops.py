"""A call's FLOPs and the bytes of weights that it reads, operation by operation, against what can be written down."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmark.measure.findings import NotMeasured
from benchmark.measure.flops import Counted, count, count_call
from models.base import ImageGenerator, Request

FLOAT_BYTES = 4
X_35 = torch.ones(3, 5)
IMAGE_BCHW = torch.ones(2, 4, 6, 6)


def cost(work: Callable[[], object], *networks: nn.Module) -> tuple[int, int]:
    counted = count(work, networks)
    assert counted.flops == sum(counted.by_operation.values())
    return counted.flops, counted.weight_bytes


LINEAR, CONVOLUTION = nn.Linear(5, 7), nn.Conv2d(4, 8, 3, padding=1)
UNBIASED = nn.Linear(5, 7, bias=False)
GROUP_NORM, LAYER_NORM, RUNNING = nn.GroupNorm(2, 4), nn.LayerNorm(5), nn.BatchNorm1d(5)
OPERATIONS: dict[str, tuple[Callable[[], object], nn.Module, int, int]] = {
    "linear": (lambda: LINEAR(X_35), LINEAR, 2 * 3 * 5 * 7, 5 * 7 + 7),
    "linear of three dimensions": (lambda: LINEAR(X_35[None]), LINEAR, 2 * 3 * 5 * 7, 5 * 7 + 7),
    "linear without bias": (lambda: UNBIASED(X_35), UNBIASED, 2 * 3 * 5 * 7, 5 * 7),
    "linear of what is no block of memory": (
        lambda: UNBIASED(torch.ones(2, 5, 3).transpose(1, 2)), UNBIASED, 2 * 6 * 5 * 7, 5 * 7,
    ),
    "matmul": (lambda: X_35 @ UNBIASED.weight.T, UNBIASED, 2 * 3 * 5 * 7, 5 * 7),
    "einsum": (lambda: torch.einsum("ij,kj->ik", X_35, UNBIASED.weight), UNBIASED, 2 * 3 * 5 * 7, 5 * 7),
    "baddbmm": (
        lambda: torch.baddbmm(torch.ones(2, 3, 7), X_35.expand(2, 3, 5), UNBIASED.weight.T.expand(2, 5, 7)),
        UNBIASED, 2 * 2 * 3 * 5 * 7, 5 * 7,
    ),
    "convolution": (lambda: CONVOLUTION(IMAGE_BCHW), CONVOLUTION, 2 * 72 * 9 * 4 * 8, 9 * 4 * 8 + 8),
    "group norm": (lambda: GROUP_NORM(IMAGE_BCHW), GROUP_NORM, 0, 8),
    "layer norm": (lambda: LAYER_NORM(X_35), LAYER_NORM, 0, 10),
    "buffer": (lambda: X_35 * RUNNING.running_mean, RUNNING, 0, 5),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_costs_its_products_and_reads_its_weights_once(name: str) -> None:
    work, network, flops, numbers = OPERATIONS[name]
    assert cost(work, network) == (flops, FLOAT_BYTES * numbers)


def test_a_weight_is_read_each_time_that_an_operation_takes_it() -> None:
    tied = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    tied[1].weight = tied[0].weight
    assert cost(lambda: tied(X_35), tied) == (2 * 2 * 3 * 5 * 5, 2 * FLOAT_BYTES * (25 + 5))


def test_an_embedding_reads_the_rows_that_it_returns_and_no_more_than_it_has() -> None:
    table = nn.Embedding(1000, 6)
    rows = torch.tensor([[3, 900], [3, 4]])
    for pick in (lambda: table(rows), lambda: table.weight[rows], lambda: table.weight.index_select(0, rows.flatten())):
        assert cost(pick, table) == (0, FLOAT_BYTES * 4 * 6)
    assert cost(lambda: X_35[:, :2] + table.weight[5, :2], table) == (0, FLOAT_BYTES * 2)
    assert cost(lambda: table(torch.zeros(5000, dtype=torch.int64)), table) == (0, FLOAT_BYTES * 1000 * 6)


@pytest.mark.parametrize(
    "work",
    [
        lambda: LINEAR.weight.T.view(5, 7)[1:].expand(4, 7),
        lambda: LINEAR.weight.new_zeros(9),
        lambda: torch.empty_like(LINEAR.weight),
        lambda: LINEAR.weight.to(torch.float32),
        lambda: RUNNING.running_var.fill_(1.0) if RUNNING.running_var is not None else None,
        lambda: RUNNING.running_var.copy_(torch.ones(5)) if RUNNING.running_var is not None else None,
    ],
    ids=["view", "new", "like", "same dtype", "fill", "copy"],
)
def test_a_view_a_shape_and_what_is_written_read_nothing(work: Callable[[], object]) -> None:
    assert cost(work, LINEAR, RUNNING) == (0, 0)


def test_what_is_no_weight_of_the_networks_is_not_counted() -> None:
    activation = torch.ones(7, 5)
    assert cost(lambda: functional.linear(X_35, activation), LINEAR) == (2 * 3 * 5 * 7, 0)


def test_half_the_size_is_half_the_bytes() -> None:
    network = nn.Linear(5, 7)
    _, whole_bytes = cost(lambda: network(X_35), network)
    network.to(torch.bfloat16)
    assert cost(lambda: network(X_35.bfloat16()), network) == (2 * 3 * 5 * 7, whole_bytes // 2)


def test_weights_that_a_call_casts_are_read_before_and_after() -> None:
    network = nn.Linear(5, 7).to(torch.bfloat16)

    def decode_in_float32() -> None:
        network.to(torch.float32)
        network(X_35)

    assert cost(decode_in_float32, network) == (2 * 3 * 5 * 7, (2 + 4) * (5 * 7 + 7))


def attend(queries: int, keys: int, width: int, value_width: int, mask: Tensor | None = None) -> Callable[[], Tensor]:
    q, k, v = torch.ones(2, 3, queries, width), torch.ones(2, 3, keys, width), torch.ones(2, 3, keys, value_width)
    return lambda: functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@pytest.mark.parametrize(
    "work",
    [attend(16, 16, 8, 8), attend(16, 5, 8, 8), attend(4, 6, 8, 10), attend(4, 6, 8, 8, torch.ones(4, 6).bool())],
    ids=["self", "cross", "wider values", "mask"],
)
def test_attention_costs_on_a_cpu_what_its_plain_form_does(work: Callable[[], Tensor]) -> None:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as plain:
        work()
    assert count(work, []).flops == plain.get_total_flops() > 0


def test_attention_of_grouped_heads_counts_every_query() -> None:
    q, k = torch.ones(1, 6, 4, 8), torch.ones(1, 2, 5, 8)
    found = count(lambda: functional.scaled_dot_product_attention(q, k, k, enable_gqa=True), [])
    assert found.flops == 2 * 2 * 6 * 4 * 5 * 8
    assert found.by_operation == {"scaled_dot_product_attention": found.flops}


def test_torchs_own_attention_layer_is_counted() -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True).eval()
    x_BLC = torch.ones(1, 5, 8)
    flops, read_bytes = cost(lambda: layer(x_BLC, x_BLC, x_BLC, need_weights=False), layer)
    assert flops == 2 * 5 * 8 * 4 * 8 + 4 * 5 * 5 * 8
    assert read_bytes == FLOAT_BYTES * (4 * 8 * 8 + 4 * 8)
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_module_that_is_given_what_asks_for_gradients_is_counted() -> None:
    class Queries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries_35, self.layer = nn.Parameter(torch.ones(3, 5)), nn.Linear(5, 7)

        def forward(self) -> Tensor:
            answer: Tensor = self.layer(self.queries_35)
            return answer

    network = Queries()
    assert cost(network, network) == (2 * 3 * 5 * 7, FLOAT_BYTES * (3 * 5 + 5 * 7 + 7))


def test_each_row_is_multiplied_by_its_own_expert_alone() -> None:
    experts = nn.ParameterList([torch.ones(4, 16, 32, dtype=torch.bfloat16)])
    rows, ends = torch.ones(10, 16, dtype=torch.bfloat16), torch.tensor([2, 5, 9, 10], dtype=torch.int32)
    assert cost(lambda: functional.grouped_mm(rows, experts[0], offs=ends), experts) == (
        2 * 10 * 16 * 32, 2 * 4 * 16 * 32,
    )  # fmt: skip


class Products(ImageGenerator):
    """A model whose call is one product for each request."""

    name, image_size, parameters = "products", 2, 1

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self._networks, self.checks = networks, 0

    def networks(self) -> Sequence[nn.Module]:
        return self._networks

    def generate(self, requests: Sequence[Request]) -> Tensor:
        with torch.inference_mode():
            made = LINEAR(torch.full((len(requests), 5), float(requests[0].seed)))
            return made.new_zeros(len(requests), 3, 2, 2, dtype=torch.uint8)

    def check(self) -> None:
        self.checks += 1


def requests(count: int) -> list[Request]:
    return [Request(i, "a", i) for i in range(count)]


def test_a_larger_batch_reads_its_weights_no_more_often() -> None:
    generator = Products([LINEAR])
    assert count_call(generator, requests(1)) == Counted(70, FLOAT_BYTES * 42, {"addmm": 70})
    assert count_call(generator, requests(4)) == Counted(280, FLOAT_BYTES * 42, {"addmm": 280})
    assert generator.checks == 2


def test_a_model_that_names_no_networks_is_not_counted() -> None:
    with pytest.raises(NotMeasured, match="does not name its networks"):
        count_call(Products([]), requests(1))


@contextmanager
def same_state() -> Iterator[None]:
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


def test_counting_changes_no_answer_and_draws_no_numbers() -> None:
    with torch.inference_mode():
        expected = LINEAR(X_35)
    answers: list[Tensor] = []
    with same_state():
        count(lambda: answers.append(LINEAR(X_35)), [LINEAR])
    assert torch.equal(answers[0], expected)
    assert math.isfinite(float(expected.sum()))
