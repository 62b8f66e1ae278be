"""Infinity behind `generate`: text-conditional next-scale prediction of bits with our own network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from models.checkpoints import check_place, here
from models.infinity_files import (
    TEXT_ENCODER,
    TOKENIZER,
    TRANSFORMER,
    TRANSFORMER_FILE,
    VAE_FILE,
    check_model,
    hub_text_encoder,
    load_networks,
    random_networks,
)
from models.needed import hub_file, is_on_hub

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.infinity_text import TextEncoder
    from models.networks.bsq_vae import BSQVAE
    from models.networks.cuda_graphs import ProgramPool
    from models.networks.infinity_transformer import Infinity, Text
    from models.networks.next_scale import Schedule
    from models.next_scale_programs import InfinityProgram

TITLE = "Infinity-2B"
PUBLISHED_DEPTH = 32  # blocks
# The embedded model's sampling; it is far from the published one in size and training.
TINY_OPTIONS = {"cfg": 1.5, "top_p": 0.0}


# The published files, for where the hub cannot be asked.
HUB_BYTES = {TRANSFORMER_FILE: 8_820_000_000, VAE_FILE: 1_560_000_000}


@dataclass(frozen=True)
class InfinityOptions:
    model: str = option(
        "FoundationVision/Infinity",
        f"hub id, folder that holds {TRANSFORMER_FILE} and {VAE_FILE}, or a transformer's file with the tokenizer "
        "in it or beside it; training checkpoints will do",
        check=check_model,
    )  # fmt: skip
    text_encoder: str = option(TEXT_ENCODER, "T5 encoder and its tokenizer: hub id or local folder", check=check_source)
    aspect: float = option(1.0, "height / width; the nearest published ratio is taken", least=0.3, most=3.5)
    cfg: float = option(4.0, "guidance scale (1: none)", least=0, most=1000)
    tau: float = option(
        0.5, "temperature: 0.5 as the published demos, 1 as the published metrics", least=0.01, most=1000
    )
    top_k: int = option(
        900, "draw among this many likeliest values of a bit: 1 takes the likelier one", least=0, most=10**6
    )
    top_p: float = option(0.97, "a bit value of at most 1 - top_p is never drawn (0: all are)", least=0, most=1)
    insertion: int = option(
        0, "0: guidance of the logits; -m: of the stream after the m-th last block", least=-1000, most=0
    )
    negative_prompt: str = option("", "guide away from this text instead of from the learnt empty one")
    positive_prompt: bool = option(False, "1: add the published words on faces to prompts that name people")
    official_rng: bool = option(
        False, "1: draw as the published code does: one random generator per batch, seeded by its first request"
    )


class InfinityGenerator(ImageGenerator):
    """A loaded Infinity with its tokenizer and text encoder."""

    def __init__(
        self,
        name: str,
        infinity: Infinity,
        vae: BSQVAE,
        encoder: TextEncoder,
        schedule: Schedule,
        options: InfinityOptions,
        runtime: Runtime,
        notes: tuple[str, ...] = (),
    ) -> None:
        from models.networks.infinity_sampling import BitSampling
        from models.next_scale_programs import make_pool, mode_notes

        self.name = name
        self.infinity = infinity
        self.vae = vae
        self.encoder = encoder.cut_to(infinity.shape.text_tokens)
        self.schedule = schedule
        self.options = options
        self.runtime = runtime
        self._loaded_notes = notes
        _check_fit(infinity, vae, encoder, schedule, options)
        self.sampling = BitSampling(options.cfg, options.tau, options.top_k, options.top_p, options.insertion)
        self.rotation = infinity.rotation(schedule)
        self.tokens = 0  # every text is padded to hold at least so many
        self._extremes_2B: Tensor | None = None  # of the last images, before they were clamped
        self.programs: ProgramPool[InfinityProgram] = make_pool(runtime, (infinity, vae), vae.decoder)
        height, width = (side * vae.shape.downsampling for side in schedule.grids[-1])
        self.image_size = max(height, width)
        self.parameters = infinity.parameter_count
        self.notes = (
            *notes,
            *_size_note(runtime.image_size, height, width, runtime.weights == "tiny"),
            *_sampling_notes(options),
            *(("OFFLOAD has no effect: all networks stay on the device",) if runtime.offload else ()),
            *mode_notes(runtime),
        )

    def with_options(self, options: InfinityOptions) -> InfinityGenerator:
        """Return a generator of the same networks; its programs, in which options are constants, are its own."""
        return InfinityGenerator(
            self.name, self.infinity, self.vae, self.encoder, self.schedule, options, self.runtime, self._loaded_notes
        )

    def prepare(self, requests: Sequence[Request]) -> list[Request]:
        """Return the requests as they are; from now on all are padded to one length, which a single graph serves."""
        if requests:
            _, mask_RT = self.encoder.tokenize(self._texts([request.prompt for request in requests]))
            self.tokens = mask_RT.shape[1]
        return list(requests)

    def generate(self, requests: Sequence[Request]) -> Tensor:
        import torch

        from models.next_scale_programs import InfinityProgram

        batch, seeds = len(requests), [request.seed for request in requests]
        with torch.inference_mode():
            text = self.encode([request.prompt for request in requests])
            tokens = text.mask_RT.shape[1]

            def make() -> InfinityProgram:
                return InfinityProgram(
                    self.infinity, self.vae, self.schedule, self.rotation, self.sampling, batch, tokens,
                    self.options.official_rng,
                )  # fmt: skip

            images_BCHW = self.programs((batch, tokens), make, lambda program: program.fill(text, seeds))
            self._extremes_2B = self.programs[batch, tokens].extremes_2B
            return images_BCHW

    def check(self) -> None:
        from models.pixels import check_decoded

        if self._extremes_2B is not None:
            check_decoded(self._extremes_2B, self.name)

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages; each scale is a call of the backbone, the first one with noise and condition."""
        return Stage("text encoder", 1), Stage("backbone", len(self.schedule.grids)), Stage("decoder", 1)

    def networks(self) -> tuple[nn.Module, ...]:
        return self.infinity, self.vae, self.encoder.network

    @contextmanager
    def watched(self, watch: StageWatch) -> Iterator[None]:
        from models.stage_hooks import hooked

        with hooked([("text encoder", self.encoder.network)], watch), self.programs.watched(watch):
            yield

    def encode(self, prompts: Sequence[str]) -> Text:
        """Return the text of all rows: those of the prompts, then, with guidance, the unconditional ones."""
        from models.networks.infinity_transformer import Text

        features_RTt, mask_RT = self.encoder.encode(self._texts(prompts), at_least=self.tokens)
        count = len(prompts)
        if not self.sampling.is_guided:
            return Text(features_RTt[:count], mask_RT[:count])
        if not self.options.negative_prompt:
            return self.infinity.with_unconditional(Text(features_RTt, mask_RT))
        negative = Text(features_RTt[count:].expand(count, -1, -1), mask_RT[count:].expand(count, -1))
        return self.infinity.with_unconditional(Text(features_RTt[:count], mask_RT[:count]), negative)

    def _texts(self, prompts: Sequence[str]) -> list[str]:
        """Return what is encoded: the prompts, with words on faces where they are wanted, and any negative prompt."""
        from models.infinity_text import with_positive_prompt

        texts = [with_positive_prompt(prompt) if self.options.positive_prompt else prompt for prompt in prompts]
        return [*texts, *([self.options.negative_prompt] if self.options.negative_prompt else [])]


