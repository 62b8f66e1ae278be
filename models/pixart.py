"""PixArt-Sigma through diffusers: from the hub, a local folder, random or embedded weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from files.downloads import HubFiles, show_bar
from files.opening import from_pretrained
from files.sources import check_holds, check_source, expanded, is_local
from models.base import (
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
from models.loras.files import LoraVariant, is_lora, lora_digest, read_lora, read_training_data
from models.needed import NEVER_READ, check_weights, hub_weights, is_on_hub, names_in, prefer_full
from models.pipelines.schedulers import SCHEDULER_HELP, check_scheduler, set_scheduler
from models.pipelines.weight_files import half_size_note, half_size_parts

if TYPE_CHECKING:
    import torch

HUB_MODELS = {512: "PixArt-alpha/PixArt-Sigma-XL-2-512-MS", 1024: "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"}
HUB_BASE = "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers"
PROMPT_TOKENS = 300
NO_LORA = "none"
FASTEST = "full+fuse+empty+once"


@dataclass(frozen=True)
class Configurations:
    """Of the pipeline's networks, as their classes take them; what is not named is the class's default."""

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    t5: Mapping[str, Any]


FULL = Configurations(
    transformer={
        "num_attention_heads": 16,
        "attention_head_dim": 72,
        "num_layers": 28,
        "cross_attention_dim": 1152,
        "caption_channels": 4096,
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 8,
        "norm_type": "ada_norm_single",
        "use_additional_conditions": False,
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
    t5={
        "vocab_size": 32128,
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    },
)
SMALL = Configurations(
    transformer={
        **FULL.transformer,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "cross_attention_dim": 32,
        "caption_channels": 64,
    },
    vae={**FULL.vae, "block_out_channels": (32, 32, 32, 32), "layers_per_block": 1},
    t5={**FULL.t5, "d_model": 64, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 4},
)
CONFIGURATIONS: dict[NetworkSize, Configurations] = {"full": FULL, "small": SMALL}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
}


def _check_lora(lora: str) -> None:
    """Raise OSError or ValueError where PIXART_LORA names no LoRA."""
    if lora not in ("", NO_LORA):
        read_lora(expanded(lora))


_LATER = ("negative_prompt", "scheduler")


@dataclass(frozen=True, repr=False)
class Options:
    """What a user can choose of PixArt-Sigma."""

    model: str = option(
        "", "transformer: hub id or local folder; empty: the 512 or 1024 px one by IMAGE_SIZE", check=check_source
    )
    base: str = option(HUB_BASE, "VAE, T5, tokenizer and scheduler: hub id or local folder", check=check_source)
    steps: int = option(20, "denoising steps", least=1, most=10000)
    guidance: float = option(4.5, "classifier-free guidance scale; 1 or less turns it off", least=0, most=1000)
    negative_prompt: str = option("", "guide away from this text, for every image; needs guidance above 1")
    scheduler: str = option("", SCHEDULER_HELP, check=check_scheduler)
    lora: str = option(
        "",
        "LoRA for a column PixArt+LoRA: a folder, or a .safetensors file, of PEFT, diffusers, kohya or OneTrainer; "
        "empty: OUTPUT_DIR/<Dataset>/pixart_lora if there; none: off",
        check=_check_lora,
    )
    lora_scale: float = option(1.0, "strength of the LoRA", least=0, most=1000)

    def __repr__(self) -> str:
        """Name what is asked for; of the options of later versions, what is not the default.

        Folders of fine-tuned images record this text, and go on with the same settings in a later version.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        shown = [f"{name}={value!r}" for name, value in values.items() if value or name not in _LATER]
        return f"Options({', '.join(shown)})"


def native_size(image_size: int) -> int:
    """Return the published model's size that is nearer to the asked one."""
    return 512 if image_size < 768 else 1024


def _check(options: Options, runtime: Runtime) -> None:
    check_negative_prompt("PIXART", options.negative_prompt, options.guidance)
    check_modes(runtime)
    if runtime.weights != "tiny":
        check_size(runtime.image_size, 16, "PixArt")
    if runtime.weights == "pretrained":
        model = _model(options, runtime)
        if is_local(model):
            check_holds("PIXART_MODEL", model, "transformer")
            if is_whole_pipeline(expanded(model)):
                return
        if is_local(options.base):
            check_holds("PIXART_BASE", options.base, "model_index.json")


def _model(options: Options, runtime: Runtime) -> str:
    return options.model or HUB_MODELS[native_size(runtime.image_size)]


def _source(options: Options, runtime: Runtime) -> str:
    base = _base_source(options, runtime)
    return base if options.lora in ("", NO_LORA) else f"{base}, LoRA {options.lora}"


def _base_source(options: Options, runtime: Runtime) -> str:
    if runtime.weights != "pretrained":
        return (
            str(runtime.assets / "pixart")
            if runtime.weights == "tiny"
            else f"random weights at {runtime.random_size} size"
        )
    model = _model(options, runtime)
    if is_whole_pipeline(Path(model).expanduser()):
        return f"folder {model}"
    return f"{'folder' if Path(model).expanduser().is_dir() else 'hub'} {model} with {options.base}"


