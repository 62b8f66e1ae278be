"""VAR and Infinity checkpoints as they lie on a disk: wrapped names, other file names, training checkpoints, 8B."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from infinity_folders import build_networks as build_infinity
from infinity_folders import generator as load_infinity
from infinity_folders import runtime, write_infinity
from safetensors.torch import save_file
from torch import Tensor, nn

from models import infinity, var
from models.infinity_files import TRANSFORMER_FILE, VAE_FILE
from models.infinity_files import load_networks as load_infinity_networks
from models.networks.bsq_vae import BSQVAE
from models.networks.convolutions import ConvolutionShape
from models.networks.infinity_transformer import Infinity
from models.networks.var_transformer import VAR, VARShape
from models.networks.vqvae import VQVAE, VQVAEShape
from models.var import VARGenerator, VAROptions
from models.var_files import VQVAE_FILE
from models.weights import read_state

State = dict[str, Tensor]
SIDES = (1, 2, 3, 4)
WRAPPERS: dict[str, Callable[[str], str]] = {
    "DataParallel": lambda name: f"module.{name}",
    "compiled": lambda name: f"_orig_mod.{name}",
    "compiled, then wrapped": lambda name: f"module._orig_mod.{name}",
    "wrapped, then compiled": lambda name: f"_orig_mod.module.{name}",
    "wrapped twice": lambda name: f"module.module.{name}",
    "FSDP": lambda name: "_fsdp_wrapped_module." + name.replace("blocks.0.", "blocks.0._fsdp_wrapped_module."),
    "blocks compiled": lambda name: name.replace("blocks.0.", "blocks.0._orig_mod."),
}


def build_var(depth: int = 2) -> tuple[VAR, VQVAE]:
    torch.manual_seed(0)
    transformer = VAR(VARShape(depth, 64, 4, SIDES, 8, 32, 10))
    return transformer, VQVAE(VQVAEShape(ConvolutionShape((32, 32), 1, 8), 32, SIDES))


@pytest.fixture(scope="module")
def networks() -> tuple[VAR, VQVAE]:
    return build_var()


def training(networks: tuple[VAR, VQVAE]) -> dict[str, Any]:
    """Return a training checkpoint of VAR, as ar-ckpt-best.pth."""
    states = [network.state_dict() for network in networks]
    return {"epoch": 3, "trainer": {"var_wo_ddp": states[0], "vae_local": states[1]}}


def wrapped(network: nn.Module, wrapper: str) -> State:
    return {WRAPPERS[wrapper](key): value for key, value in network.state_dict().items()}


def load(model: Path, depth: int = 2) -> VARGenerator:
    made = var.load(VAROptions(model=str(model), depth=depth, classes="1,2"), runtime(model))
    assert isinstance(made, VARGenerator)
    return made


def assert_same(loaded: nn.Module, original: nn.Module) -> None:
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in original.state_dict().items())


def refusal(model: Path, depth: int = 2) -> str:
    with pytest.raises((OSError, ValueError)) as caught:
        load(model, depth)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_what_training_puts_before_names_is_left_out(tmp_path: Path, networks: tuple[VAR, VQVAE], wrapper: str) -> None:
    torch.save(wrapped(networks[0], wrapper), tmp_path / "var_d2.pth")
    save_file(wrapped(networks[1], wrapper), tmp_path / VQVAE_FILE.replace(".pth", ".safetensors"))
    made = load(tmp_path)
    assert_same(made.var, networks[0])
    assert_same(made.vqvae, networks[1])
    assert not any("weights:" in note for note in made.notes)


def test_a_name_that_is_there_wrapped_and_plain_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1), "module.a": torch.ones(1)}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match=r"m.pth holds a twice, once as module.a: save one network alone"):
        read_state(tmp_path / "m.pth")


@pytest.mark.parametrize("as_file", [True, False])
def test_a_training_checkpoint_is_both_networks(tmp_path: Path, networks: tuple[VAR, VQVAE], as_file: bool) -> None:
    file = tmp_path / "ar-ckpt-best.pth"
    torch.save(training(networks), file)
    source = file if as_file else tmp_path
    assert var.FAMILY.check is not None
    var.FAMILY.check(VAROptions(model=str(source), depth=2), runtime(tmp_path))
    made = load(source)
    assert_same(made.var, networks[0])
    assert_same(made.vqvae, networks[1])
    assert "weights: ar-ckpt-best.pth" in made.notes


def test_files_are_told_apart_by_what_is_in_them(tmp_path: Path, networks: tuple[VAR, VQVAE]) -> None:
    half = {key: x.bfloat16() if x.is_floating_point() else x for key, x in networks[0].state_dict().items()}
    save_file(half, tmp_path / "my model.safetensors")
    torch.save({"state_dict": wrapped(networks[1], "DataParallel"), "step": 9}, tmp_path / "tokenizer.pt")
    torch.save(build_var(depth=3)[0].state_dict(), tmp_path / "deeper.pth")
    (tmp_path / "broken.pth").write_bytes(b"")
    for source in (tmp_path, tmp_path / "my model.safetensors"):
        made = load(source)
        assert torch.equal(made.var.head.weight, networks[0].head.weight.bfloat16().float())
        assert_same(made.vqvae, networks[1])
        assert "weights: my model.safetensors, tokenizer.pt" in made.notes
    assert load(tmp_path, depth=3).var.shape.depth == 3
    said = refusal(tmp_path, depth=16)
    assert "the folder holds no var_d16.pth; put var_d16.pth into a folder" in said
    assert (
        "deeper.pth holds a VAR transformer of depth 3; my model.safetensors holds a VAR transformer of depth 2" in said
    )
    assert "holds a VAR of depth 3, expected 16; set VAR_DEPTH=3" in refusal(tmp_path / "deeper.pth", depth=16)


def test_what_cannot_be_told_is_asked(tmp_path: Path, networks: tuple[VAR, VQVAE]) -> None:
    for name in ("ar-ckpt-best.pth", "ar-ckpt-last.pth"):
        torch.save(training(networks), tmp_path / name)
    assert (
        "ar-ckpt-best.pth, ar-ckpt-last.pth hold a VAR transformer each; leave one in the folder, or name the file"
        in (refusal(tmp_path))
    )
    load(tmp_path / "ar-ckpt-last.pth")
    alone = tmp_path / "alone"
    alone.mkdir()
    torch.save(networks[0].state_dict(), alone / "mine.pth")
    said = refusal(alone / "mine.pth")
    assert f"the file holds not a VQVAE, and beside it is no {VQVAE_FILE}; put {VQVAE_FILE}" in said
    torch.save(networks[1].state_dict(), alone / VQVAE_FILE)
    assert "is not a VAR transformer: " in refusal(alone / VQVAE_FILE)
    assert_same(load(alone / "mine.pth").vqvae, networks[1])


def test_a_setting_that_names_no_weights_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for family, options in ((var, VAROptions), (infinity, infinity.InfinityOptions)):
        check = options.__dataclass_fields__["model"].metadata["check"]
        with pytest.raises(OSError, match="it is a file, and none of weights"):
            check(str(tmp_path / "notes.txt"))
        with pytest.raises(OSError, match="no folder"):
            check(str(tmp_path / "nowhere"))
        with pytest.raises(OSError, match=r"_MODEL=.*: the folder holds no .*; give one that does, or a hub id"):
            family.FAMILY.check(options(model=str(tmp_path)), runtime(tmp_path))


@pytest.fixture(scope="module")
def infinity_networks() -> tuple[Infinity, BSQVAE]:
    return build_infinity()


@pytest.mark.parametrize("wrapper", ["DataParallel", "compiled, then wrapped", "FSDP"])
def test_infinity_is_unwrapped_too(tmp_path: Path, infinity_networks: tuple[Infinity, BSQVAE], wrapper: str) -> None:
    transformer, vae = infinity_networks
    save_file(wrapped(transformer, wrapper), tmp_path / "a.safetensors")
    torch.save({"vae": wrapped(vae, wrapper)}, tmp_path / "b.pth")
    for made, expected in zip(
        load_infinity_networks(tmp_path / "a.safetensors", tmp_path / "b.pth", "cpu", "float32"),
        infinity_networks,
        strict=True,
    ):
        assert_same(made, expected)


def test_infinity_takes_the_weights_before_their_moving_average(
    tmp_path: Path, infinity_networks: tuple[Infinity, BSQVAE]
) -> None:
    write_infinity(tmp_path, infinity_networks)
    plain = torch.load(tmp_path / TRANSFORMER_FILE, weights_only=True)
    averaged = {key: torch.zeros_like(value) for key, value in plain.items()}
    for content in (
        {"trainer": {"gpt_fsdp": plain, "gpt_ema_fsdp": averaged, "vae_local": {"x": torch.zeros(1)}}},
        {"gpt_ema_fsdp": averaged, "gpt_fsdp": plain},
        {"model_ema": plain, "step": 3},
    ):
        (tmp_path / TRANSFORMER_FILE).unlink(missing_ok=True)
        torch.save(content, tmp_path / "mine.pth")
        made = load_infinity(tmp_path)
        assert_same(made.infinity, infinity_networks[0])
        assert "weights: mine.pth" in made.notes
    torch.save({"a": plain, "b": plain}, tmp_path / "mine.pth")
    with pytest.raises(ValueError, match="holds an Infinity transformer as a, b; save the one that is meant alone"):
        load_infinity(tmp_path)


@pytest.mark.parametrize("layout", ["folder of parts", "index alone", "beside", "file"])
def test_infinity_8b_is_refused_by_its_names_before_anything_is_read(tmp_path: Path, layout: str) -> None:
    place = tmp_path / "infinity_8b_weights"
    if layout == "file":
        place = tmp_path / "infinity_8b_512.pth"
        place.write_bytes(b"")
    else:
        place.mkdir()
        index = {"weight_map": {"cfg_uncond": "model-00001-of-00004.safetensors"}}
        (place / "model.safetensors.index.json").write_text(json.dumps(index))
    if layout == "folder of parts":
        (place / "model-00001-of-00004.safetensors").write_bytes(b"")
    source = tmp_path if layout == "beside" else place
    options = infinity.InfinityOptions(model=str(source))
    check = infinity.InfinityOptions.__dataclass_fields__["model"].metadata["check"]
    for call in (lambda: check(str(source)), lambda: infinity.load(options, runtime(tmp_path))):
        with pytest.raises(OSError, match="Infinity-8B is not supported; give the 2B") as caught:
            call()
        assert "\n" not in str(caught.value)


def test_infinity_8b_under_another_name_is_refused_by_its_width(
    tmp_path: Path, infinity_networks: tuple[Infinity, BSQVAE]
) -> None:
    write_infinity(tmp_path, infinity_networks)
    state = dict(infinity_networks[0].state_dict())
    state["word_embed.weight"] = torch.zeros(1).expand(3584, 56)
    torch.save(state, tmp_path / TRANSFORMER_FILE)
    (tmp_path / VAE_FILE).write_bytes(b"")  # never read
    with pytest.raises(ValueError, match="has 4 blocks of width 3584: Infinity-8B is not supported"):
        load_infinity(tmp_path)
