"""SDXL: Stable Diffusion XL base through diffusers, from the hub, a local folder, random or embedded weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from files.downloads import FirstOf, HubFiles, show_bar
from files.opening import from_pretrained
from files.reading import read_regular
from files.sources import check_holds, check_source, expanded, is_local
from models.base import (
    DType,
    ImageGenerator,
    ModelFamily,
    Need,
    NetworkSize,
    Runtime,
    check_modes,
    check_negative_prompt,
    check_size,
    option,
    size_note,
    unread_sources,
)
from models.needed import NEVER_READ, check_weights, hub_weights, is_on_hub, names_in, prefer_full
from models.pipelines.schedulers import SCHEDULER_HELP, check_scheduler, set_scheduler
from models.pipelines.sdxl_file import check_file, check_model, file_needs, is_single, open_file_model
from models.pipelines.weight_files import half_size_note, half_size_parts

if TYPE_CHECKING:
    import torch

HUB_MODEL = "stabilityai/stable-diffusion-xl-base-1.0"
HALF_VAE = "madebyollin/sdxl-vae-fp16-fix"
NETWORKS = ("unet", "vae", "text_encoder", "text_encoder_2")
FASTEST = "full+fuse+nhwc"

_CLIP: dict[str, Any] = {
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 1,
}


@dataclass(frozen=True)
class Configurations:
    """Of the pipeline's networks, as their classes take them; what is not named is the class's default."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    clip_l: Mapping[str, Any]
    clip_bigg: Mapping[str, Any]