def _load(options: Options, runtime: Runtime) -> ImageGenerator:
    from models.pipelines.generator import DiffusersGenerator, check_offload, tiny_notes
    from models.pixart_conditions import MODIFIERS

    check_offload(runtime)
    check_negative_prompt("PIXART", options.negative_prompt, options.guidance)
    if runtime.weights != "tiny":
        check_size(runtime.image_size, 16, "PixArt")
    weight_notes: tuple[str, ...] = ()
    if runtime.weights == "random":
        pipeline = build_random_pipeline(runtime)
    elif runtime.weights == "tiny":
        pipeline = _load_tiny(runtime)
    else:
        pipeline, weight_notes = _load_pretrained(options, runtime)
    lora_notes: tuple[str, ...] = ()
    if options.lora not in ("", NO_LORA):
        lora_notes = _fuse(pipeline, Path(options.lora).expanduser(), options.lora_scale)
    native = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
    image_size = native if runtime.weights == "tiny" else runtime.image_size
    notes = tiny_notes(runtime, native) if runtime.weights == "tiny" else size_note(image_size, native)
    arguments: dict[str, object] = {
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance,
        "height": image_size,
        "width": image_size,
        # The default rewrites prompts where bs4 and ftfy happen to be installed.
        "clean_caption": False,
        # Binning makes another size and resizes it; at the native sizes it changes nothing, below 256 px it fails.
        "use_resolution_binning": False,
        "max_sequence_length": min(PROMPT_TOKENS, pipeline.tokenizer.model_max_length),
    }
    if options.negative_prompt:
        arguments["negative_prompt"] = options.negative_prompt
    if options.scheduler:
        set_scheduler(pipeline, options.scheduler)
    generator = DiffusersGenerator(
        _title(options),
        pipeline,
        image_size,
        arguments,
        (*lora_notes, *weight_notes, *notes),
        MODIFIERS,
        one_call_a_step=True,
    )
    generator.place(runtime, FASTEST)
    return generator


def _title(options: Options) -> str:
    return "PixArt+LoRA" if options.lora not in ("", NO_LORA) else "PixArt"


def _variants(options: Options, default: Path | None) -> tuple[Options, LoraVariant | None]:
    """Return the options without a LoRA, and the model with the LoRA that is named or was left in `default`."""
    plain = replace(options, lora="", lora_scale=1.0)
    if options.lora == NO_LORA:
        return plain, None
    if options.lora:
        place = Path(options.lora).expanduser()
    elif default is not None and is_lora(default):
        place = default
    else:
        return plain, None
    try:
        read_lora(place)  # a damaged one is told before anything is generated
    except OSError as error:
        raise OSError(f"PIXART_LORA={options.lora}: {error}, or set PIXART_LORA=none") from error
    adapted = replace(options, lora=str(place))
    return plain, LoraVariant(adapted, "lora", place, lora_digest(place), read_training_data(place))


def _fuse(pipeline: Any, place: Path, strength: float) -> tuple[str, ...]:
    """Add the LoRA into the pipeline's transformer, and return the footer's note on it."""
    from models.pixart_lora import fuse_lora

    pipeline.transformer, note = fuse_lora(pipeline.transformer, place, strength)
    scale = "" if strength == 1 else f" at strength {strength:g}"
    notes = (f"LoRA {lora_digest(place)}{scale}, {note}",)
    return notes if read_training_data(place) else (*notes, "it is not known what the LoRA was trained on")


def is_whole_pipeline(folder: Path) -> bool:
    """Return whether a folder holds a whole pipeline, not only the transformer."""
    return all((folder / part).is_dir() for part in ("transformer", "vae", "text_encoder"))


def hub_transformer(source: str) -> HubFiles:
    """Return what is needed of a transformer's repository."""
    known = 2_440_000_000 if source in HUB_MODELS.values() else None
    need = hub_weights("PixArt", source, "PIXART_MODEL", ("transformer/*",), NEVER_READ, known)
    return prefer_full(need, ("transformer",))


def hub_base(source: str) -> HubFiles:
    """Return what is needed of the repository of VAE, T5, tokenizer and scheduler."""
    parts = ("vae", "text_encoder", "tokenizer", "scheduler")
    known = 19_400_000_000 if source == HUB_BASE else None
    patterns = ("model_index.json", *(f"{part}/*" for part in parts))
    need = hub_weights("PixArt's base", source, "PIXART_BASE", patterns, NEVER_READ, known)
    return prefer_full(need, ("vae", "text_encoder"))


def _needs(options: Options, runtime: Runtime) -> list[Need]:
    if runtime.weights != "pretrained":
        return []
    model = _model(options, runtime)
    transformer = hub_transformer(model) if is_on_hub(model) else None
    needs: list[Need] = [] if transformer is None else [transformer]
    place = expanded(model) if transformer is None else transformer.find()
    if transformer is None and is_whole_pipeline(expanded(model)):
        check_weights("PIXART_MODEL", model, ("transformer", "vae", "text_encoder"))
    if is_on_hub(options.base) and not (place is not None and is_whole_pipeline(place)):
        needs.append(hub_base(options.base))
    return needs


