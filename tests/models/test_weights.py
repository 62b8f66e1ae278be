"""Reading weight files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.weights import load_strictly, locate, read_state, save_half


def test_pickled_and_safetensors_files_read_alike(tmp_path: Path) -> None:
    module = torch.nn.Linear(3, 2)
    save_half(module, tmp_path / "a" / "m.safetensors")
    torch.save({key: value.half() for key, value in module.state_dict().items()}, tmp_path / "m.pth")
    one, other = read_state(tmp_path / "a" / "m.safetensors"), read_state(tmp_path / "m.pth")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    load_strictly(module, one, "m")


def test_nested_entry_is_entered_only_where_it_is(tmp_path: Path) -> None:
    torch.save({"trainer": {"net": {"w": torch.ones(1)}}}, tmp_path / "m.pth")
    assert list(read_state(tmp_path / "m.pth", "trainer.net")) == ["w"]
    with pytest.raises(ValueError, match=r"holds trainer; expected a state dict"):
        read_state(tmp_path / "m.pth")


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("executed",))


def test_code_in_a_pickle_is_never_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"w": Payload()}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match="no checkpoint of tensors"):
        read_state(tmp_path / "m.pth")
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["m.pth", "m.safetensors"])
def test_text_in_place_of_weights_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=rf"{name} is no") as caught:
        read_state(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_file_given_for_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.pth").write_bytes(b"")
    with pytest.raises(OSError, match=r"is a file, expected the folder that holds m\.pth"):
        locate(str(tmp_path / "m.pth"), "m.pth", "VAR_MODEL")


def test_missing_folder_is_looked_for_on_the_hub_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for source in ("nobody/nothing", "/no/such/folder"):
        with pytest.raises(OSError, match=r"m.pth is in no local folder .* set VAR_MODEL") as caught:
            locate(source, "m.pth", "VAR_MODEL")
        assert "\n" not in str(caught.value)
