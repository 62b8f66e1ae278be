"""Reading weight files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from models.networks.bsq_vae import BSQVAE
from models.networks.convolutions import ConvolutionShape
from models.networks.infinity_transformer import Infinity, InfinityShape
from models.networks.var_transformer import VAR, VARShape
from models.networks.vqvae import VQVAE, VQVAEShape
from models.weights import load_strictly, locate, read_state, recognise, save_half


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


def states() -> dict[str, dict[str, torch.Tensor]]:
    """Return a state dict of every kind, in every spelling, and some that are none of ours."""
    infinity = Infinity(InfinityShape(2, 64, 2, 64, 16, 4, 1, 4)).state_dict()
    convolutions = ConvolutionShape((32, 32), 1, 4, attention=False, middle_attention=False)
    bsq_vae = BSQVAE(convolutions).state_dict()
    latents = torch.zeros(4, 4, 3, 3)
    return {
        "VAR": VAR(VARShape(3, 64, 1, (1, 2), 4, 8, 5)).state_dict(),
        "VAR shared": VAR(VARShape(2, 64, 1, (1, 2), 4, 8, 5, shared_aln=True, attn_l2_norm=False)).state_dict(),
        "VQVAE": VQVAE(VQVAEShape(ConvolutionShape((32, 32), 1, 4), 8, (1, 2))).state_dict(),
        "Infinity": infinity,
        "Infinity in chunks": {
            re.sub(r"^blocks\.(\d)", r"block_chunks.0.module.\1", key): value for key, value in infinity.items()
        },
        "BSQ-VAE": bsq_vae,
        "BSQ-VAE long": {
            re.sub(r"((norm|conv)\w*)\.(weight|bias)$", r"\1.\2.\3", key): value for key, value in bsq_vae.items()
        },
        "KL-VAE": {**bsq_vae, "quant_conv.weight": latents, "post_quant_conv.weight": latents},
        "UNet": {
            "conv_in.weight": torch.zeros(1), "conv_in.bias": torch.zeros(1),
            "time_embedding.linear_1.weight": torch.zeros(1), "down_blocks.0.resnets.0.norm1.weight": torch.zeros(1),
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("VAR", "it looks like a VAR transformer of depth 3"),
        ("VAR shared", "it looks like a VAR transformer of depth 2"),
        ("VQVAE", "it looks like a VQVAE"),
        ("Infinity", "it looks like an Infinity transformer"),
        ("Infinity in chunks", "it looks like an Infinity transformer"),
        ("BSQ-VAE", "it looks like a BSQ-VAE"),
        ("BSQ-VAE long", "it looks like a BSQ-VAE"),
        ("KL-VAE", "it begins with encoder.conv_in.weight, encoder.conv_in.bias, encoder.down.0.block.0.norm1.weight"),
        ("UNet", "it begins with conv_in.weight, conv_in.bias, time_embedding.linear_1.weight"),
    ],
)
def test_networks_are_recognised_by_the_names_of_their_tensors(name: str, guess: str) -> None:
    state = states()[name]
    assert recognise(state) == guess
    assert recognise({"epoch": 3, "trainer": {"network": state}}) == (
        guess if "looks" in guess else "it begins with epoch, trainer"
    )


def test_networks_inside_another_checkpoint_are_told(tmp_path: Path) -> None:
    every = states()
    torch.save({"vae": every["BSQ-VAE long"], "epoch": 3}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"m.pth holds vae, epoch; .* it looks like a BSQ-VAE$"):
        read_state(tmp_path / "m.pth", "trainer.vae_local")
    torch.save({"trainer": {"var_wo_ddp": every["VAR"], "vae_local": every["VQVAE"]}}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"looks like a VAR transformer of depth 3 and a VQVAE$") as caught:
        read_state(tmp_path / "m.pth", "trainer.gpt_fsdp")
    assert "\n" not in str(caught.value)
    assert read_state(tmp_path / "m.pth", "trainer.var_wo_ddp").keys() == every["VAR"].keys()


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


def test_safetensors_file_stands_in_for_a_missing_pth_of_the_same_name(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"")
    assert locate(str(tmp_path), "m.pth", "VAR_MODEL") == tmp_path / "m.safetensors"
    (tmp_path / "m.pth").write_bytes(b"")
    assert locate(str(tmp_path), "m.pth", "VAR_MODEL") == tmp_path / "m.pth"
    with pytest.raises(OSError, match=r"the folder holds no n\.pth; put n\.pth"):
        locate(str(tmp_path), "n.pth", "VAR_MODEL")


def test_missing_folder_is_looked_for_on_the_hub_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for source in ("nobody/nothing", "/no/such/folder"):
        with pytest.raises(OSError, match=r"m.pth is not in a local folder .* set VAR_MODEL") as caught:
            locate(source, "m.pth", "VAR_MODEL")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"hello\n", b"<html>", b"", b"\x00" * 64, b"PK\x03\x04 no archive", b"version https://git-lfs"]
)
def test_a_file_of_something_else_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"m.pth is no checkpoint of tensors") as caught:
        read_state(tmp_path / "m.pth")
    assert "\n" not in str(caught.value)
