"""VAR behind `generate`: class-conditional next-scale prediction with our own network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from files.sources import check_source
from models.base import (
    OFFICIAL_RNG_NOTE,
    ImageGenerator,
    ModelFamily,
    Need,
    Request,
    Runtime,
    Stage,
    StageWatch,
    option,
    unread_sources,
)
from models.checkpoints import check_checkpoint, check_place, here
from models.imagenet import DEFAULT_CLIP, hub_clip, kept_answers
from models.needed import hub_file, is_on_hub
from models.var_classes import (
    CLASS_WAYS,
    PUBLISHED_CLASSES,
    choose_classes,
    chosen_way,
    class_ids,
    default_class_names,
    describe_choice,
    give_classes,
)
from models.var_files import TOKENIZER, TRANSFORMER, VQVAE_FILE, check_published, load_networks, random_networks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.networks.cuda_graphs import ProgramPool
    from models.networks.var_transformer import VAR
    from models.networks.vqvae import VQVAE
    from models.next_scale_programs import VARProgram

# About how large the published files are, where the hub cannot tell.
HUB_BYTES = {
    "var_d16.pth": 1_240_000_000, "var_d20.pth": 2_400_000_000, "var_d24.pth": 4_130_000_000,
    "var_d30.pth": 8_040_000_000, "var_d36.pth": 9_400_000_000, VQVAE_FILE: 436_000_000,
}  # fmt: skip


@dataclass(frozen=True)
class VAROptions:
    depth: int = option(16, "depth of the published model: 16, 20, 24, 30 (256 px) or 36 (512 px)", least=1, most=1000)
    model: str = option(
        "FoundationVision/var",
        f"hub id, folder that holds var_d<depth>.pth and {VQVAE_FILE}, or a transformer's file with the VQVAE in it or "
        "beside it; training checkpoints will do",
        check=check_checkpoint,
    )
    cfg: float = option(1.5, "guidance at the last scale; it grows from 0 at the first (0: none)", least=0, most=1000)
    top_k: int = option(900, "draw among this many likeliest codes (0: all)", least=0, most=10**6)
    top_p: float = option(0.96, "draw among the likeliest codes that hold this probability (0: all)", least=0, most=1)
    classes: str = option(
        "auto",
        "how classes are chosen: nearest (class name nearest to the prompt by CLIP), dataset (the data set's labels), "
        "ids like 1,207,980 (in turn), or auto (nearest; with tiny weights the data set's labels, or all classes in "
        "turn if it has none; with random weights all classes in turn)",
        pattern=r"^\s*(auto|nearest|dataset|[0-9]{1,9}(\s*,\s*[0-9]{1,9})*)\s*$",
    )
    more_smooth: bool = option(False, "1: smoother images, for looking at; never use it for quality figures")
    official_rng: bool = option(
        False, "1: draw as the published code does: one random generator per batch, seeded by its first request"
    )
    clip: str = option(DEFAULT_CLIP, "hub id or folder of the CLIP that `nearest` uses", check=check_source)


class VARGenerator(ImageGenerator):
    """A loaded VAR with its VQVAE."""

    class_conditional = True

    def __init__(
        self,
        name: str,
        var: VAR,
        vqvae: VQVAE,
        options: VAROptions,
        runtime: Runtime,
        class_names: tuple[str, ...],
        notes: tuple[str, ...] = (),
    ) -> None:
        from models.networks.var_transformer import Sampling
        from models.next_scale_programs import make_pool, mode_notes

        self.name = name
        self.var = var
        self.vqvae = vqvae
        self.options = options
        self.runtime = runtime
        self.class_names = class_names
        self._loaded_notes = notes
        self.image_size = vqvae.shape.image_size
        self.parameters = var.parameter_count
        self.choice = choose_classes(options.classes, runtime, class_names)
        self.sampling = Sampling(options.cfg, options.top_k, options.top_p, options.more_smooth)
        self._extremes_2B: Tensor | None = None  # of the last images, before they were clamped
        self.programs: ProgramPool[VARProgram] = make_pool(runtime, (var, vqvae), vqvae.decoder)
        self.notes = (
            *notes,
            *_size_note(runtime.image_size, self.image_size),
            describe_choice(self.choice, runtime),
            f"cfg {options.cfg:g}, top_k {options.top_k}, top_p {options.top_p:g}",
            *(("more_smooth: images for looking at, not for quality figures",) if options.more_smooth else ()),
            *((OFFICIAL_RNG_NOTE,) if options.official_rng else ()),
            *mode_notes(runtime),
        )

    def with_options(self, options: VAROptions) -> VARGenerator:
        """Return a generator of the same networks; its programs, in which options are constants, are its own."""
        return VARGenerator(
            self.name, self.var, self.vqvae, options, self.runtime, self.class_names, self._loaded_notes
        )  # fmt: skip

    def prepare(self, requests: Sequence[Request]) -> list[Request]:
        """Return the requests with their class in `class_label` and its name as the prompt."""
        return give_classes(requests, self.choice, self.class_names, self.options.clip, self.runtime)

    def generate(self, requests: Sequence[Request]) -> Tensor:
        import torch

        from models.next_scale_programs import VARProgram

        batch = len(requests)
        labels = [request.class_label for request in requests if request.class_label is not None]
        assert len(labels) == batch, "prepare() gives every request its class"
        seeds = [request.seed for request in requests]
        official = self.options.official_rng

        def make() -> VARProgram:
            return VARProgram(self.var, self.vqvae, self.sampling, batch, official)

        with torch.inference_mode():
            images_BCHW = self.programs(batch, make, lambda program: program.fill(labels, seeds))
            self._extremes_2B = self.programs[batch].extremes_2B
            return images_BCHW

    def check(self) -> None:
        from models.pixels import check_decoded

        if self._extremes_2B is not None:
            check_decoded(self._extremes_2B, self.name)

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages; each scale is a call of the backbone, the first one with noise and condition."""
        return Stage("backbone", len(self.var.shape.patch_nums)), Stage("decoder", 1)

    def networks(self) -> tuple[nn.Module, ...]:
        return self.var, self.vqvae

    def watched(self, watch: StageWatch) -> AbstractContextManager[None]:
        return self.programs.watched(watch)


