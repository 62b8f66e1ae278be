"""VAR behind `generate`: class-conditional next-scale prediction with our own network."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from files.sources import check_holds, check_source, is_local
from models.base import (
    OFFICIAL_RNG_NOTE,
    ImageGenerator,
    ModelFamily,
    Request,
    Runtime,
    Stage,
    StageWatch,
    option,
)

if TYPE_CHECKING:
    from torch import Tensor

    from models.networks.cuda_graphs import ProgramPool
    from models.networks.var_transformer import VAR
    from models.networks.vqvae import VQVAE
    from models.next_scale_programs import VARProgram

PUBLISHED_DEPTHS = (16, 20, 24, 30, 36)
PUBLISHED_CLASSES = 1000  # ImageNet's
CLASS_WAYS = ("auto", "nearest", "dataset")
VQVAE_FILE = "vae_ch160v4096z32.pth"


@dataclass(frozen=True)
class VAROptions:
    depth: int = option(16, "depth of the published model: 16, 20, 24, 30 (256 px) or 36 (512 px)", least=1, most=1000)
    model: str = option(
        "FoundationVision/var", f"hub id, or folder that holds var_d<depth>.pth and {VQVAE_FILE}", check=check_source
    )
    cfg: float = option(1.5, "guidance at the last scale; it grows from 0 at the first (0: none)", least=0, most=1000)
    top_k: int = option(900, "draw among this many likeliest codes (0: all)", least=0, most=10**6)
    top_p: float = option(0.96, "draw among the likeliest codes that hold this probability (0: all)", least=0, most=1)
    classes: str = option(
        "auto",
        "how classes are chosen: nearest (class name nearest to the caption by CLIP), dataset (the data set's labels), "
        "ids like 1,207,980 (cycled), or auto (nearest; dataset with tiny weights; index mod 1000 with random ones)",
        pattern=r"^\s*(auto|nearest|dataset|[0-9]{1,9}(\s*,\s*[0-9]{1,9})*)\s*$",
    )
    more_smooth: bool = option(False, "1: smoother images, for looking at; never for quality figures")
    official_rng: bool = option(
        False, "1: draw as the published code does, one generator a batch seeded by its first request"
    )
    clip: str = option(
        "openai/clip-vit-base-patch32", "hub id or folder of the CLIP that `nearest` uses", check=check_source
    )


@dataclass(frozen=True)
class ClassChoice:
    """How requests get their class: `way` is nearest, dataset or ids; `ids` are cycled by the request's index."""

    way: str
    ids: tuple[int, ...] = ()


class VARGenerator(ImageGenerator):
    """A loaded VAR with its VQVAE."""

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
        self.image_size = vqvae.shape.image_size
        self.parameters = var.parameter_count
        self.choice = choose_classes(options.classes, runtime, class_names)
        self.sampling = Sampling(options.cfg, options.top_k, options.top_p, options.more_smooth)
        self._extremes_2B: Tensor | None = None  # of the last images, before they were clamped
        self.programs: ProgramPool[VARProgram] = make_pool(runtime, (var, vqvae), vqvae.decoder)
        self.notes = (
            *notes,
            *_size_note(runtime.image_size, self.image_size),
            _describe(self.choice, runtime),
            *(("more_smooth: images for looking at, not for quality figures",) if options.more_smooth else ()),
            *((OFFICIAL_RNG_NOTE,) if options.official_rng else ()),
            *mode_notes(runtime),
        )

    def prepare(self, requests: Sequence[Request]) -> list[Request]:
        """Return the requests with their class in `class_label` and its name as the prompt."""
        labels: Sequence[int | None]
        if self.choice.way == "nearest":
            from models.imagenet import nearest_classes

            prompts = [request.prompt for request in requests]
            labels = nearest_classes(
                prompts, self.class_names, self.options.clip, self.runtime.device, self.runtime.cache
            )
        elif self.choice.way == "dataset":
            labels = [request.class_label for request in requests]
        else:
            labels = [self.choice.ids[i % len(self.choice.ids)] for i in range(len(requests))]
        prepared = []
        for request, label in zip(requests, labels, strict=True):
            if label is None or not 0 <= label < len(self.class_names):
                raise ValueError(
                    f"VAR_CLASSES=dataset: the request {request.prompt!r} has the label {label}; expected one of "
                    f"0..{len(self.class_names) - 1}; choose VAR_CLASSES=nearest or a list of ids"
                )
            prepared.append(replace(request, prompt=self.class_names[label], class_label=label))
        return prepared

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
        """Return the stages; the class's embedding is part of the backbone, which runs through all scales at once."""
        return Stage("backbone", 1), Stage("decoder", 1)

    def watched(self, watch: StageWatch) -> AbstractContextManager[None]:
        return self.programs.watched(watch)


