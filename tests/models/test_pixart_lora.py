"""A LoRA on PixArt: fused as beside it, the images that diffusers and PEFT make, and LoRAs that do not fit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_folders import build_pixart, write_lora
from torch import Tensor

from models import pixart
from models.base import ImageGenerator, Request, Runtime
from models.loras.files import CONFIG_NAME, WEIGHTS_NAME, lora_digest
from models.pixart_lora import attach_lora, check_lora, fuse_lora

REQUESTS = [Request(0, "a pink robot", 0), Request(1, "a blue cat in a forest", 1)]
KINDS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "every layer": {"target_modules": r".*\.(to_q|to_k|to_v|to_out\.0|ff\.net\.0\.proj|ff\.net\.2)"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    build_pixart().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def lora(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lora(tmp_path_factory.mktemp("lora"), build_pixart().transformer, **KINDS[request.param])


@pytest.fixture
def plain_lora(tmp_path: Path) -> Path:
    return write_lora(tmp_path / "lora", build_pixart().transformer)


def load(base: Path, lora: str, scale: float = 1.0, dtype: Any = "float32") -> ImageGenerator:
    options = pixart.Options(model=str(base), steps=3, lora=lora, lora_scale=scale)
    return pixart.FAMILY.load(options, Runtime("pretrained", "cpu", dtype, 32, assets=base, cache=base))


def pictures(base: Path, lora: str, scale: float = 1.0) -> Tensor:
    return load(base, lora, scale).generate(REQUESTS).int()


def answer(network: Any, seed: int) -> Tensor:
    """Return the network's answer to a latent and a text that the fusing's own check does not use."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        found: Tensor = network(
            torch.randn(2, 4, 8, 8, generator=generator),
            encoder_hidden_states=torch.randn(2, 5, 32, generator=generator),
            timestep=torch.tensor([30, 800]),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
            return_dict=False,
        )[0]
    return found


def test_fused_answers_as_beside(lora: Path) -> None:
    plain = answer(build_pixart().transformer.eval(), 1)
    beside = answer(attach_lora(build_pixart().transformer.eval(), lora), 1)
    network, note = fuse_lora(build_pixart().transformer.eval(), lora)
    fused = answer(network, 1)
    assert (beside - plain).norm() > 0.01 * plain.norm(), "the LoRA does something"
    assert (fused - beside).norm() < 1e-5 * beside.norm()
    assert note.startswith("fused into the weights: output within")
    assert not any("lora" in name for name, _ in network.named_parameters())


def test_diffusers_and_peft_make_the_same_images(base: Path, lora: Path) -> None:
    from diffusers import PixArtSigmaPipeline
    from peft import PeftModel

    ours = load(base, str(lora))
    pipeline = PixArtSigmaPipeline.from_pretrained(base)
    pipeline.transformer = PeftModel.from_pretrained(pipeline.transformer, str(lora))
    pipeline.set_progress_bar_config(disable=True)
    fused = ours.generate(REQUESTS).int()
    ours.pipeline = pipeline
    unfused = ours.generate(REQUESTS).int()
    assert (fused - unfused).abs().max() <= 1
    assert (fused - pictures(base, "")).abs().max() > 1


def test_strength_goes_from_the_base_to_the_whole(base: Path, lora: Path) -> None:
    plain, none, half, whole = (pictures(base, *given) for given in
                                (("",), (str(lora), 0.0), (str(lora), 0.5), (str(lora), 1.0)))  # fmt: skip
    assert torch.equal(plain, none)
    assert 0 < (half - plain).abs().float().mean() < (whole - plain).abs().float().mean()
    assert (half - whole).abs().float().mean() < (whole - plain).abs().float().mean()


def test_column_and_note_name_the_lora(base: Path, plain_lora: Path) -> None:
    generator = load(base, str(plain_lora), 0.5, "bfloat16")
    assert generator.name == "PixArt+LoRA"
    assert generator.notes[0].startswith(f"LoRA {lora_digest(plain_lora)} at strength 0.5, fused into the weights: ")
    assert generator.notes[1] == "it is not known what the LoRA was trained on"
    assert load(base, "none").name == "PixArt"