def _check_fit(
    infinity: Infinity, vae: BSQVAE, encoder: TextEncoder, schedule: Schedule, options: InfinityOptions
) -> None:
    """Raise ValueError where the parts, each sound, do not belong together."""
    shape = infinity.shape
    if shape.bits != vae.shape.latent_channels:
        raise ValueError(
            f"the transformer predicts {shape.bits} bits per token, but the BSQ-VAE has {vae.shape.latent_channels} "
            "latent channels; give the two that belong together"
        )
    if encoder.width != shape.text_width:
        raise ValueError(
            f"INFINITY_TEXT_ENCODER={options.text_encoder} makes {encoder.width} features per token, but the "
            f"transformer reads {shape.text_width}; give the encoder it was trained with (published: google/flan-t5-xl)"
        )
    if len(schedule.grids) > shape.levels:
        raise ValueError(f"the transformer knows {shape.levels} scales, but the size needs {len(schedule.grids)}")
    check_insertion(options, shape.depth)


def check_insertion(options: InfinityOptions, depth: int) -> None:
    """Raise ValueError where the transformer has not as many blocks as guidance is to be put before."""
    if options.insertion < -depth:
        raise ValueError(
            f"INFINITY_INSERTION={options.insertion}: the transformer has {depth} blocks; "
            f"expected 0 or one of -1..-{depth}"
        )


