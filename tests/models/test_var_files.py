"""Loading VAR's two networks from files: every kind of file that fits, and what is said of one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.networks.bsq_vae import BSQVAE
from models.networks.convolutions import ConvolutionShape
from models.networks.infinity_transformer import Infinity, InfinityShape
from models.networks.var_transformer import VAR, VARShape
from models.networks.vqvae import VQVAE, VQVAEShape
from models.var_files import VQVAE_FILE, load_networks

SIDES = (1, 2, 3, 4)
State = dict[str, Tensor]

SHAPES = [
    VARShape(2, 64, 4, SIDES, 8, 32, 10),
    VARShape(3, 96, 3, SIDES, 8, 32, 7, shared_aln=True),
    VARShape(1, 128, 2, (1, 2, 3, 4, 5, 6, 8), 8, 32, 3, attn_l2_norm=False),
]


def networks_of(shape: VARShape) -> tuple[VAR, VQVAE]:
    torch.manual_seed(0)
    vqvae = VQVAE(VQVAEShape(ConvolutionShape((32, 32), 1, shape.codebook_dim), shape.vocabulary, shape.patch_nums))
    return VAR(shape), vqvae


@pytest.fixture(scope="module")
def networks() -> tuple[VAR, VQVAE]:
    return networks_of(SHAPES[0])


def write(file: Path, content: object) -> Path:
    if file.suffix == ".safetensors":
        assert isinstance(content, dict)
        save_file(content, file)
    else:
        torch.save(content, file)
    return file


def fault(var_file: Path, vqvae_file: Path, depth: int | None = None) -> str:
    """Return the one line that loading these files ends in."""
    with pytest.raises(ValueError, match=str(var_file.parent)) as caught:
        load_networks(var_file, vqvae_file, "cpu", "float32", depth)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def assert_same(loaded: nn.Module, original: nn.Module) -> None:
    state = loaded.state_dict()
    assert state.keys() == original.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in original.state_dict().items())


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["pth", "safetensors", "training checkpoint"])
def test_sizes_and_variants_come_from_the_files_of_any_kind(tmp_path: Path, shape: VARShape, kind: str) -> None:
    networks = networks_of(shape)
    states = [network.state_dict() for network in networks]
    if kind == "training checkpoint":
        whole = {"epoch": 3, "args": {"depth": 9}, "trainer": {"var_wo_ddp": states[0], "vae_local": states[1]}}
        files = [write(tmp_path / "ar-ckpt-last.pth", whole)] * 2
    else:
        files = [write(tmp_path / f"{i}.{kind}", state) for i, state in enumerate(states)]
    var, vqvae = load_networks(*files, "cpu", "float32", shape.depth)
    assert var.shape == shape
    assert vqvae.shape == networks[1].shape
    assert_same(var, networks[0])
    assert_same(vqvae, networks[1])
    assert not any(parameter.requires_grad for network in (var, vqvae) for parameter in network.parameters())


def test_constants_of_the_published_files_are_accepted(tmp_path: Path, networks: tuple[VAR, VQVAE]) -> None:
    var, vqvae = networks
    constants = {"attn_bias_for_masking": torch.zeros(1, 1, 30, 30)}
    constants |= {f"blocks.{i}.attn.zero_k_bias": torch.zeros(64) for i in range(2)}
    var_file = write(tmp_path / "var_d2.pth", {**var.state_dict(), **constants})
    hits = torch.zeros(4, 32)
    vqvae_file = write(tmp_path / VQVAE_FILE, {**vqvae.state_dict(), "quantize.ema_vocab_hit_SV": hits})
    assert_same(load_networks(var_file, vqvae_file, "cpu", "float32")[0], var)


def wrong_states(networks: tuple[VAR, VQVAE]) -> dict[str, State]:
    bsq_vae = BSQVAE(ConvolutionShape((32, 32), 1, 8, attention=False, middle_attention=False)).state_dict()
    infinity = Infinity(InfinityShape(2, 64, 2, 64, 16, 4, 1, 8)).state_dict()
    return {
        "VAR": networks[0].state_dict(),
        "VQVAE": networks[1].state_dict(),
        "Infinity": infinity,
        # As a training build saves it, with the constants of its masks.
        "Infinity training": infinity | {"lvl_1L": torch.tensor([[0, 1, 1, 2]])},
        "Infinity in chunks": {key.replace("blocks.", "block_chunks.0.module."): infinity[key] for key in infinity},
        "BSQ-VAE": bsq_vae,
        "BSQ-VAE long": {
            (key.replace(".weight", ".conv.weight").replace(".bias", ".conv.bias") if "conv" in key else key): value
            for key, value in bsq_vae.items()
        },
        "UNet": {"conv_in.weight": torch.zeros(1), "conv_in.bias": torch.zeros(1), "down.0": torch.zeros(1)},
        "nothing": {},
    }


LOOKS = {
    "VAR": "it looks like a VAR transformer of depth 2",
    "VQVAE": "it looks like a VQVAE",
    "Infinity": "it looks like an Infinity transformer",
    "Infinity training": "it looks like an Infinity transformer",
    "Infinity in chunks": "it looks like an Infinity transformer",
    "BSQ-VAE": "it looks like a BSQ-VAE",
    "BSQ-VAE long": "it looks like a BSQ-VAE",
    "UNet": "it begins with conv_in.weight, conv_in.bias, down.0",
    "nothing": "it holds no tensors",
}


@pytest.mark.parametrize("kind", LOOKS)
def test_other_file_given_as_transformer_is_told_for_what_it_is(
    tmp_path: Path, networks: tuple[VAR, VQVAE], kind: str
) -> None:
    if kind == "VAR":
        return
    var_file = write(tmp_path / "var_d2.pth", wrong_states(networks)[kind])
    line = fault(var_file, write(tmp_path / VQVAE_FILE, networks[1].state_dict()))
    assert line.startswith(f"{var_file} is not a VAR transformer: ")
    assert line.endswith(LOOKS[kind])


@pytest.mark.parametrize("kind", LOOKS)
def test_other_file_given_as_vqvae_is_told_for_what_it_is(
    tmp_path: Path, networks: tuple[VAR, VQVAE], kind: str
) -> None:
    if kind == "VQVAE":
        return
    vqvae_file = write(tmp_path / VQVAE_FILE, wrong_states(networks)[kind])
    line = fault(write(tmp_path / "var_d2.pth", networks[0].state_dict()), vqvae_file)
    assert line.startswith(f"{vqvae_file} is not a VQVAE: 'quantize.embedding.weight' is missing; ")
    assert line.endswith(LOOKS[kind])


def test_published_file_of_another_tokenizer_is_recognised_inside_its_entry(
    tmp_path: Path, networks: tuple[VAR, VQVAE]
) -> None:
    vqvae_file = write(tmp_path / VQVAE_FILE, {"vae": wrong_states(networks)["BSQ-VAE long"], "ema": {}})
    line = fault(write(tmp_path / "var_d2.pth", networks[0].state_dict()), vqvae_file)
    assert line.startswith(f"{vqvae_file} holds vae, ema; expected a state dict, ")
    assert line.endswith("it looks like a BSQ-VAE")


def test_training_checkpoint_without_the_network_says_which_it_has(tmp_path: Path, networks: tuple[VAR, VQVAE]) -> None:
    var_file = write(tmp_path / "var_d2.pth", {"trainer": {"vae_local": networks[1].state_dict()}})
    line = fault(var_file, write(tmp_path / VQVAE_FILE, networks[1].state_dict()))
    assert "holds vae_local; expected a state dict, or a training checkpoint with trainer.var_wo_ddp" in line
    assert line.endswith("it looks like a VQVAE")


def test_deeper_checkpoint_under_the_name_of_another_is_told_with_its_depth(
    tmp_path: Path, networks: tuple[VAR, VQVAE]
) -> None:
    with torch.device("meta"):
        names = VAR(VARShape(20, 1280, 20, SIDES, 8, 32, 10)).state_dict()
    state = {key: torch.zeros(1).expand(value.shape) for key, value in names.items()}
    state["lvl_1L"] = networks[0].lvl_1L
    var_file = write(tmp_path / "var_d16.pth", state)
    line = fault(var_file, write(tmp_path / VQVAE_FILE, networks[1].state_dict()), depth=16)
    assert line == (f"{var_file} holds a VAR of depth 20, expected 16; set VAR_DEPTH=20 and name the file var_d20.pth")


def test_half_a_transformer_is_still_known_for_one(tmp_path: Path, networks: tuple[VAR, VQVAE]) -> None:
    state = {key: value for key, value in networks[0].state_dict().items() if not key.startswith("head.")}
    var_file = write(tmp_path / "var_d2.pth", state)
    line = fault(var_file, write(tmp_path / VQVAE_FILE, networks[1].state_dict()))
    assert line.startswith(f"{var_file} does not fit: 'head.weight' is missing; it looks like a VAR transformer")


def test_scales_that_cannot_be_told_are_one_line(tmp_path: Path, networks: tuple[VAR, VQVAE]) -> None:
    state = networks[0].state_dict()
    del state["lvl_1L"]
    var_file = write(tmp_path / "var_d2.pth", state)
    line = fault(var_file, write(tmp_path / VQVAE_FILE, networks[1].state_dict()))
    assert line.startswith(
        f"{var_file} does not fit: the checkpoint has 4 scales with 30 tokens and no lvl_1L to tell their sides"
    )


@pytest.mark.parametrize(("vocabulary", "channels"), [(64, 8), (32, 4)])
def test_vqvae_of_another_transformer_is_refused(
    tmp_path: Path, networks: tuple[VAR, VQVAE], vocabulary: int, channels: int
) -> None:
    other = VQVAE(VQVAEShape(ConvolutionShape((32, 32), 1, channels), vocabulary, SIDES))
    files = (
        write(tmp_path / "var_d2.pth", networks[0].state_dict()),
        write(tmp_path / VQVAE_FILE, other.state_dict()),
    )
    with pytest.raises(ValueError, match=rf"has a codebook of {vocabulary} x {channels}, but var_d2.pth was trained"):
        load_networks(*files, "cpu", "float32")