def test_weights_in_half_precision_are_rounded_once(plain_lora: Path) -> None:
    network = build_pixart().transformer.to(torch.bfloat16)
    name = "transformer_blocks.0.attn1.to_q"
    before = network.get_submodule(name).weight.float()
    whole, _ = fuse_lora(build_pixart().transformer, plain_lora)
    plain = build_pixart().transformer.get_submodule(name).weight
    delta = whole.get_submodule(name).weight - plain
    fused, _ = fuse_lora(network, plain_lora)
    weight = fused.get_submodule(name).weight
    assert weight.dtype == torch.bfloat16
    assert (weight.float() - (before + delta).to(torch.bfloat16).float()).abs().max() <= 2**-8 * before.abs().max()


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder: Path, words: str, error: type[Exception] = ValueError, network: Any = None) -> None:
    transformer = network or build_pixart().transformer
    with pytest.raises(error, match=words) as caught:
        check_lora(folder, transformer)
    assert "\n" not in str(caught.value)


def test_what_is_no_lora_of_this_network_is_refused_in_one_line(tmp_path: Path, plain_lora: Path) -> None:
    from diffusers import PixArtTransformer2DModel

    config = dict(build_pixart().transformer.config)
    shallow = PixArtTransformer2DModel.from_config(config | {"num_layers": 1})
    refused(plain_lora, "does not fit the base: it has a part for transformer_blocks.1.* of 1 blocks", network=shallow)
    narrow = PixArtTransformer2DModel.from_config(
        config | {"num_attention_heads": 2, "cross_attention_dim": 16, "caption_channels": 16}
    )
    refused(plain_lora, "has 16 channels, the LoRA's part 32", network=narrow)
    refused(tmp_path / "nowhere", "no such folder or file", OSError)
    refused(tmp_path, "holds no adapter_config.json", OSError)
    edit_config(plain_lora, peft_type="IA3")
    refused(plain_lora, "is of the PEFT type IA3; expected LORA")
    edit_config(plain_lora, peft_type="LORA")
    weights = plain_lora / WEIGHTS_NAME
    weights.write_bytes(weights.read_bytes()[:100])
    refused(plain_lora, "is damaged")
    (plain_lora / CONFIG_NAME).write_text("{")
    refused(plain_lora, "is damaged")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("megatron_config", {"tensor_model_parallel_size": 1}), ("megatron_core", "os"), ("bias", "all"),
        ("modules_to_save", ["proj_out"]), ("layer_replication", [[0, 1]]), ("trainable_token_indices", [1]),
        ("init_lora_weights", "pissa"), ("eva_config", {"rho": 2}), ("loftq_config", {"loftq_bits": 4}),
        ("lora_bias", True), ("fan_in_fan_out", True), ("target_parameters", ["x"]), ("use_qalora", True),
        ("a_key_of_tomorrow", "os.system"), ("runtime_config", {"ephemeral_gpu_offload": True}),
        ("r", 0), ("r", "4"), ("r", True), ("r", 10**12), ("lora_alpha", float("nan")), ("lora_alpha", "4"),
        ("rank_pattern", {"(a+)+$": 4}), ("rank_pattern", {"to_q": "4"}), ("alpha_pattern", {"to_q(": 1}),
        ("alpha_pattern", [1]), ("use_dora", 1), ("use_rslora", "yes"),
    ],
)  # fmt: skip
def test_an_entry_that_is_not_understood_is_refused_by_name(plain_lora: Path, key: str, value: object) -> None:
    edit_config(plain_lora, **{key: value})
    refused(plain_lora, f"{key}=")