def choose_classes(classes: str, runtime: Runtime, class_names: tuple[str, ...]) -> ClassChoice:
    """Return how VAR_CLASSES wants classes chosen.

    Raises:
        ValueError: it is none of the ways, an id is no class, or the data set's labels are not the model's classes.
    """
    way = (
        {"pretrained": "nearest", "tiny": "dataset", "random": "index"}[runtime.weights]
        if classes == "auto"
        else classes
    )
    if way == "nearest":
        return ClassChoice("nearest")
    if way == "index":
        return ClassChoice("ids", tuple(range(len(class_names))))
    if way == "dataset":
        if runtime.label_names != class_names:
            found = (
                f"{len(runtime.label_names)} labels ({', '.join(runtime.label_names[:3])}, ...)"
                if runtime.label_names
                else "no labels"
            )
            raise ValueError(
                f"VAR_CLASSES=dataset: the data set has {found}, which are not the model's {len(class_names)} classes "
                f"({', '.join(class_names[:3])}, ...); choose VAR_CLASSES=nearest or a list of ids"
            )
        return ClassChoice("dataset")
    return ClassChoice("ids", class_ids(way, len(class_names)))


def class_ids(classes: str, count: int) -> tuple[int, ...]:
    """Return the ids that VAR_CLASSES lists. Raises ValueError where it lists none, or one that is no class."""
    if not re.fullmatch(r"\s*[0-9]+\s*(,\s*[0-9]+\s*)*", classes):
        raise ValueError(f"VAR_CLASSES={classes}: expected auto, nearest, dataset, or ids like 1,207,980")
    ids = tuple(int(word) for word in classes.split(","))
    if max(ids) >= count:
        raise ValueError(f"VAR_CLASSES={classes}: {max(ids)} is no class; expected ids in 0..{count - 1}")
    return ids


def _size_note(asked: int, made: int) -> tuple[str, ...]:
    return () if asked == made else (f"makes {made} px images alone; {asked} px were asked for",)


def _describe(choice: ClassChoice, runtime: Runtime) -> str:
    if choice.way == "nearest":
        return "conditioned on the class nearest to each caption, not on the caption"
    if choice.way == "dataset":
        return "conditioned on the data set's class of each caption, not on the caption"
    if runtime.weights == "random":
        return "conditioned on classes in the order of the images, not on captions"
    ids = ", ".join(map(str, choice.ids[:5])) + (", ..." if len(choice.ids) > 5 else "")
    return f"conditioned on the classes {ids} in turn, not on captions"


def load_networks(
    var_file: Path, vqvae_file: Path, device: str, dtype: str, depth: int | None = None
) -> tuple[VAR, VQVAE]:
    """Return the two networks on `device` in `dtype`, every size and variant read from the files.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is another one than expected, not of the `depth` asked for, or of another pair.
    """
    import torch

    from models.networks.var_transformer import VAR, read_var_shape
    from models.networks.vqvae import VQVAE, read_vqvae_shape
    from models.random_weights import build_random
    from models.weights import load_strictly, read_shape, read_state

    var_state = read_state(var_file, "trainer.var_wo_ddp")
    vqvae_state = read_state(vqvae_file, "trainer.vae_local")
    var_shape = read_shape(var_file, "a VAR transformer", var_state, read_var_shape)
    if depth is not None and var_shape.depth != depth:
        raise ValueError(
            f"{var_file} holds a VAR of depth {var_shape.depth}, expected {depth}; "
            f"set VAR_DEPTH={var_shape.depth} and name the file var_d{var_shape.depth}{var_file.suffix}"
        )
    vqvae_shape = read_shape(
        vqvae_file, "a VQVAE", vqvae_state, lambda state: read_vqvae_shape(state, var_shape.patch_nums)
    )
    codebook = (vqvae_shape.vocabulary, vqvae_shape.convolutions.latent_channels)
    if codebook != (var_shape.vocabulary, var_shape.codebook_dim):
        raise ValueError(
            f"{vqvae_file.name} has a codebook of {codebook[0]} x {codebook[1]}, but {var_file.name} was trained with "
            f"{var_shape.vocabulary} x {var_shape.codebook_dim}; give the VQVAE that belongs to it"
        )
    # The initialisation is thrown away; built so, the process's random state stays as it was.
    var = build_random(lambda: VAR(var_shape), device, torch.float32)
    vqvae = build_random(lambda: VQVAE(vqvae_shape), device, torch.float32)
    load_strictly(var, var_state, str(var_file), var.derivable_keys)
    load_strictly(vqvae, vqvae_state, str(vqvae_file), vqvae.derivable_keys)
    return var.cast(getattr(torch, dtype)), vqvae.cast(getattr(torch, dtype))