def check_embedded_aspect(options: InfinityOptions) -> None:
    """Raise ValueError where another shape is asked for than the embedded model's, which has no choice."""
    if options.aspect != InfinityOptions.aspect:
        raise ValueError(f"INFINITY_ASPECT={options.aspect:g}: WEIGHTS=tiny makes square images only; leave it out")


def _needs(options: InfinityOptions, runtime: Runtime) -> list[Need]:
    needs: list[Need] = []
    if runtime.weights != "pretrained":
        return needs
    if is_on_hub(options.model):
        sizes = HUB_BYTES if options.model == InfinityOptions.model else {}
        files = (TRANSFORMER_FILE, VAE_FILE)
        needs += [hub_file(TITLE, options.model, file, "INFINITY_MODEL", sizes.get(file)) for file in files]
    if is_on_hub(options.text_encoder):
        needs.append(hub_text_encoder(options.text_encoder))
    return needs


def _check(options: InfinityOptions, runtime: Runtime) -> None:
    if options.negative_prompt and options.cfg == 1:
        raise ValueError(
            "INFINITY_NEGATIVE_PROMPT reaches nothing with INFINITY_CFG=1, which turns guidance off: set another "
            "INFINITY_CFG, or leave INFINITY_NEGATIVE_PROMPT out"
        )
    if runtime.weights == "tiny":
        check_embedded_aspect(options)
    elif runtime.weights == "random" or options.model == InfinityOptions.model:
        check_insertion(options, PUBLISHED_DEPTH)
    elif (place := here(options.model)) is not None:
        check_place("INFINITY_MODEL", place, TRANSFORMER_FILE, VAE_FILE)


def _size_note(asked: int, height: int, width: int, embedded: bool) -> tuple[str, ...]:
    if embedded:
        return () if asked == height else (f"always makes {height} px images; {asked} px were asked for",)
    if height != width:
        return (f"asked for {asked} px: made {width} x {height} px (width x height); its size is the longer side",)
    return () if asked == height else (f"made {height} px images, the nearest published size; asked for {asked} px",)


def _sampling_notes(options: InfinityOptions) -> tuple[str, ...]:
    return (
        f"cfg {options.cfg:g}, tau {options.tau:g}, top_k {options.top_k}, top_p {options.top_p:g}"
        + (f", guided after the block {-options.insertion} from the end" if options.insertion else ""),
        *((f"guided away from {options.negative_prompt!r}",) if options.negative_prompt else ()),
        *(("words on faces added to prompts that name people",) if options.positive_prompt else ()),
        *((OFFICIAL_RNG_NOTE,) if options.official_rng else ()),
    )


def load_embedded(folder: Path, options: InfinityOptions, runtime: Runtime) -> InfinityGenerator:
    """Return the generator of a folder with config.json, infinity.safetensors and vae/vae.safetensors.

    Its text encoder is that of the embedded PixArt, beside it in `runtime.assets`.
    """
    from models.infinity_text import load_tiny_text_encoder
    from models.networks.next_scale import Schedule

    for file in ("config.json", "infinity.safetensors", "vae/vae.safetensors"):
        if not (folder / file).is_file():
            raise OSError(
                f"{folder} holds no embedded Infinity ({file} is missing); restore assets/ from the repository"
            )
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    grids = tuple((int(height), int(width)) for height, width in config["grids"])
    infinity, vae = load_networks(
        folder / "infinity.safetensors", folder / "vae" / "vae.safetensors", runtime.device, runtime.dtype
    )
    encoder = load_tiny_text_encoder(runtime.assets, runtime.device, runtime.dtype).cut_to(config["text_tokens"])
    notes = (f"embedded model of depth {infinity.shape.depth}", "text encoder: the embedded PixArt's T5")
    return InfinityGenerator(TITLE, infinity, vae, encoder, Schedule(grids, grids[-1]), options, runtime, notes)