FULL = Configurations(
    unet={
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    vae={
        "sample_size": 1024,
        "latent_channels": 4,
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "scaling_factor": 0.13025,
    },
    clip_l=_CLIP
    | {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
        "hidden_act": "quick_gelu",
    },
    clip_bigg=_CLIP
    | {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
        "hidden_act": "gelu",
    },
)
_SMALL_CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = Configurations(
    unet={
        **FULL.unet,
        "block_out_channels": (32, 64, 64),
        "layers_per_block": 1,
        "attention_head_dim": (1, 2, 2),
        "transformer_layers_per_block": (1, 1, 2),
        "cross_attention_dim": 64,  # both text encoders' features side by side
        "addition_time_embed_dim": 16,
        "projection_class_embeddings_input_dim": 16 * 6 + 32,
    },
    vae={**FULL.vae, "block_out_channels": (32, 32, 32, 32), "layers_per_block": 1},
    clip_l={**FULL.clip_l, **_SMALL_CLIP},
    clip_bigg={**FULL.clip_bigg, **_SMALL_CLIP, "projection_dim": 32},
)
CONFIGURATIONS: dict[NetworkSize, Configurations] = {"full": FULL, "small": SMALL}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


@dataclass(frozen=True)
class Options:
    """What a user can choose of SDXL."""

    model: str = option(
        HUB_MODEL, "hub id, local folder in the diffusers layout, or a .safetensors file of a whole model",
        check=check_model,
    )  # fmt: skip
    config: str = option(
        "",
        f"hub id or folder with the configurations and tokenizers of a .safetensors file; empty: {HUB_MODEL}",
        check=check_source,
    )
    steps: int = option(20, "denoising steps", least=1, most=10000)
    guidance: float = option(7.5, "classifier-free guidance scale; 1 or less turns it off", least=0, most=1000)
    negative_prompt: str = option("", "guide away from this text, for every image; needs guidance above 1")
    scheduler: str = option("", SCHEDULER_HELP, check=check_scheduler)
    vae: str = option(
        "", f"VAE's hub id or folder; empty: the model's own, or {HALF_VAE} in float16", check=check_source
    )


def _check(options: Options, runtime: Runtime) -> None:
    check_negative_prompt("SDXL", options.negative_prompt, options.guidance)
    check_modes(runtime)
    if runtime.weights != "tiny":
        check_size(runtime.image_size, 8, "SDXL")
    if runtime.weights != "pretrained":
        return
    if is_single(options.model):
        check_file(options.model)
    elif options.config:
        raise ValueError("SDXL_CONFIG reaches nothing: it goes with SDXL_MODEL=FILE.safetensors alone; leave it out")
    elif is_local(options.model):
        check_holds("SDXL_MODEL", options.model, "model_index.json")


def _source(options: Options, runtime: Runtime) -> str:
    if runtime.weights == "pretrained":
        if is_single(options.model):
            return f"file {options.model}, configurations and tokenizers of {options.config or HUB_MODEL}"
        return f"{'folder' if Path(options.model).expanduser().is_dir() else 'hub'} {options.model}"
    return (
        str(runtime.assets / "sdxl") if runtime.weights == "tiny" else f"random weights at {runtime.random_size} size"
    )


def hub_model(source: str, dtype: DType) -> FirstOf:
    """Return what is needed of a repository: half-size files where no more is needed, full ones, or some of each."""
    small = ("model_index.json", "*.json", "*.txt", "tokenizer/*", "tokenizer_2/*", "scheduler/*")

    def files(half: str, ignored: tuple[str, ...], size: int) -> HubFiles:
        patterns = (*small, *(f"{part}/*{half}*.safetensors" for part in NETWORKS))
        known = size if source == HUB_MODEL else None
        return hub_weights("SDXL", source, "SDXL_MODEL", patterns, (*NEVER_READ, *ignored), known)

    halves, full = files("fp16", (), 6_940_000_000), files("", ("*.fp16.*", "*.fp16-*"), 13_880_000_000)
    mixed = files("", (), 13_880_000_000)
    if dtype != "float32":
        return FirstOf(full.what, (halves, full, mixed))
    return FirstOf(full.what, (full, prefer_full(halves, NETWORKS), prefer_full(mixed, NETWORKS)))


def hub_vae(source: str) -> HubFiles:
    """Return what is needed of a VAE's own repository."""
    known = 335_000_000 if source == HALF_VAE else None
    return hub_weights(
        "SDXL's VAE", source, "SDXL_VAE", ("config.json", "diffusion_pytorch_model.safetensors"), (), known
    )


def named_vae(source: str) -> FirstOf:
    """Return what is needed of the repository that SDXL_VAE names: its full file, else the half-size one."""
    full = hub_vae(source)
    half = replace(full, patterns=("config.json", "diffusion_pytorch_model.fp16.safetensors"), size_bytes=None)
    return FirstOf(full.what, (full, prefer_full(half, ("",))))


def _overflows(options: Options) -> bool:
    """Return whether the model's own VAE overflows in float16, as its configuration says, or where that is missing."""
    source = (options.config or HUB_MODEL) if is_single(options.model) else options.model
    if source == HUB_MODEL:
        return True
    try:
        folder = expanded(source) if is_local(source) else HubFiles("SDXL's VAE", source, ("vae/config.json",)).fetch()
        config = json.loads(read_regular(folder / "vae" / "config.json"))
    except (OSError, ValueError):
        return True
    return bool(config.get("force_upcast", True)) if isinstance(config, dict) else True


def _needs(options: Options, runtime: Runtime) -> list[Need]:
    needs: list[Need] = []
    if runtime.weights != "pretrained":
        return needs
    if is_single(options.model):
        needs += file_needs(options.model, options.vae, options.config)
    elif is_on_hub(options.model):
        needs.append(hub_model(options.model, runtime.dtype))
    else:
        check_weights("SDXL_MODEL", options.model, ("unet", "vae", "text_encoder", "text_encoder_2"))
    if is_on_hub(options.vae) and not is_single(options.model):
        needs.append(named_vae(options.vae))
    elif not options.vae and runtime.dtype == "float16" and _overflows(options):
        needs.append(replace(hub_vae(HALF_VAE), is_optional=True))  # the stock VAE then runs in float32
    return needs


def _load(options: Options, runtime: Runtime) -> ImageGenerator:
    from models.pipelines.generator import DiffusersGenerator, check_offload, tiny_notes

    check_offload(runtime)
    check_negative_prompt("SDXL", options.negative_prompt, options.guidance)
    if runtime.weights != "tiny":
        check_size(runtime.image_size, 8, "SDXL")
    notes: tuple[str, ...] = ()
    if runtime.weights == "random":
        pipeline = build_random_pipeline(runtime)
    elif runtime.weights == "tiny":
        pipeline = _load_tiny(runtime)
    else:
        pipeline, notes = _load_pretrained(options, runtime)
    native = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    image_size = native if runtime.weights == "tiny" else runtime.image_size
    notes += tiny_notes(runtime, native) if runtime.weights == "tiny" else size_note(image_size, native)
    arguments: dict[str, object] = {
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance,
        "height": image_size,
        "width": image_size,
    }
    if options.negative_prompt:
        if pipeline.unet.config.time_cond_proj_dim is not None:
            raise ValueError("SDXL_NEGATIVE_PROMPT reaches nothing: this UNet takes guidance as a number; leave it out")
        arguments["negative_prompt"] = options.negative_prompt
    if options.scheduler:
        set_scheduler(pipeline, options.scheduler)
    generator = DiffusersGenerator("SDXL", pipeline, image_size, arguments, notes, one_call_a_step=True)
    generator.place(runtime, FASTEST)
    return generator


def _load_pretrained(options: Options, runtime: Runtime) -> tuple[Any, tuple[str, ...]]:
    """Return the pipeline and its notes.

    Raises:
        OSError: no such weights, here or on the hub.
    """
    import torch
    from diffusers import AutoencoderKL

    from models.pipelines.components import Place, load_component
    from models.pipelines.generator import dtype_of, missing_weights, quiet_libraries

    dtype, wanted = dtype_of(runtime), options.vae
    notes: tuple[str, ...] = ()
    if is_single(options.model):
        opened = open_file_model(options.model, options.vae, options.config, runtime)
        pipeline, notes, wanted = opened.pipeline, opened.notes, ""
    else:
        pipeline, notes = _load_folder(options, runtime)
    if not options.vae and dtype == torch.float16 and pipeline.vae.config.force_upcast:
        wanted = HALF_VAE  # the stock VAE overflows in float16
    if not wanted:
        return pipeline, notes
    if options.vae:
        vae_folder = expanded(wanted) if is_local(wanted) else named_vae(wanted).fetch(show_bar)
    elif (found := hub_vae(HALF_VAE).find()) is not None:
        vae_folder = found
    else:
        # It is fetched before anything is made, or not at all. diffusers itself then decodes in float32, since the
        # stock VAE says that it must.
        return pipeline, (*notes, f"VAE runs in float32: {HALF_VAE} could not be found; set SDXL_VAE=FOLDER")
    with quiet_libraries(), missing_weights(wanted, "SDXL_VAE"):
        pipeline.register_modules(vae=load_component(AutoencoderKL, Place(vae_folder), dtype))
    if half_size_parts(path.name for path in vae_folder.iterdir()):
        notes += half_size_note((f"vae of {wanted}",), runtime.dtype)
    return pipeline, notes


def _load_folder(options: Options, runtime: Runtime) -> tuple[Any, tuple[str, ...]]:
    """Return the pipeline of a folder or of the hub, and its notes."""
    from diffusers import StableDiffusionXLPipeline

    from models.pipelines.components import load_other_variants
    from models.pipelines.generator import dtype_of, half_variant, missing_weights, quiet_libraries

    dtype = dtype_of(runtime)
    if is_local(options.model):
        folder = expanded(options.model)
    else:
        folder = hub_model(options.model, runtime.dtype).fetch(show_bar)
    variant = half_variant(folder, "unet", dtype)
    with quiet_libraries(), missing_weights(options.model, "SDXL_MODEL"):
        pipeline = from_pretrained(
            StableDiffusionXLPipeline,
            folder,
            dtype=dtype,
            variant=variant,
            # The watermark depends on a package that happens to be installed, and costs time on the CPU.
            add_watermarker=False,
            **load_other_variants(folder, dtype, variant),
        )
    read = [part for part in NETWORKS if part != "vae" or not options.vae]
    return pipeline, half_size_note(half_size_parts(names_in(folder, read)), runtime.dtype)


def _load_tiny(runtime: Runtime) -> Any:
    from diffusers import AutoencoderKL, StableDiffusionXLPipeline

    from models.pipelines.generator import dtype_of, quiet_libraries, tiny_folder

    dtype = dtype_of(runtime)
    with quiet_libraries():
        # Shared with PixArt on disk, as the real pair shares theirs.
        vae = from_pretrained(AutoencoderKL, tiny_folder(runtime, "vae"), dtype=dtype)
        folder = tiny_folder(runtime, "sdxl")
        return from_pretrained(StableDiffusionXLPipeline, folder, vae=vae, dtype=dtype, add_watermarker=False)


def build_networks(configurations: Configurations = FULL) -> dict[str, Any]:
    """Return a builder for each of the pipeline's networks, by the pipeline's name for it."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    return {
        "unet": lambda: UNet2DConditionModel(**configurations.unet),
        "vae": lambda: AutoencoderKL(**configurations.vae),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**configurations.clip_l)),
        "text_encoder_2": lambda: CLIPTextModelWithProjection(CLIPTextConfig(**configurations.clip_bigg)),
    }


def build_random_pipeline(runtime: Runtime) -> Any:
    """Return the pipeline at `runtime.random_size` with random weights on the run's device; it reads no file."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    from models.hash_tokenizer import HashTokenizer
    from models.pipelines.generator import dtype_of, quiet_libraries
    from models.random_weights import build_random

    dtype: torch.dtype = dtype_of(runtime)
    builders = build_networks(CONFIGURATIONS[runtime.random_size])
    with quiet_libraries():
        networks = {name: build_random(build, runtime.device, dtype) for name, build in builders.items()}
    tokenizer = HashTokenizer(vocabulary=49408, model_max_length=77, start=49406, end=49407, pad=49407)
    return StableDiffusionXLPipeline(
        **networks,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        scheduler=EulerDiscreteScheduler(**SCHEDULER),
        add_watermarker=False,
    )


def _unreached(options: Options, runtime: Runtime) -> Mapping[str, str]:
    return unread_sources(options, runtime, "model", "config", "vae")


FAMILY = ModelFamily(
    key="sdxl",
    options=Options,
    title=lambda _: "SDXL",
    source=_source,
    load=_load,
    tiny_options={"steps": 10, "guidance": 1.5},
    check=_check,
    needs=_needs,
    unreached=_unreached,
    imports=("diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl", "models.pipelines.generator"),
)
