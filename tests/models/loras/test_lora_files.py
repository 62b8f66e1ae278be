"""What a LoRA was trained on, written and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.loras.files import (
    CONFIG_NAME,
    TRAINING_DATA_NAME,
    describe_training_data,
    find_lora,
    lora_digest,
    read_lora,
    read_training_data,
    write_training_data,
)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    data = describe_training_data("x", ["ab" * 32, ""], [" a caption "])
    write_training_data(tmp_path, data)
    assert [path.name for path in tmp_path.iterdir()] == [TRAINING_DATA_NAME]
    assert read_training_data(tmp_path) == data


def test_images_are_known_by_content_and_captions_without_outer_spaces() -> None:
    data = describe_training_data("x", ["ab" * 32, ""], [" a caption\n"])
    assert data.holds_image("ab" * 32)
    assert not data.holds_image("ac" * 32)
    assert not data.holds_image(""), "a row without an image"
    assert data.holds_caption("a caption")
    assert not data.holds_caption("A caption")


def test_no_record_is_not_an_empty_one(tmp_path: Path) -> None:
    assert read_training_data(tmp_path) is None
    write_training_data(tmp_path, describe_training_data("x", [], []))
    assert read_training_data(tmp_path) is not None


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"schema_version": 2}', '{"schema_version": 1, "dataset": "x"}'])
def test_a_damaged_record_is_no_free_pass(tmp_path: Path, content: str) -> None:
    (tmp_path / TRAINING_DATA_NAME).write_text(content)
    with pytest.raises(ValueError, match=r"is damaged .* copy or train the LoRA again") as caught:
        read_training_data(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_record_of_the_first_version_is_read_and_a_changed_digest_of_a_new_one_seen(tmp_path: Path) -> None:
    data = describe_training_data("x", ["ab" * 32], ["a caption"])
    write_training_data(tmp_path, data)
    path = tmp_path / TRAINING_DATA_NAME
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"pictures": ["ac" * 8]}))
    with pytest.raises(ValueError, match="its checksum does not fit its content"):
        read_training_data(tmp_path)
    path.write_text(json.dumps(content | {"schema_version": 1}))
    with pytest.raises(ValueError, match="its checksum does not fit its content"):
        read_training_data(tmp_path)
    del content["checksum"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="its checksum is missing"):
        read_training_data(tmp_path)
    path.write_text(json.dumps(content | {"schema_version": 1}))
    assert read_training_data(tmp_path) == data
    for pictures in (["xy" * 8], ["ab"], "ab" * 8, [1], None):
        path.write_text(json.dumps(content | {"schema_version": 1, "pictures": pictures}))
        with pytest.raises(ValueError, match="a digest is not 16 hexadecimal digits"):
            read_training_data(tmp_path)


@pytest.mark.parametrize("named", ["", "mine.safetensors"], ids=["folder", "file"])
def test_a_renamed_file_of_peft_has_the_configuration_beside_it(tmp_path: Path, named: str) -> None:
    prefix = "base_model.model.proj_out"
    tensors = {f"{prefix}.lora_A.weight": torch.zeros(4, 32), f"{prefix}.lora_B.weight": torch.zeros(8, 4)}
    save_file(tensors, tmp_path / "mine.safetensors")
    place = tmp_path / named
    with pytest.raises(ValueError, match=r"its adapter_config\.json is missing"):
        read_lora(place)
    (tmp_path / CONFIG_NAME).write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 16}))
    config, _ = read_lora(place)
    assert config is not None
    assert (config.rank, config.alpha) == (4, 16)
    first = lora_digest(place)
    (tmp_path / CONFIG_NAME).write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    assert lora_digest(place) != first


def test_a_configuration_is_not_that_of_another_tools_file_beside_it(tmp_path: Path) -> None:
    save_file({"transformer.proj_out.lora_A.weight": torch.zeros(4, 32)}, tmp_path / "kohya.safetensors")
    (tmp_path / CONFIG_NAME).write_text(json.dumps({"peft_type": "LORA"}))
    assert find_lora(tmp_path).config is None
    assert find_lora(tmp_path / "kohya.safetensors").config is None


def test_a_suffix_in_capital_letters_is_that_of_a_lora_too(tmp_path: Path) -> None:
    file = tmp_path / "Mine.SAFETENSORS"
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(1, 1)}, file)
    assert find_lora(file).weights == find_lora(tmp_path).weights == file
