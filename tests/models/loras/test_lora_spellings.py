"""PixArt LoRAs of every trainer: the same LoRA in each spelling gives the same weights, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers_folders import build_pixart, write_lora
from safetensors.torch import load_file, save_file
from torch import Tensor

from models import pixart
from models.base import Request, Runtime
from models.loras.files import CONFIG_NAME, DIFFUSERS_NAME, WEIGHTS_NAME, lora_digest, read_lora, read_training_data
from models.loras.spellings import PEFT_PREFIX, spellings_of
from models.pixart_lora import fuse_lora

RANK, ALPHA = 4, 10.0
LAYERS = [
    f"transformer_blocks.{block}.{layer}"
    for block in (0, 1)
    for layer in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_k", "attn2.to_v",
                  "ff.net.0.proj", "ff.net.2")
] + ["proj_out", "caption_projection.linear_1", "adaln_single.linear", "pos_embed.proj"]  # fmt: skip
PUBLISHED = {
    "attn1.to_q": "attn.qkv.0", "attn1.to_k": "attn.qkv.1", "attn1.to_v": "attn.qkv.2", "attn1.to_out.0": "attn.proj",
    "attn2.to_k": "cross_attn.kv_linear.0", "attn2.to_v": "cross_attn.kv_linear.1", "ff.net.0.proj": "mlp.fc1",
    "ff.net.2": "mlp.fc2", "proj_out": "final_layer.linear", "caption_projection.linear_1": "y_embedder.y_proj.fc1",
    "adaln_single.linear": "t_block.1", "pos_embed.proj": "x_embedder.proj",
}  # fmt: skip
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def peft_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("peft")
    return write_lora(folder, build_pixart().transformer, r=RANK, lora_alpha=ALPHA, target_modules=LAYERS)


@pytest.fixture(scope="module")
def tensors(peft_folder: Path) -> State:
    """Return the LoRA's tensors by layer and part: "proj_out.lora_A.weight"."""
    return {key.removeprefix(PEFT_PREFIX): x for key, x in load_file(peft_folder / WEIGHTS_NAME).items()}


@pytest.fixture(scope="module")
def fused(peft_folder: Path) -> State:
    return fuse(peft_folder)


def fuse(place: Path) -> State:
    state: State = fuse_lora(build_pixart().transformer.eval(), place)[0].state_dict()
    return state