def random_networks(depth: int, device: str, dtype: str) -> tuple[VAR, VQVAE]:
    """Return the published architecture of this depth at full size with random weights."""
    import torch

    from models.networks.var_transformer import VAR, var_shape
    from models.networks.vqvae import VQVAE, vqvae_shape
    from models.random_weights import build_random

    check_published(depth, "WEIGHTS=random")
    shape = var_shape(depth)
    var = build_random(lambda: VAR(shape), device, torch.float32).cast(getattr(torch, dtype))
    # In float32 first: the quantiser's resizing tables must be exact.
    vqvae = build_random(lambda: VQVAE(vqvae_shape(shape.patch_nums)), device, torch.float32)
    return var, vqvae.cast(getattr(torch, dtype))


def check_published(depth: int, where: str) -> None:
    """Raise ValueError where there is no VAR of this depth. where: WEIGHTS=random, or a hub id."""
    if depth not in PUBLISHED_DEPTHS:
        depths = ", ".join(map(str, PUBLISHED_DEPTHS))
        raise ValueError(
            f"VAR_DEPTH={depth} (var-d{depth} in MODELS) with {where}: expected a published depth, one of {depths}"
        )


def check_embedded_depth(options: VAROptions) -> None:
    """Raise ValueError where another depth is asked for than the embedded model's, which has no choice."""
    if options.depth != VAROptions.depth:
        raise ValueError(f"VAR_DEPTH={options.depth}: WEIGHTS=tiny has one VAR alone; leave VAR_DEPTH out")


def _check(options: VAROptions, runtime: Runtime) -> None:
    classes: int | None = PUBLISHED_CLASSES
    if runtime.weights == "tiny":
        check_embedded_depth(options)
        config = runtime.assets / "var" / "config.json"
        classes = len(json.loads(config.read_text(encoding="utf-8"))["class_names"]) if config.is_file() else None
    elif runtime.weights == "random":
        check_published(options.depth, "WEIGHTS=random")
    elif is_local(options.model):
        check_holds("VAR_MODEL", options.model, f"var_d{options.depth}.pth", VQVAE_FILE)
        classes = None  # as many as its weights have
    elif options.model == VAROptions.model:
        check_published(options.depth, f"VAR_MODEL={options.model}")
    if classes is not None and options.classes.strip() not in CLASS_WAYS:
        class_ids(options.classes, classes)


def save_embedded(folder: Path, var: VAR, class_names: Sequence[str]) -> None:
    """Write the embedded transformer beside its VQVAE: float16 weights under their published names, and config.json."""
    from models.weights import save_half

    save_half(var, folder / "var.safetensors")
    config = json.dumps({"class_names": list(class_names)}, indent=1)
    (folder / "config.json").write_text(config + "\n", encoding="utf-8")


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
        var, vqvae = random_networks(options.depth, runtime.device, runtime.dtype)
        return VARGenerator(title, var, vqvae, options, runtime, default_class_names(var.shape.classes))
    if runtime.weights == "tiny":
        check_embedded_depth(options)
        return load_embedded(runtime.assets / "var", options, runtime)
    from models.weights import locate

    var_file = locate(options.model, f"var_d{options.depth}.pth", "VAR_MODEL")
    vqvae_file = locate(options.model, VQVAE_FILE, "VAR_MODEL")
    var, vqvae = load_networks(var_file, vqvae_file, runtime.device, runtime.dtype, options.depth)
    return VARGenerator(title, var, vqvae, options, runtime, default_class_names(var.shape.classes))


def default_class_names(classes: int) -> tuple[str, ...]:
    """Return ImageNet's class names for 1000 classes, numbers for any other count."""
    if classes != 1000:
        return tuple(f"class {i}" for i in range(classes))
    from models.imagenet import imagenet_class_names

    return imagenet_class_names()


def family_title(options: VAROptions) -> str:
    return f"VAR-d{options.depth}"


def _source(options: VAROptions, runtime: Runtime) -> str:
    if runtime.weights == "tiny":
        return f"embedded, {runtime.assets / 'var'}"
    if runtime.weights == "random":
        return "random weights at full size"
    return f"{options.model}: var_d{options.depth}.pth, {VQVAE_FILE}"


def _select(name: str) -> Mapping[str, object] | None:
    if name == "var":
        return {}
    match = re.fullmatch(r"var-d([1-9][0-9]{0,2})", name)
    return {"depth": int(match.group(1))} if match else None


FAMILY = ModelFamily(
    key="var",
    options=VAROptions,
    title=family_title,
    source=_source,
    load=load,
    tiny_options={"top_k": 0, "top_p": 0.0},
    select=_select,
    check=_check,
)
