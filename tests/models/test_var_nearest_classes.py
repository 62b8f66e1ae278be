"""Choosing the class nearest to a caption, with a small CLIP of random weights in the published layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.imagenet import imagenet_class_names, nearest_classes, text_features

NAMES = ("tench", "goldfish", "tabby cat")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[]).save_pretrained(folder)
    text = {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "eos_token_id": 1, "bos_token_id": 0, "pad_token_id": 1,
    }  # fmt: skip
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
    }
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    return str(folder)


def test_features_are_those_of_the_whole_clip(clip: str) -> None:
    from transformers import AutoTokenizer, CLIPModel

    texts = ["a photo of a tench", "a cat"]
    features_ND = text_features(texts, clip, "cpu")
    model = CLIPModel.from_pretrained(clip).eval()
    tokens = AutoTokenizer.from_pretrained(clip)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = model.get_text_features(**tokens)
    expected_ND = expected if isinstance(expected, torch.Tensor) else expected.pooler_output
    torch.testing.assert_close(features_ND, torch.nn.functional.normalize(expected_ND, dim=-1))


def test_caption_that_is_a_class_prompt_gets_that_class(clip: str, tmp_path: Path) -> None:
    captions = ["a photo of a goldfish", "a photo of a tabby cat", "a photo of a goldfish", "a photo of a tench"]
    assert nearest_classes(captions, NAMES, clip, "cpu", tmp_path) == [1, 2, 1, 0]


def test_answer_is_kept_in_the_cache(clip: str, tmp_path: Path) -> None:
    captions = ["a photo of a goldfish"]
    assert nearest_classes(captions, NAMES, clip, "cpu", tmp_path) == [1]
    (file,) = (tmp_path / "nearest_classes").iterdir()
    file.write_text(json.dumps([2]))
    assert nearest_classes(captions, NAMES, clip, "cpu", tmp_path) == [2]
    assert nearest_classes(captions, (*NAMES, "shark"), clip, "cpu", tmp_path) == [1]


def test_missing_clip_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"VAR_CLIP=.*; set VAR_CLIP to a folder .* VAR_CLASSES=") as caught:
        nearest_classes(["a"], NAMES, str(tmp_path / "nothing"), "cpu", tmp_path)
    assert "\n" not in str(caught.value)


def test_imagenet_has_a_thousand_names() -> None:
    names = imagenet_class_names()
    assert len(names) == 1000
    assert (names[0], names[1], names[207]) == ("tench", "goldfish", "golden retriever")