def _load_pretrained(options: Options, runtime: Runtime) -> tuple[Any, tuple[str, ...]]:
    """Return the pipeline from a whole folder, or from a transformer and the base that goes with it, and its notes.

    Raises:
        OSError: no such weights, here or on the hub.
    """
    from diffusers import PixArtSigmaPipeline, PixArtTransformer2DModel

    from models.pipelines.components import Place, load_component, load_other_variants
    from models.pipelines.generator import dtype_of, missing_weights, quiet_libraries

    model, dtype = _model(options, runtime), dtype_of(runtime)
    folder = expanded(model) if is_local(model) else hub_transformer(model).fetch(show_bar)
    if is_whole_pipeline(folder):
        with quiet_libraries(), missing_weights(model, "PIXART_MODEL"):
            given = load_other_variants(folder, dtype)
            pipeline = from_pretrained(PixArtSigmaPipeline, folder, dtype=dtype, **given)
        return pipeline, _half_size_note(runtime, folder, folder)
    base = expanded(options.base) if is_local(options.base) else hub_base(options.base).fetch(show_bar)
    with quiet_libraries(), missing_weights(model, "PIXART_MODEL"):
        transformer = load_component(PixArtTransformer2DModel, Place(folder, "transformer"), dtype)
    with quiet_libraries(), missing_weights(options.base, "PIXART_BASE"):
        given = load_other_variants(base, dtype, without="transformer")
        pipeline = from_pretrained(PixArtSigmaPipeline, base, transformer=transformer, dtype=dtype, **given)
    return pipeline, _half_size_note(runtime, folder, base)


def _half_size_note(runtime: Runtime, model: Path, base: Path) -> tuple[str, ...]:
    names = [*names_in(model, ("transformer",)), *names_in(base, ("vae", "text_encoder"))]
    return half_size_note(half_size_parts(names), runtime.dtype)


def _load_tiny(runtime: Runtime) -> Any:
    from diffusers import AutoencoderKL, PixArtSigmaPipeline

    from models.pipelines.generator import dtype_of, quiet_libraries, tiny_folder

    dtype = dtype_of(runtime)
    with quiet_libraries():
        # Shared with SDXL on disk, as the real pair shares theirs.
        vae = from_pretrained(AutoencoderKL, tiny_folder(runtime, "vae"), dtype=dtype)
        return from_pretrained(PixArtSigmaPipeline, tiny_folder(runtime, "pixart"), vae=vae, dtype=dtype)


def build_networks(native: int, configurations: Configurations = FULL) -> dict[str, Any]:
    """Return a builder for each of the pipeline's networks, by the pipeline's name for it; `native` is in pixels."""
    from diffusers import AutoencoderKL, PixArtTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    return {
        "transformer": lambda: PixArtTransformer2DModel(**configurations.transformer, sample_size=native // 8),
        "vae": lambda: AutoencoderKL(**configurations.vae),
        "text_encoder": lambda: T5EncoderModel(T5Config(**configurations.t5)),
    }


def build_random_pipeline(runtime: Runtime) -> Any:
    """Return the pipeline at `runtime.random_size` with random weights on the run's device; it reads no file."""
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline

    from models.hash_tokenizer import HashTokenizer
    from models.pipelines.generator import dtype_of, quiet_libraries
    from models.random_weights import build_random

    dtype: torch.dtype = dtype_of(runtime)
    builders = build_networks(native_size(runtime.image_size), CONFIGURATIONS[runtime.random_size])
    with quiet_libraries():
        networks = {name: build_random(build, runtime.device, dtype) for name, build in builders.items()}
    return PixArtSigmaPipeline(
        **networks,
        tokenizer=HashTokenizer(vocabulary=32128, model_max_length=PROMPT_TOKENS, start=None, end=1, pad=0),
        scheduler=DPMSolverMultistepScheduler(**SCHEDULER),
    )


def _unreached(options: Options, runtime: Runtime) -> Mapping[str, str]:
    unread = unread_sources(options, runtime, "model", "base")
    is_read = runtime.weights == "pretrained" and options.model
    if is_read and options.base != HUB_BASE and is_whole_pipeline(expanded(options.model)):
        unread["base"] = f"PIXART_MODEL={options.model} is a whole pipeline"
    return unread


FAMILY = ModelFamily(
    key="pixart",
    options=Options,
    title=_title,
    source=_source,
    load=_load,
    tiny_options={"steps": 10, "guidance": 1.5},
    lora_folder="pixart_lora",
    variants=_variants,
    check=_check,
    needs=_needs,
    unreached=_unreached,
    imports=("diffusers.pipelines.pixart_alpha.pipeline_pixart_sigma", "models.pipelines.generator"),
)