def assert_same(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def renamed(tensors: State, layer: Callable[[str], str], down: str, up: str) -> State:
    """Return the tensors with another spelling of their layers and parts."""
    state = {}
    for key, tensor in tensors.items():
        path, _, part = key.partition(".lora_")
        state[layer(path) + (down if part == "A.weight" else up)] = tensor.clone()
    return state


def with_alphas(tensors: State, layer: Callable[[str], str], alpha: float = ALPHA) -> State:
    return {f"{layer(key.partition('.lora_')[0])}.alpha": torch.tensor(alpha) for key in tensors}


def underscored(prefix: str) -> Callable[[str], str]:
    return lambda path: prefix + path.replace(".", "_")


def published(path: str) -> str:
    """Return a layer's name in the published PixArt code, as OneTrainer writes it."""
    if path.startswith("transformer_blocks."):
        _, block, layer = path.split(".", 2)
        return f"transformer.blocks.{block}.{PUBLISHED[layer]}"
    return f"transformer.{PUBLISHED[path]}"


def processor(path: str) -> str:
    """Return a layer's name as diffusers wrote it before it used PEFT."""
    block, _, layer = path.rpartition(".to_")
    return f"{block}.processor.to_{layer.removesuffix('.0')}_lora" if block else f"{path}.lora"


LAYER_NAMES: dict[str, tuple[Callable[[str], str], str, str]] = {
    "diffusers": (lambda path: f"transformer.{path}", ".lora_A.weight", ".lora_B.weight"),
    "diffusers, named": (lambda path: f"transformer.{path}", ".lora_A.default.weight", ".lora_B.default.weight"),
    "compiled while trained": (lambda path: f"_orig_mod.module.{path}", ".lora_A.weight", ".lora_B.weight"),
    "no prefix": (lambda path: path, ".lora_A.weight", ".lora_B.weight"),
    "old diffusers": (lambda path: f"transformer.{path}", ".lora.down.weight", ".lora.up.weight"),
    "old diffusers' processors": (processor, ".down.weight", ".up.weight"),
    "kohya": (underscored("lora_unet_"), ".lora_down.weight", ".lora_up.weight"),
    "OneTrainer": (underscored("lora_transformer_"), ".lora_down.weight", ".lora_up.weight"),
    "OneTrainer, dots": (lambda path: f"lora_transformer.{path}", ".lora_down.weight", ".lora_up.weight"),
    "OneTrainer, published names": (published, ".lora_down.weight", ".lora_up.weight"),
    "kohya, published names": (
        lambda path: underscored("lora_unet_")(published(path).removeprefix("transformer.")),
        ".lora_down.weight", ".lora_up.weight",
    ),
}  # fmt: skip


@pytest.mark.parametrize("spelling", LAYER_NAMES)
def test_the_same_lora_in_each_spelling_gives_the_same_weights(
    spelling: str, tensors: State, fused: State, tmp_path: Path
) -> None:
    layer, down, up = LAYER_NAMES[spelling]
    alphas = with_alphas(tensors, lambda path: layer(path).removesuffix("_lora").removesuffix(".lora"))
    save_file(renamed(tensors, layer, down, up) | alphas, tmp_path / "robots.safetensors")
    assert_same(fuse(tmp_path / "robots.safetensors"), fused)
    assert_same(fuse(tmp_path), fused)


def test_one_matrix_for_query_key_and_value_is_taken_apart(tensors: State, tmp_path: Path, peft_folder: Path) -> None:
    block, parts = "transformer_blocks.0.attn1", ("to_q", "to_k", "to_v")
    down = tensors[f"{block}.to_q.lora_A.weight"]
    up = torch.cat([tensors[f"{block}.{part}.lora_B.weight"] for part in parts])
    apart = {f"{PEFT_PREFIX}{block}.{part}.lora_A.weight": down.clone() for part in parts}
    apart |= {f"{PEFT_PREFIX}{block}.{part}.lora_B.weight": tensors[f"{block}.{part}.lora_B.weight"] for part in parts}
    (tmp_path / "peft").mkdir()
    save_file(apart, tmp_path / "peft" / WEIGHTS_NAME)
    (tmp_path / "peft" / CONFIG_NAME).write_text((peft_folder / CONFIG_NAME).read_text())
    expected, file = fuse(tmp_path / "peft"), tmp_path / "one.safetensors"
    for name in ("diffusion_model.blocks.0.attn.qkv", "lora_unet_blocks_0_attn_qkv"):
        alpha = {f"{name}.alpha": torch.tensor(ALPHA)}
        save_file({f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up} | alpha, file)
        assert_same(fuse(file), expected)


def diffusers_state(tensors: State) -> State:
    return renamed(tensors, *LAYER_NAMES["diffusers"])


def test_alpha_in_diffusers_header_is_honoured(tensors: State, fused: State, tmp_path: Path) -> None:
    header = {"transformer.r": RANK, "transformer.lora_alpha": int(ALPHA), "transformer.peft_type": "LORA",
              "transformer.target_modules": LAYERS, "text_encoder.r": 9}  # fmt: skip
    save_file(diffusers_state(tensors), tmp_path / DIFFUSERS_NAME, {"lora_adapter_metadata": json.dumps(header)})
    assert_same(fuse(tmp_path), fused)
    header["transformer.use_qalora"] = True
    save_file(diffusers_state(tensors), tmp_path / DIFFUSERS_NAME, {"lora_adapter_metadata": json.dumps(header)})
    assert "asks for use_qalora=true" in refusal(tmp_path)
    save_file(diffusers_state(tensors), tmp_path / DIFFUSERS_NAME, {"lora_adapter_metadata": "{"})
    assert "is no JSON" in refusal(tmp_path)


def test_an_alpha_that_is_missing_counts_as_the_rank_and_is_told(
    tensors: State, tmp_path: Path, peft_folder: Path
) -> None:
    save_file(diffusers_state(tensors), tmp_path / "bare.safetensors")
    config = json.loads((peft_folder / CONFIG_NAME).read_text()) | {"lora_alpha": RANK}
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / CONFIG_NAME).write_text(json.dumps(config))
    (tmp_path / "peft" / WEIGHTS_NAME).write_bytes((peft_folder / WEIGHTS_NAME).read_bytes())
    network, note = fuse_lora(build_pixart().transformer.eval(), tmp_path / "bare.safetensors")
    assert_same(network.state_dict(), fuse(tmp_path / "peft"))
    assert note.endswith("; no alpha in its file, which counts as its rank")


