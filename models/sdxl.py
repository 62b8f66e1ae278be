"""SDXL: Stable Diffusion XL base through diffusers, from the hub, a local folder, random or embedded weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
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
from models.sdxl_networks import CONFIGURATIONS as CONFIGURATIONS
from models.sdxl_networks import FULL as FULL
from models.sdxl_networks import SCHEDULER as SCHEDULER
from models.sdxl_networks import SMALL as SMALL
from models.sdxl_networks import build_networks as build_networks
from models.sdxl_networks import build_random_pipeline as build_random_pipeline

if TYPE_CHECKING:
    from models.pipelines.generator import DiffusersGenerator

HUB_MODEL = "stabilityai/stable-diffusion-xl-base-1.0"
HALF_VAE = "madebyollin/sdxl-vae-fp16-fix"
NETWORKS = ("unet", "vae", "text_encoder", "text_encoder_2")
FASTEST = "full+fuse+nhwc"


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
    from models.pipelines.generator import check_offload, place_reusable, tiny_notes

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
    return place_reusable(pipeline, partial(_ask, image_size=image_size, notes=notes), options, runtime, FASTEST)


def _ask(pipeline: Any, options: Options, image_size: int, notes: tuple[str, ...]) -> DiffusersGenerator:
    """Return a loaded pipeline as a generator that is called with these options."""
    from models.pipelines.generator import DiffusersGenerator

    check_negative_prompt("SDXL", options.negative_prompt, options.guidance)
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
    return DiffusersGenerator("SDXL", pipeline, image_size, arguments, notes, one_call_a_step=True)


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
    call_options=frozenset({"steps", "guidance", "negative_prompt", "scheduler"}),
    imports=("diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl", "models.pipelines.generator"),
)