def _size_note(asked: int, made: int) -> tuple[str, ...]:
    return () if asked == made else (f"always makes {made} px images; {asked} px were asked for",)


def check_embedded_depth(options: VAROptions) -> None:
    """Raise ValueError where another depth is asked for than the embedded model's, which has no choice."""
    if options.depth != VAROptions.depth:
        raise ValueError(
            f"VAR_DEPTH={options.depth}: WEIGHTS=tiny has a single VAR, without a choice of depth; leave VAR_DEPTH out"
        )


def _check(options: VAROptions, runtime: Runtime) -> None:
    classes: int | None = PUBLISHED_CLASSES
    if runtime.weights == "tiny":
        check_embedded_depth(options)
        config = runtime.assets / "var" / "config.json"
        classes = len(json.loads(config.read_text(encoding="utf-8"))["class_names"]) if config.is_file() else None
    elif runtime.weights == "random":
        check_published(options.depth, "WEIGHTS=random")
    elif (place := here(options.model)) is not None:
        check_place("VAR_MODEL", place, f"var_d{options.depth}.pth", VQVAE_FILE)
        classes = None  # as many as its weights have
    elif options.model == VAROptions.model:
        check_published(options.depth, f"VAR_MODEL={options.model}")
    if classes is not None and options.classes.strip() not in CLASS_WAYS:
        class_ids(options.classes, classes)