def load(options: InfinityOptions, runtime: Runtime) -> InfinityGenerator:
    """Return the generator for these options."""
    if runtime.weights == "tiny":
        check_embedded_aspect(options)
        return load_embedded(runtime.assets / "infinity", options, runtime)
    from models.infinity_schedules import nearest_pixels, schedule_for
    from models.infinity_text import load_text_encoder, random_text_encoder

    schedule = schedule_for(nearest_pixels(runtime.image_size), options.aspect)
    if runtime.weights == "random":
        infinity, vae = random_networks(runtime.device, runtime.dtype, runtime.random_size)
        encoder = random_text_encoder(runtime.device, runtime.dtype, runtime.random_size)
        notes = (*_shape_note(infinity), f"text encoder: {'T5 XL' if runtime.random_size == 'full' else 'a small T5'}")
        return InfinityGenerator(TITLE, infinity, vae, encoder, schedule, options, runtime, notes)
    from models.weights import file_notes, find_network

    try:
        check_model(options.model)
    except OSError as error:
        raise OSError(f"INFINITY_MODEL={options.model}: {error}") from None
    transformer_file = find_network(options.model, TRANSFORMER_FILE, TRANSFORMER, "INFINITY_MODEL")
    vae_file = find_network(options.model, VAE_FILE, TOKENIZER, "INFINITY_MODEL", beside=True)
    infinity, vae = load_networks(transformer_file, vae_file, runtime.device, runtime.dtype)
    encoder = load_text_encoder(options.text_encoder, runtime.device, runtime.dtype)
    notes = (
        *_shape_note(infinity),
        *file_notes({TRANSFORMER_FILE: transformer_file, VAE_FILE: vae_file}),
        f"text encoder: {options.text_encoder}",
    )
    return InfinityGenerator(TITLE, infinity, vae, encoder, schedule, options, runtime, notes)


def _shape_note(infinity: Infinity) -> tuple[str, ...]:
    """Return the footer's note where the title would say more than there is."""
    from models.networks.infinity_transformer import infinity_2b_shape

    shape, published = infinity.shape, infinity_2b_shape()
    if (shape.depth, shape.width) == (published.depth, published.width):
        return ()
    return (f"not the published 2B: {shape.depth} blocks of width {shape.width}",)


def _source(options: InfinityOptions, runtime: Runtime) -> str:
    if runtime.weights == "tiny":
        return f"embedded, {runtime.assets / 'infinity'}"
    if runtime.weights == "random":
        return f"random weights at {runtime.random_size} size"
    place = here(options.model)
    if place is not None and place.is_file():
        return f"file {options.model}; text encoder {options.text_encoder}"
    return f"{options.model}: {TRANSFORMER_FILE}, {VAE_FILE}; text encoder {options.text_encoder}"


def _unreached(options: InfinityOptions, runtime: Runtime) -> Mapping[str, str]:
    return unread_sources(options, runtime, "model", "text_encoder")


FAMILY = ModelFamily(
    key="infinity",
    options=InfinityOptions,
    title=lambda _: TITLE,
    source=_source,
    load=load,
    tiny_options=TINY_OPTIONS,
    check=_check,
    needs=_needs,
    unreached=_unreached,
    call_options=frozenset({
        "cfg", "tau", "top_k", "top_p", "insertion", "negative_prompt", "positive_prompt", "official_rng",
    }),
    imports=(
        "models.next_scale_programs", "models.pipelines.generator", "transformers.models.t5.modeling_t5",
        "transformers.models.t5.tokenization_t5",
    ),
)  # fmt: skip