def test_layers_may_have_ranks_and_alphas_of_their_own(tensors: State, tmp_path: Path) -> None:
    """Rank 4 with zeros is rank 2, and a smaller alpha with larger weights is the same LoRA."""
    layer, down, up = LAYER_NAMES["OneTrainer"]
    state = renamed(tensors, layer, down, up) | with_alphas(tensors, layer)
    one, other = layer("transformer_blocks.0.attn1.to_q"), layer("transformer_blocks.1.attn1.to_q")
    state[one + down][2:] = 0
    state[other + up] *= 2
    state[f"{other}.alpha"] = torch.tensor([ALPHA / 2], dtype=torch.bfloat16)
    save_file(state, tmp_path / "a.safetensors")
    state[one + down], state[one + up] = state[one + down][:2].clone(), state[one + up][:, :2].clone()
    state[f"{one}.alpha"] = torch.tensor(ALPHA / 2)
    state[other + up] /= 2
    state[f"{other}.alpha"] = torch.tensor(ALPHA)
    save_file(state, tmp_path / "b.safetensors")
    first, second = fuse(tmp_path / "a.safetensors"), fuse(tmp_path / "b.safetensors")
    assert all(torch.allclose(first[key], second[key], atol=1e-5) for key in first)


def test_a_file_makes_the_images_of_the_folder_and_is_its_own_column(
    tensors: State, peft_folder: Path, tmp_path: Path
) -> None:
    layer, down, up = LAYER_NAMES["kohya"]
    file = tmp_path / "robots.safetensors"
    save_file(renamed(tensors, layer, down, up) | with_alphas(tensors, layer), file)
    base = tmp_path / "base"
    build_pixart().save_pretrained(base)
    images = {}
    for place in (peft_folder, file):
        options = pixart.Options(model=str(base), steps=2, lora=str(place))
        generator = pixart.FAMILY.load(options, Runtime("pretrained", "cpu", "float32", 32, assets=base, cache=base))
        images[place] = generator.generate([Request(0, "a pink robot", 0)])
    assert torch.equal(images[file], images[peft_folder])
    assert pixart.FAMILY.variants is not None
    _, variant = pixart.FAMILY.variants(pixart.Options(lora=str(file)), None)
    assert variant is not None
    assert (variant.folder, variant.digest, variant.training_data) == (file, lora_digest(file), None)
    whole = pixart.FAMILY.variants(pixart.Options(lora=str(peft_folder / WEIGHTS_NAME)), None)[1]
    assert whole is not None
    assert whole.digest == lora_digest(peft_folder), "the configuration beside a PEFT file is part of it"
    assert_same(fuse(peft_folder / WEIGHTS_NAME), fuse(peft_folder))


def test_scripts_of_fine_tuning_take_any_lora_that_is_named(tensors: State, tmp_path: Path) -> None:
    from finetuning.base import find_lora

    file = tmp_path / "robots.safetensors"
    save_file(diffusers_state(tensors), file)
    assert find_lora(tmp_path, file) == file
    (tmp_path / "pixart_lora").mkdir()
    file.rename(tmp_path / "pixart_lora" / "checkpoint.safetensors")
    with pytest.raises(OSError, match="pixart_lora holds no LoRA; train one first"):
        find_lora(tmp_path, None)


