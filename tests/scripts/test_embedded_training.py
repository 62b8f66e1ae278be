"""What training draws is what the benchmark draws, of other pairs; the loop trains, averages and stops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.data.sources.robots import load_art
from metrics.robots.grammar import load_grammar
from scripts.embedded.sprites import CaptionTokens, RobotSprites
from scripts.embedded.training import Budget, train

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def test_batches_equal_pillow_within_one_level() -> None:
    sprites = RobotSprites(ASSETS, "cpu")
    images_BCHW, attributes_BA = sprites.draw(torch.Generator().manual_seed(0), 64, "held_out")
    levels = ((images_BCHW + 1) * 127.5).round()
    art = load_art(ASSETS)
    for level, attributes in zip(levels, attributes_BA.tolist(), strict=True):
        exact = torch.from_numpy(np.array(art.draw(attributes))).permute(2, 0, 1)
        assert (level - exact).abs().max() <= 1


def test_training_draws_no_held_out_pair_and_held_out_draws_no_other() -> None:
    sprites = RobotSprites(ASSETS, "cpu")
    grammar = load_grammar(ASSETS)
    generator = torch.Generator().manual_seed(0)
    assert not any(grammar.is_held_out(row) for row in sprites.random_attributes(generator, 5000, "train").tolist())
    assert all(grammar.is_held_out(row) for row in sprites.random_attributes(generator, 1000, "held_out").tolist())


def words_tokenizer(captions: list[str]) -> Tensor:
    """A tokenizer of whole words by their own length, with start 1, end 2 and padding 0."""
    ids = torch.zeros((len(captions), 40), dtype=torch.int64)
    for row, caption in enumerate(captions):
        tokens = [1, *(3 + len(word) for word in caption.split()), 2]
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return ids


def test_token_ids_from_phrases_are_the_tokenizers() -> None:
    sprites = RobotSprites(ASSETS, "cpu")
    tokens = CaptionTokens(sprites, words_tokenizer, pad_id=0, end_id=2, start_id=1)
    attributes_BA = sprites.random_attributes(torch.Generator().manual_seed(7), 100)
    assert torch.equal(tokens(attributes_BA), words_tokenizer(sprites.captions(attributes_BA)))


def test_a_tokenizer_that_looks_across_spaces_is_refused() -> None:
    def total(captions: list[str]) -> Tensor:
        ids = words_tokenizer(captions)
        ids[:, 1] += ids.ne(0).sum(1)
        return ids

    with pytest.raises(ValueError, match="ids of its phrases"):
        CaptionTokens(RobotSprites(ASSETS, "cpu"), total, pad_id=0, end_id=2, start_id=1)


def test_training_reaches_a_minimum_and_leaves_averaged_weights() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    goal = torch.tensor([[3.0, -2.0]])

    def loss() -> Tensor:
        x = torch.randn(64, 2)
        return ((model(x) - x @ goal.T) ** 2).mean()

    called = []
    record = train(
        "line", [model], loss, Budget(1, steps=600), "cpu", learning_rate=0.05, weight_decay=0, ema_decay=0.9,
        milestones={0.25: lambda: called.append("milestone")}, periodic=(100, lambda: called.append("period")),
    )  # fmt: skip
    assert record.steps == 600
    assert called.count("milestone") == 1
    assert called.count("period") == 6
    torch.testing.assert_close(model.weight, goal, atol=0.05, rtol=0)
    assert not model.training


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    model = nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        train("nan", [model], lambda: model.weight.sum() * float("nan"), Budget(1, steps=5), "cpu")


def test_a_budget_of_time_is_kept() -> None:
    model = nn.Linear(1, 1)
    record = train("timed", [model], lambda: model(torch.ones(1, 1)).square().mean(), Budget(1 / 60), "cpu")
    assert 0.9 < record.seconds < 10, "a busy machine may be late"
    assert record.steps > 20
