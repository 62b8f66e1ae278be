"""How far a compiled pass's gradients are from the plain one's."""

from __future__ import annotations

import math

import pytest
import torch

from finetuning.compiled import gradient_error, in_parts, noise_added


def test_the_error_is_the_worst_parameters() -> None:
    wanted = [torch.tensor([3.0, 4.0]), torch.tensor([0.0, 5.0])]
    assert gradient_error(wanted, wanted) == 0
    assert gradient_error([torch.tensor([3.0, 4.0]), torch.tensor([0.0, 4.0])], wanted) == pytest.approx(0.2)


def test_a_gradient_of_almost_nothing_is_held_to_what_is_usual() -> None:
    wanted = [torch.tensor([1e-9]), torch.tensor([1.0])]
    assert gradient_error([torch.tensor([1e-3]), torch.tensor([1.0])], wanted) == pytest.approx(2e-3)


def test_one_large_gradient_does_not_hide_the_others_errors() -> None:
    wanted = [torch.tensor([1.0])] * 99 + [torch.tensor([1000.0])]
    found = [torch.tensor([2.0])] * 99 + [torch.tensor([1000.0])]
    assert gradient_error(found, wanted) == pytest.approx(1)


def test_noise_is_the_same_for_a_seed_and_goes_again() -> None:
    parameters = [torch.zeros(3), torch.linspace(0, 1, 4).requires_grad_()]
    before = [parameter.detach().clone() for parameter in parameters]
    seen = []
    for seed in (1, 1, 2):
        with noise_added(parameters, seed):
            seen.append(parameters[0].clone())
            assert 0 < seen[-1].abs().max() < 0.1
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert all(torch.equal(one, other) for one, other in zip(parameters, before, strict=True))


def test_a_gradient_that_is_no_number_has_no_error() -> None:
    assert math.isnan(gradient_error([torch.tensor([math.nan])], [torch.tensor([1.0])]))


def test_parts_hold_the_whole_batch_and_their_shares() -> None:
    inputs = {"a": torch.arange(7), "b": torch.arange(14).view(7, 2)}
    parts = list(in_parts(inputs, 3))
    assert [share for _, share in parts] == [3 / 7, 3 / 7, 1 / 7]
    assert torch.equal(torch.cat([part["b"] for part, _ in parts]), inputs["b"])
    assert len(list(in_parts({"a": torch.arange(2)}, 8))) == 2
