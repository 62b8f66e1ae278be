"""PixArt-Sigma through diffusers: from the hub, a local folder, random or embedded weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from files.downloads import HubFiles, show_bar
from files.opening import from_pretrained
from files.sources import check_holds, check_source, expanded, is_local
from models.base import (
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
from models.loras.files import LoraVariant, is_lora, lora_digest, read_lora, read_training_data
from models.needed import NEVER_READ, check_weights, hub_weights, is_on_hub, names_in, prefer_full
from models.pipelines.schedulers import SCHEDULER_HELP, check_scheduler, set_scheduler
from models.pipelines.weight_files import half_size_note, half_size_parts
from models.pixart_networks import CONFIGURATIONS as CONFIGURATIONS
from models.pixart_networks import FULL as FULL
from models.pixart_networks import PROMPT_TOKENS as PROMPT_TOKENS
from models.pixart_networks import SCHEDULER as SCHEDULER
from models.pixart_networks import SMALL as SMALL
from models.pixart_networks import build_networks as build_networks
from models.pixart_networks import build_random_pipeline as build_random_pipeline
from models.pixart_networks import native_size as native_size

if TYPE_CHECKING:
    from models.pipelines.generator import DiffusersGenerator

HUB_MODELS = {512: "PixArt-alpha/PixArt-Sigma-XL-2-512-MS", 1024: "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"}
HUB_BASE = "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers"
NO_LORA = "none"
FASTEST = "full+fuse+empty+once"


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
    from models.pipelines.generator import check_offload, place_reusable, tiny_notes

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
    ask = partial(_ask, image_size=image_size, notes=(*lora_notes, *weight_notes, *notes))
    return place_reusable(pipeline, ask, options, runtime, FASTEST)


def _ask(pipeline: Any, options: Options, image_size: int, notes: tuple[str, ...]) -> DiffusersGenerator:
    """Return a loaded pipeline as a generator that is called with these options."""
    from models.pipelines.generator import DiffusersGenerator
    from models.pixart_conditions import MODIFIERS

    check_negative_prompt("PIXART", options.negative_prompt, options.guidance)
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
    return DiffusersGenerator(
        _title(options), pipeline, image_size, arguments, notes, MODIFIERS, one_call_a_step=True
    )  # fmt: skip


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
    # The strength of a LoRA is none of them: it is fused into the weights.
    call_options=frozenset({"steps", "guidance", "negative_prompt", "scheduler"}),
    imports=("diffusers.pipelines.pixart_alpha.pipeline_pixart_sigma", "models.pipelines.generator"),
)