def test_what_peft_would_import_is_not_imported(plain_lora: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "own_core.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = answer(attach_lora(build_pixart().transformer.eval(), plain_lora), 1)
    edit_config(plain_lora, megatron_config={"a": 1}, megatron_core="own_core")
    with pytest.raises(ValueError, match="megatron_co"):
        attach_lora(build_pixart().transformer.eval(), plain_lora)
    # What says where a LoRA came from is not followed either.
    edit_config(
        plain_lora, megatron_config=None, megatron_core=None, task_type="own_core", revision="own_core",
        auto_mapping={"base_model_class": "Own", "parent_library": "own_core"}, base_model_name_or_path="own_core",
    )  # fmt: skip
    assert torch.equal(answer(attach_lora(build_pixart().transformer.eval(), plain_lora), 1), before)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_beside_the_weights_is_not_read(plain_lora: Path) -> None:
    (plain_lora / "adapter_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    attach_lora(build_pixart().transformer.eval(), plain_lora)
    (plain_lora / WEIGHTS_NAME).unlink()
    refused(plain_lora, "holds no adapter_config.json with adapter_model.safetensors", OSError)


def test_ranks_and_alphas_by_layer_are_pefts(tmp_path: Path) -> None:
    from peft import PeftModel

    patterns = {"rank_pattern": {"to_v": 2, "^transformer_blocks.0.attn1.to_q": 3}, "alpha_pattern": {"to_v": 11}}
    lora = write_lora(tmp_path / "lora", build_pixart().transformer, **patterns)
    stock = PeftModel.from_pretrained(build_pixart().transformer.eval(), str(lora))
    ours = attach_lora(build_pixart().transformer.eval(), lora)
    torch.testing.assert_close(answer(ours, 1), answer(stock, 1))


def test_tensors_that_are_not_what_the_configuration_says_are_refused(plain_lora: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = plain_lora / WEIGHTS_NAME
    tensors = load_file(path)
    edit_config(plain_lora, r=5)
    refused(plain_lora, r"lora_A.weight is \[4, 32\], by adapter_config.json it should be \[5, 32\]")
    edit_config(plain_lora, r=4, use_dora=True)
    refused(plain_lora, "expected A.weight, B.weight, magnitude_vector")
    edit_config(plain_lora, use_dora=False)
    name = next(iter(tensors))
    save_file({key: tensor for key, tensor in tensors.items() if key != name}, path)
    refused(plain_lora, "holds (A|B).weight of ")
    save_file(tensors | {"base_model.model.proj_out.weight": torch.zeros(2)}, path)
    refused(plain_lora, "holds a tensor base_model.model.proj_out.weight, which is no part of a LoRA")


def test_weights_that_lie_elsewhere_are_refused(plain_lora: Path, tmp_path: Path) -> None:
    (plain_lora / WEIGHTS_NAME).rename(tmp_path / "elsewhere")
    (plain_lora / WEIGHTS_NAME).symlink_to(tmp_path / "elsewhere")
    refused(plain_lora, "leads outside of")


def test_variants_are_the_base_and_the_adapted(tmp_path: Path, plain_lora: Path) -> None:
    variants = pixart.FAMILY.variants
    assert variants is not None
    asked = pixart.Options(steps=7, lora_scale=0.5)
    plain, found = variants(asked, plain_lora)
    assert plain == pixart.Options(steps=7), "the base is the same column, whatever stands beside it"
    assert found is not None
    assert found.options == dataclasses.replace(asked, lora=str(plain_lora))
    assert found.digest == lora_digest(plain_lora)
    assert variants(asked, None)[1] is None
    assert variants(asked, tmp_path)[1] is None, "a training that is not done has left no LoRA yet"
    assert variants(dataclasses.replace(asked, lora="none"), plain_lora)[1] is None
    with pytest.raises(OSError, match=r"PIXART_LORA=.* holds no adapter_config.json"):
        variants(dataclasses.replace(asked, lora=str(tmp_path)), plain_lora)
    weights = plain_lora / WEIGHTS_NAME
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is damaged"):
        variants(asked, plain_lora)