def _needs(options: VAROptions, runtime: Runtime) -> list[Need]:
    needs: list[Need] = []
    if runtime.weights == "pretrained" and is_on_hub(options.model):
        sizes = HUB_BYTES if options.model == VAROptions.model else {}
        needs += [
            hub_file(family_title(options), options.model, file, "VAR_MODEL", sizes.get(file))
            for file in (f"var_d{options.depth}.pth", VQVAE_FILE)
        ]
    if chosen_way(options.classes, runtime) == "nearest" and is_on_hub(options.clip):
        clip = hub_clip(options.clip)
        needs.append(replace(clip, is_optional=kept_answers(runtime.cache)))
    return needs


def load_embedded(folder: Path, options: VAROptions, runtime: Runtime) -> VARGenerator:
    """Return the generator of a folder with config.json, var.safetensors and vqvae/vqvae.safetensors."""
    if not (folder / "config.json").is_file():
        raise OSError(f"{folder} holds no embedded VAR (config.json is missing); restore assets/ from the repository")
    names = tuple(json.loads((folder / "config.json").read_text(encoding="utf-8"))["class_names"])
    var, vqvae = load_networks(
        folder / "var.safetensors", folder / "vqvae" / "vqvae.safetensors", runtime.device, runtime.dtype
    )
    note = f"embedded model of depth {var.shape.depth}"
    return VARGenerator(family_title(options), var, vqvae, options, runtime, names, (note,))


def load(options: VAROptions, runtime: Runtime) -> VARGenerator:
    """Return the generator for these options."""
    title = family_title(options)
    if runtime.weights == "random":
        var, vqvae = random_networks(options.depth, runtime.device, runtime.dtype, runtime.random_size)
        return VARGenerator(title, var, vqvae, options, runtime, default_class_names(var.shape.classes))
    if runtime.weights == "tiny":
        check_embedded_depth(options)
        return load_embedded(runtime.assets / "var", options, runtime)
    from models.weights import file_notes, find_network

    published = f"var_d{options.depth}.pth"
    var_file = find_network(options.model, published, TRANSFORMER, "VAR_MODEL", depth=options.depth)
    vqvae_file = find_network(options.model, VQVAE_FILE, TOKENIZER, "VAR_MODEL", beside=True)
    var, vqvae = load_networks(var_file, vqvae_file, runtime.device, runtime.dtype, options.depth)
    notes = file_notes({published: var_file, VQVAE_FILE: vqvae_file})
    return VARGenerator(title, var, vqvae, options, runtime, default_class_names(var.shape.classes), notes)


def family_title(options: VAROptions) -> str:
    return f"VAR-d{options.depth}"


def _source(options: VAROptions, runtime: Runtime) -> str:
    if runtime.weights == "tiny":
        return f"embedded, {runtime.assets / 'var'}"
    if runtime.weights == "random":
        return f"random weights at {runtime.random_size} size"
    place = here(options.model)
    if place is not None and place.is_file():
        return f"file {options.model}"
    return f"{options.model}: var_d{options.depth}.pth, {VQVAE_FILE}"


def _select(name: str) -> Mapping[str, object] | None:
    if name == "var":
        return {}
    match = re.fullmatch(r"var-d([1-9][0-9]{0,2})", name)
    return {"depth": int(match.group(1))} if match else None


def _unreached(options: VAROptions, runtime: Runtime) -> Mapping[str, str]:
    unread = unread_sources(options, runtime, "model")
    if options.clip != VAROptions.clip and chosen_way(options.classes, runtime) != "nearest":
        unread["clip"] = "its classes are not chosen by CLIP"
    return unread


FAMILY = ModelFamily(
    key="var",
    options=VAROptions,
    title=family_title,
    source=_source,
    load=load,
    tiny_options={"top_k": 0, "top_p": 0.0},
    select=_select,
    check=_check,
    needs=_needs,
    unreached=_unreached,
    call_options=frozenset({"cfg", "top_k", "top_p", "classes", "more_smooth", "official_rng", "clip"}),
    imports=("models.next_scale_programs",),
)