def refusal(place: Path) -> str:
    with pytest.raises((ValueError, OSError)) as caught:
        fuse(place)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight",
            "for a text encoder: only LoRAs on the transf",
        ),
        ("text_encoder.encoder.block.0.lora_A.weight", "for a text encoder"),
        ("lora_transformer_proj_out.lokr_w1", "a part of LoKr"),
        ("lora_transformer_proj_out.hada_w1_a", "a part of LoHa"),
        ("lora_transformer_proj_out.dora_scale", "a part of a DoRA as kohya and OneTrainer write it"),
        ("lora_transformer_proj_out.oft_blocks", "a part of OFT"),
        ("lora_unet_proj_out.diff", "a part of a set of whole weights"),
        ("proj_out.bias", "no part of a LoRA"),
        ("base_model.model.proj_out.lora_A.weight", "its adapter_config.json is missing, which says how strong"),
        (
            "lora_unet_down_blocks_0_resnets_0.lora_down.weight",
            "does not fit the base: it has a part for down_blocks_0",
        ),
    ],
)
def test_what_is_no_lora_on_the_transformer_is_refused_in_one_line(
    name: str, words: str, tensors: State, tmp_path: Path
) -> None:
    file, odd = tmp_path / "a.safetensors", {name: torch.zeros(4, 32)}
    save_file(odd if "base_model" in name else diffusers_state(tensors) | odd, file)
    assert words in refusal(file)
    if "does not fit" not in words:  # that needs the network
        with pytest.raises(ValueError, match=words[:20]):
            read_lora(file)


def test_damaged_tensors_are_told_by_layer(tensors: State, tmp_path: Path) -> None:
    file, state = tmp_path / "a.safetensors", diffusers_state(tensors)

    def said(**changes: Tensor | None) -> str:
        changed = state | {f"transformer.proj_out.{key.replace('_w', '.weight')}": x for key, x in changes.items()}  # type: ignore[dict-item]
        save_file({key: x for key, x in changed.items() if x is not None}, file)
        return refusal(file)

    assert "holds B.weight of proj_out; expected A.weight and B.weight" in said(lora_A_w=None)
    assert "the two parts of proj_out are [3, 32] and [32, 4]" in said(lora_A_w=torch.zeros(3, 32))
    assert "proj_out has 32 channels, the LoRA's part 31" in said(lora_B_w=torch.zeros(31, 4))
    assert "proj_out has 32 channels, the LoRA's part 16" in said(lora_A_w=torch.zeros(4, 16))
    assert "alpha of proj_out is no number" in said(alpha=torch.tensor(float("nan")))


def test_a_layer_under_two_names_is_refused(tensors: State, tmp_path: Path) -> None:
    twice = diffusers_state(tensors)
    for end, source in (("down", "A"), ("up", "B")):
        twice[f"lora_unet_caption_projection_linear_1.lora_{end}.weight"] = tensors[
            f"caption_projection.linear_1.lora_{source}.weight"
        ].clone()
    save_file(twice, tmp_path / "a.safetensors")
    assert "holds caption_projection.linear_1 twice, under two names" in refusal(tmp_path / "a.safetensors")


def test_which_file_of_a_folder_is_the_lora_is_told_or_asked(tensors: State, fused: State, tmp_path: Path) -> None:
    assert "holds no adapter_config.json with adapter_model.safetensors" in refusal(tmp_path)
    layer, down, up = LAYER_NAMES["OneTrainer"]
    state = renamed(tensors, layer, down, up) | with_alphas(tensors, layer)
    save_file(state, tmp_path / "step-100.safetensors")
    save_file(state, tmp_path / "step-200.safetensors")
    assert "holds step-100.safetensors, step-200.safetensors; name the one .safetensors file" in refusal(tmp_path)
    save_file(state, tmp_path / DIFFUSERS_NAME)
    assert_same(fuse(tmp_path), fused)
    (tmp_path / "lora.pt").write_bytes(b"")
    assert "is no .safetensors file" in refusal(tmp_path / "lora.pt")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / DIFFUSERS_NAME).read_bytes()[:100])
    assert "is damaged" in refusal(tmp_path / "cut.safetensors")
    assert read_training_data(tmp_path / DIFFUSERS_NAME) is None


def test_every_layer_of_the_network_has_a_spelling_of_each_trainer() -> None:
    network = build_pixart().transformer
    layers = [
        name for name, module in network.named_modules() if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
    ]
    spellings = spellings_of(layers)
    published = ("blocks_", "t_", "x_", "y_", "final_")
    reached = {path for spelled, paths in spellings.items() if spelled.startswith(published) for path in paths}
    assert reached == set(layers)
    assert {path for spelled, paths in spellings.items() if spelled in layers for path in paths} == set(layers)
