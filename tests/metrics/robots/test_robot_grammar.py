"""Captions of robots can be read back exactly; the attribute network reads images of its size."""

import random
from pathlib import Path

import torch

from metrics.extractors.attribute_network import AttributeNetwork, read_attribute_network, save_attribute_network
from metrics.robots.grammar import PARTS, asked_attributes, load_grammar

ASSETS = Path(__file__).resolve().parents[3] / "assets"


def test_a_caption_reads_well() -> None:
    caption = load_grammar(ASSETS).caption((5, 1, 8, 2, 1, 5, 3))
    assert caption == (
        "a pink robot with a round head, one red eye, a speaker mouth, a moustache and an open barrel body, in a forest"
    )


def test_every_caption_is_read_back() -> None:
    grammar = load_grammar(ASSETS)
    chosen = random.Random(0)
    for _ in range(2000):
        attributes = tuple(chosen.randrange(size) for size in grammar.sizes)
        assert asked_attributes(grammar.caption(attributes), ASSETS) == dict(zip(PARTS, attributes, strict=True))


def test_a_class_name_asks_for_colour_and_head_alone() -> None:
    for label, name in enumerate(load_grammar(ASSETS).class_names):
        assert asked_attributes(name, ASSETS) == {"colour": label // 10, "head": label % 10}


def test_other_texts_ask_for_nothing() -> None:
    for text in ("", "hedgehog, twemoji style", "a robot with a top hat in a forest", "a blue robot", "Style: Cubism"):
        assert asked_attributes(text, ASSETS) == {}


def test_a_fifth_of_the_pairs_is_held_out_with_equal_shares() -> None:
    grammar = load_grammar(ASSETS)
    held_out = {
        (body, accessory)
        for body in range(10)
        for accessory in range(10)
        if grammar.is_held_out((0, 0, body, 0, 0, accessory, 0))
    }
    assert len(held_out) == 20
    for option in range(10):
        assert sum(body == option for body, _ in held_out) == 2
        assert sum(accessory == option for _, accessory in held_out) == 2


def test_an_attribute_network_is_saved_and_read(tmp_path: Path) -> None:
    grammar = load_grammar(ASSETS)
    network = AttributeNetwork((8, 8, 8, 16, 16), 24, grammar.sizes)
    save_attribute_network(network, tmp_path)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    again = read_attribute_network(tmp_path, "cpu")
    assert again.features_ND(images).shape == (2, 24)
    assert again.predict(images).shape == (2, len(PARTS))
    torch.testing.assert_close(again.features_ND(images), network.features_ND(images), atol=1e-2, rtol=1e-2)
