"""The estimate grows as memory does, and says what would fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetuning.memory import check_memory, estimate_memory
from finetuning.settings import TrainingSettings
from models import pixart


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(Path(), Path(), Path(), **changes)


def full_size() -> Any:
    with torch.device("meta"):
        return pixart.build_networks(512)["transformer"]()


def test_weights_and_optimizer_are_counted_exactly() -> None:
    transformer = full_size()
    estimate = estimate_memory(transformer, settings(rank=16), 1024, torch.bfloat16)
    assert estimate.weights == 2 * sum(parameter.numel() for parameter in transformer.parameters())
    # Eight square layers of 1,152 channels and two to or from 4,608 in each of 28 blocks; 16 bytes a parameter.
    assert estimate.lora == 16 * 28 * 16 * (8 * 2 * 1152 + 2 * (1152 + 4608))


def test_checkpointing_and_compiling_need_less_and_twice_the_side_four_times_as_much() -> None:
    transformer = full_size()
    eager, compiled, checkpointed = (
        estimate_memory(transformer, settings(**changes), 1024, torch.bfloat16).activations_of_one
        for changes in ({}, {"compile": True}, {"gradient_checkpointing": True})
    )
    assert checkpointed < compiled < eager
    twice = estimate_memory(transformer, settings(), 4096, torch.bfloat16)
    assert twice.activations_of_one == pytest.approx(4 * eager)


def test_the_line_names_a_batch_that_fits() -> None:
    estimate = estimate_memory(full_size(), settings(), 1024, torch.bfloat16)
    fits = estimate.largest_batch(24e9)
    check_memory(estimate, fits, 24e9, "cuda")
    with pytest.raises(ValueError, match=rf"BS={fits + 1} needs about .* 24.0 GB are free; BS={fits} fits"):
        check_memory(estimate, fits + 1, 24e9, "cuda")
    with pytest.raises(ValueError, match="not even BS=1 fits: --gradient_checkpointing"):
        check_memory(estimate, 1, 1e9, "cuda")
