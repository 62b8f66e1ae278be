"""VAR behind generate(): official files, faults in them, classes, and what a batch may not change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.base import Request, Runtime
from models.networks.convolutions import ConvolutionShape
from models.networks.var_transformer import VAR, VARShape
from models.networks.vqvae import VQVAE, VQVAEShape
from models.var import FAMILY, VAROptions, load
from models.var_files import VQVAE_FILE, save_embedded
from models.weights import save_half

SIDES = (1, 2, 3, 4)
OPTIONS = VAROptions(depth=2, top_k=20, top_p=0.9, classes="3,7,1")


@pytest.fixture(scope="module")
def networks() -> tuple[VAR, VQVAE]:
    torch.manual_seed(0)
    var = VAR(VARShape(2, 64, 4, SIDES, 8, 32, classes=10)).requires_grad_(False)
    for parameter in var.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    return var, VQVAE(VQVAEShape(ConvolutionShape((32, 32), 1, 8), 32, SIDES)).requires_grad_(False)


@pytest.fixture
def folder(tmp_path: Path, networks: tuple[VAR, VQVAE]) -> Path:
    """A folder in the published layout: two .pth files, constants of the published state dicts included."""
    var, vqvae = networks
    constants = {"attn_bias_for_masking": torch.zeros(1, 1, 30, 30)}
    constants |= {f"blocks.{i}.attn.zero_k_bias": torch.zeros(64) for i in range(2)}
    torch.save({**var.state_dict(), **constants}, tmp_path / "var_d2.pth")
    torch.save({**vqvae.state_dict(), "quantize.ema_vocab_hit_SV": torch.zeros(4, 32)}, tmp_path / VQVAE_FILE)
    return tmp_path


def runtime(tmp_path: Path, **changes: object) -> Runtime:
    plain = Runtime("pretrained", "cpu", "float32", 8, assets=tmp_path / "assets", cache=tmp_path / "cache")
    return replace(plain, **changes)  # type: ignore[arg-type]


def requests(count: int) -> list[Request]:
    return [Request(i, f"caption {i}", seed=40 + i, class_label=i) for i in range(count)]


def test_official_files_load_and_generate(folder: Path) -> None:
    generator = load(replace(OPTIONS, model=str(folder)), runtime(folder))
    assert (generator.name, generator.image_size) == ("VAR-d2", 8)
    assert generator.parameters == generator.var.parameter_count
    prepared = generator.prepare(requests(4))
    assert [(request.prompt, request.class_label) for request in prepared] == [
        ("class 3", 3), ("class 7", 7), ("class 1", 1), ("class 3", 3),
    ]  # fmt: skip
    assert [request.seed for request in prepared] == [40, 41, 42, 43]
    images_BCHW = generator.generate(prepared)
    assert images_BCHW.dtype == torch.uint8
    assert images_BCHW.shape == (4, 3, 8, 8)


def test_images_are_the_same_at_any_batch_size(folder: Path) -> None:
    generator = load(replace(OPTIONS, model=str(folder)), runtime(folder))
    prepared = generator.prepare(requests(8))
    by_size = [
        torch.cat([generator.generate(prepared[start : start + size]) for start in range(0, 8, size)])
        for size in (1, 3, 8)
    ]
    assert (by_size[0].int() - by_size[1].int()).abs().max() <= 1
    assert (by_size[0].int() - by_size[2].int()).abs().max() <= 1
    assert not torch.equal(by_size[0][0], by_size[0][3])


def test_training_checkpoint_loads_as_the_plain_one(folder: Path) -> None:
    plain = load(replace(OPTIONS, model=str(folder)), runtime(folder))
    for file, entry in ((folder / "var_d2.pth", "var_wo_ddp"), (folder / VQVAE_FILE, "vae_local")):
        state = torch.load(file, weights_only=True)
        torch.save({"epoch": 3, "args": {"depth": 2}, "trainer": {entry: state}}, file)
    nested = load(replace(OPTIONS, model=str(folder)), runtime(folder))
    prepared = plain.prepare(requests(2))
    assert torch.equal(plain.generate(prepared), nested.generate(prepared))


def test_missing_file_is_named_with_the_remedy(folder: Path) -> None:
    (folder / VQVAE_FILE).unlink()
    with pytest.raises(OSError, match=rf"no {VQVAE_FILE}; put .* VAR_MODEL .* WEIGHTS=tiny") as caught:
        load(replace(OPTIONS, model=str(folder)), runtime(folder))
    assert "\n" not in str(caught.value)


def test_vqvae_given_as_transformer_is_recognised(folder: Path) -> None:
    (folder / "var_d2.pth").write_bytes((folder / VQVAE_FILE).read_bytes())
    with pytest.raises(ValueError, match=r"var_d2.pth is not a VAR transformer: .* it looks like a VQVAE"):
        load(replace(OPTIONS, model=str(folder)), runtime(folder))


def test_other_depth_than_asked_is_refused(folder: Path) -> None:
    (folder / "var_d2.pth").rename(folder / "var_d3.pth")
    with pytest.raises(ValueError, match="depth 2, expected 3; set VAR_DEPTH=2"):
        load(replace(OPTIONS, model=str(folder), depth=3), runtime(folder))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("blocks.0.ffn.fc1.weight", None, "missing blocks.0.ffn.fc1.weight"),
        ("blocks.0.extra", torch.zeros(1), "unexpected blocks.0.extra"),
        ("head.bias", torch.zeros(3), r"misshapen head.bias \(3,\) instead of \(32,\)"),
    ],
)
def test_every_tensor_is_accounted_for(folder: Path, key: str, value: torch.Tensor | None, message: str) -> None:
    state = torch.load(folder / "var_d2.pth", weights_only=True)
    state.pop(key, None)
    if value is not None:
        state[key] = value
    torch.save(state, folder / "var_d2.pth")
    with pytest.raises(ValueError, match=message) as caught:
        load(replace(OPTIONS, model=str(folder)), runtime(folder))
    assert "\n" not in str(caught.value)


@pytest.fixture
def embedded(tmp_path: Path, networks: tuple[VAR, VQVAE]) -> Path:
    var, vqvae = networks
    save_half(vqvae, tmp_path / "assets" / "var" / "vqvae" / "vqvae.safetensors")
    save_embedded(tmp_path / "assets" / "var", var, [f"robot {i}" for i in range(10)])
    return tmp_path


def test_embedded_model_takes_the_data_sets_classes(embedded: Path) -> None:
    names = tuple(f"robot {i}" for i in range(10))
    generator = load(VAROptions(), runtime(embedded, weights="tiny", label_names=names))
    prepared = generator.prepare(requests(2))
    assert [(request.prompt, request.class_label) for request in prepared] == [("robot 0", 0), ("robot 1", 1)]
    assert generator.generate(prepared).shape == (2, 3, 8, 8)
    assert any("data set's class of each prompt, not on the prompt" in note for note in generator.notes)


def test_without_labels_the_embedded_model_takes_classes_by_index(embedded: Path) -> None:
    generator = load(VAROptions(), runtime(embedded, weights="tiny"))
    asked = [
        replace(request, class_label=None, index=index) for request, index in zip(requests(3), (0, 9, 12), strict=True)
    ]
    prepared = generator.prepare(asked)
    assert [request.class_label for request in prepared] == [0, 9, 2]
    assert generator.prepare(asked[2:]) == prepared[2:], "a share of the requests keeps its classes"
    note = (
        "the data set names no classes: conditioned on a prompt's class label, or else on class i modulo 10 for "
        "image i, not on the prompt"
    )
    assert note in generator.notes


def test_a_label_without_a_name_is_the_embedded_models_class(embedded: Path) -> None:
    generator = load(VAROptions(), runtime(embedded, weights="tiny"))
    asked = [replace(request, class_label=label) for request, label in zip(requests(3), (7, None, 99), strict=True)]
    assert [request.class_label for request in generator.prepare(asked)] == [7, 1, 2]


def test_its_requests_are_those_of_classes(embedded: Path) -> None:
    assert load(VAROptions(), runtime(embedded, weights="tiny")).class_conditional


@pytest.mark.parametrize(("names", "classes"), [((), "dataset"), (tuple(f"style {i}" for i in range(10)), "auto")])
def test_other_data_sets_classes_are_refused(embedded: Path, names: tuple[str, ...], classes: str) -> None:
    with pytest.raises(ValueError, match="VAR_CLASSES=dataset: the data set has"):
        load(VAROptions(classes=classes), runtime(embedded, weights="tiny", label_names=names))


def test_random_weights_take_all_classes_in_turn(tmp_path: Path) -> None:
    generator = load(VAROptions(), runtime(tmp_path, weights="random", random_size="small"))
    assert [request.class_label for request in generator.prepare(requests(3))] == [0, 1, 2]
    assert "conditioned on class i modulo 1000 for image i, not on the prompt" in generator.notes
    assert generator.generate(generator.prepare(requests(2))).shape == (2, 3, 8, 8)


def test_missing_embedded_model_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="holds no embedded VAR"):
        load(VAROptions(), runtime(tmp_path, weights="tiny"))


@pytest.mark.parametrize("classes", ["fish", "1,,2", "1;2", "10"])
def test_classes_that_are_none_are_refused(folder: Path, classes: str) -> None:
    with pytest.raises(ValueError, match=f"VAR_CLASSES={classes}: "):
        load(replace(OPTIONS, model=str(folder), classes=classes), runtime(folder))


def test_notes_say_what_differs_from_what_was_asked(folder: Path) -> None:
    generator = load(replace(OPTIONS, model=str(folder)), runtime(folder, image_size=512, mode="compiled"))
    assert generator.notes == (
        "always makes 8 px images; 512 px were asked for",
        "conditioned on the classes 3, 7, 1 in turn, not on the prompt",
        "cfg 1.5, top_k 20, top_p 0.9",
        "ran as eager: there is no compiled form for a CPU",
    )


def test_family_is_known_before_torch_is_loaded(tmp_path: Path) -> None:
    assert FAMILY.title(VAROptions(depth=30)) == "VAR-d30"
    assert FAMILY.selected_by("var") == {}
    assert FAMILY.selected_by("var-d30") == {"depth": 30}
    assert FAMILY.selected_by("sdxl") is None
    assert "var_d16.pth" in FAMILY.source(VAROptions(), runtime(tmp_path))
