"""Choosing the class nearest to a caption, with a small CLIP of random weights in the published layout."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from files.records import read_record, write_record
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
    write_record(file, read_record(file) | {"labels": [2]})
    assert nearest_classes(captions, NAMES, clip, "cpu", tmp_path) == [2]
    assert nearest_classes(captions, (*NAMES, "shark"), clip, "cpu", tmp_path) == [1]


@pytest.mark.parametrize(
    "labels", ["[2]", "a digit", "empty", [3], [-1], [1, 1], [True], ["1"], None, {"question": "another"}]
)
def test_a_damaged_answer_is_named_and_made_again(
    clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: object
) -> None:
    captions = ["a photo of a goldfish"]
    assert nearest_classes(captions, NAMES, clip, "cpu", tmp_path) == [1]
    (file,) = (tmp_path / "nearest_classes").iterdir()
    if isinstance(labels, str):
        content = file.read_text()
        file.write_text({"[2]": "[2]", "a digit": re.sub(r"\b1\b", "2", content), "empty": ""}[labels])
    else:
        changes = labels if isinstance(labels, dict) else {"labels": labels}
        write_record(file, read_record(file) | changes)
    capsys.readouterr()
    assert nearest_classes(captions, NAMES, clip, "cpu", tmp_path) == [1]
    assert f"{file} is damaged (" in capsys.readouterr().err
    assert nearest_classes(captions, NAMES, clip, "cpu", tmp_path) == [1]
    assert "damaged" not in capsys.readouterr().err


def test_an_answer_that_cannot_be_kept_is_a_warning(
    clip: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "nearest_classes").write_text("a file in the place of the folder")
    assert nearest_classes(["a photo of a goldfish"], NAMES, clip, "cpu", tmp_path) == [1]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    assert "nearest_classes" in line


def test_code_beside_the_tokenizer_is_refused_and_never_run(clip: str, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(clip, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}})
    )
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(OSError, match=r"VAR_CLIP=.*names code of its own \(auto_map\)") as caught:
        text_features(["a"], str(folder), "cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_missing_clip_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"VAR_CLIP=.*; set VAR_CLIP to a folder .* VAR_CLASSES=") as caught:
        nearest_classes(["a"], NAMES, str(tmp_path / "nothing"), "cpu", tmp_path)
    assert "\n" not in str(caught.value)


def test_imagenet_has_a_thousand_names() -> None:
    names = imagenet_class_names()
    assert len(names) == 1000
    assert (names[0], names[1], names[207]) == ("tench", "goldfish", "golden retriever")
