"""A diffusers text-to-image pipeline as an ImageGenerator, and how its weights are found."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from files.reading import shown
from files.sources import is_local as is_local
from models.base import DType, ImageGenerator, Request, Runtime, Stage, StageName, StageWatch, check_modes
from models.base import check_size as check_size
from models.needed import no_weights
from models.pipelines.calls import call_note as call_note
from models.pipelines.device_map import check_device_map, devices_of, placement_note
from models.pipelines.facts import PipelineFacts, facts_of
from models.pipelines.networks import backbone_of, backbones_of, count_parameters, decoder_of, text_encoders_of
from models.pipelines.reuse import LoadedPipeline
from models.pipelines.side_parts import BLACKED_OUT
from models.pixels import check_rgb, images_of, keeps_range, not_a_number, pil_to_uint8, to_uint8
from models.stage_hooks import hooked

if TYPE_CHECKING:
    from torch import Tensor

    from models.pipelines.compiled import FamilyModifier, SpedUp

_SAFETY = "its safety checker is on"
OFFLOAD_NOTE = "model offload: the times include moving weights to the GPU and back"


class DiffusersGenerator(ImageGenerator):
    """A loaded pipeline behind `generate`: the pipeline's own __call__, from text encoding to decoded images.

    `arguments` go to each call as they are: steps, guidance, height, width; a negative prompt once for each request.
    `modifiers` are what its family can do to make it faster (see `models.pipelines.compiled`). `one_call_a_step`:
    whether both halves of guidance are one batch. `facts`: how pipelines of this class are called; None: as the table
    says.
    """

    def __init__(
        self,
        name: str,
        pipeline: Any,
        image_size: int,
        arguments: Mapping[str, object],
        notes: tuple[str, ...] = (),
        modifiers: Mapping[str, FamilyModifier] = {},
        one_call_a_step: bool = False,
        facts: PipelineFacts | None = None,
    ) -> None:
        self.name = name
        self.pipeline = pipeline
        self.image_size = image_size
        self.facts = facts or facts_of(type(pipeline).__name__) or PipelineFacts(tensors=False)
        # Else the PIL images are asked for: what tensors hold is known of these alone.
        keeps = keeps_range(pipeline) or not hasattr(pipeline, "image_processor")
        self.output_type = "pt" if self.facts.tensors and keeps else "pil"
        # Counted before `place`: fused projections keep the ones that they were made of beside them.
        self.parameters = count_parameters(backbones_of(pipeline))
        self.arguments = dict(arguments)
        has_negative = "negative_prompt" in self.arguments
        self._is_alone = self.facts.alone or (self.facts.negative_alone and has_negative)
        self.notes = (*notes, *self.facts.notes, *_call_notes(self.facts, self._is_alone))
        self.notes += (call_note(self.arguments, pipeline, image_size),)
        self.modifiers = modifiers
        self.one_call_a_step = one_call_a_step
        # What `place` did in MODE=compiled, and what it says of it.
        self.sped_up: SpedUp | None = None
        self._placed_notes: tuple[str, ...] = ()
        # Of a family that can call its pipeline with other options.
        self.loaded: LoadedPipeline[DiffusersGenerator] | None = None
        self._is_blacked_out: dict[int, bool] = {}
        # What a user gave to each call in other words than ours: where the first one fails, they are told of it.
        self.hub_args = ""
        self._has_called = False
        pipeline.set_progress_bar_config(disable=True)

    def prepare(self, requests: Sequence[Request]) -> list[Request]:
        """Return the requests as they are, and note how many prompts the text encoders cut."""
        from models.pipelines.prompt_tokens import cut_notes

        prompts = [request.prompt for request in requests]
        with quiet_calls():
            cut = cut_notes(self.pipeline, self.facts, self.arguments, prompts)
        self.notes += tuple(note for note in cut if note not in self.notes)
        return list(requests)

    def place(self, runtime: Runtime, strategy: str) -> None:
        """Put the pipeline on the run's device, compiled where the run asks for it, and note what that changes.

        `strategy` is the pipeline's fastest exact form (see `models.pipelines.compiled`).
        """
        check_offload(runtime)
        if runtime.offload:
            self.pipeline.enable_model_cpu_offload(device=runtime.device)
            self._placed_notes = (OFFLOAD_NOTE,)
        elif runtime.device_map:  # each component was put on its GPU when the pipeline was opened
            self.devices = devices_of(self.pipeline)
            self._placed_notes = (placement_note(self.pipeline),)
        else:
            self.pipeline.to(runtime.device)
            if runtime.mode == "compiled":
                self._placed_notes = (self.speed_up(strategy, runtime.device).note(strategy),)
        self.notes += self._placed_notes

    def with_options(self, options: Any) -> DiffusersGenerator:
        """Return a generator of the same networks, placed and compiled as they are, for other options of its family.

        Compiled code is shared, since it holds for tensors of any values. CUDA graphs are not: those of a generator go
        with it, or at the first call of another one.
        """
        assert self.loaded is not None, "its family has options of a call"
        other = self.loaded.ask(self.pipeline, options)
        other.loaded, other.sped_up, other.parameters = self.loaded, self.sped_up, self.parameters
        other._placed_notes, other.devices = self._placed_notes, self.devices
        other.notes += self._placed_notes
        return other

    def speed_up(self, strategy: str, device: str, backend: str = "inductor") -> SpedUp:
        """Compile the pipeline's networks in place by a strategy like "full+fuse", and return what was done.

        Raises:
            ValueError: the strategy is unknown, or this pipeline cannot follow it.
        """
        from models.pipelines.compiled import Strategy, speed_up
        from models.pipelines.rehearsal import ALL_ALIKE, rehearse

        parsed = Strategy.parse(strategy, self.modifiers)
        # Whole networks are compiled of the families that are known here: their inputs are alike for each prompt.
        is_known = parsed.base != "regional"
        findings = ALL_ALIKE if is_known else rehearse(self.pipeline, self.generate, torch.device(device).type)
        self.sped_up = speed_up(self.pipeline, parsed, device, self.modifiers, backend, findings)
        return self.sped_up

    def generate(self, requests: Sequence[Request]) -> Tensor:
        """Return `images_BCHW`, uint8 0..255, on the pipeline's device: the pixels of its own PIL images.

        Raises:
            ValueError: it made no images, or pixels that are none.
        """
        parts = [[request] for request in requests] if self._is_alone else [requests]
        if self.sped_up is not None:
            self.sped_up.capture_for(self)
        with torch.inference_mode(), quiet_calls(), warnings.catch_warnings():
            # A pipeline that casts NaN to bytes by itself warns of it, and gives black.
            warnings.filterwarnings("error", "invalid value encountered in cast", RuntimeWarning)
            # torch.compile follows such a call into diffusers' own code, and is right in doing so.
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`", UserWarning)
            try:
                made = [self._call(part) for part in parts]
            except RuntimeWarning as error:
                raise not_a_number(self.name) from error
        images_BCHW = made[0] if len(made) == 1 else torch.cat(made)
        if len(images_BCHW) != len(requests):
            raise ValueError(
                f"{self.name} made {len(images_BCHW)} images of {len(requests)} prompts; expected one each"
            )
        self._learn_size(max(images_BCHW.shape[2:]))
        return images_BCHW

    def _call(self, requests: Sequence[Request]) -> Tensor:
        # CPU generators, one a request: the noise is the same on any device and at any batch size.
        device = self._noise_device() if self.facts.device_noise else "cpu"
        generators = [torch.Generator(device).manual_seed(request.seed) for request in requests]
        prompts = [request.prompt for request in requests]
        arguments = dict(self.arguments)
        negative = arguments.get("negative_prompt")
        if isinstance(negative, str) and not self._is_alone:
            arguments["negative_prompt"] = [negative] * len(prompts)
        try:
            output = self.pipeline(
                prompt=prompts[0] if self._is_alone else prompts,
                generator=generators[0] if self._is_alone else generators,
                output_type=self.output_type,
                **arguments,
            )
        except Exception as error:
            if not self.hub_args or self._has_called or isinstance(error, RuntimeWarning | torch.OutOfMemoryError):
                raise
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            raise ValueError(f"the pipeline's call failed with HUB_ARGS={shown(self.hub_args)}: {reason}") from error
        self._has_called = True
        self._note_black(requests, output)
        images = images_of(output)
        if self.output_type == "pt" and isinstance(images, torch.Tensor):
            check_rgb(images, self.name)
            return to_uint8(images, self.name)
        return pil_to_uint8(images, self.name).to(self._device())

    def _noise_device(self) -> torch.device:
        """Return where the pipeline draws: of several GPUs the one on which it works between its networks."""
        return torch.device(self.pipeline._execution_device) if self.devices else self._device()

    def _device(self) -> torch.device:
        return next(backbone_of(self.pipeline).parameters()).device

    def _learn_size(self, side: int) -> None:
        """Take over the side that the images really have, where the pipeline chose another one."""
        if side != self.image_size:
            asked, self.image_size = self.image_size, side
            self.notes = tuple(note for note in self.notes if not note.startswith(f"made {asked} px images"))
            self.notes += (f"makes {side} px images where {asked} px are asked for: the pipeline chooses its sizes",)

    def _note_black(self, requests: Sequence[Request], output: object) -> None:
        """Count the images that the pipeline's safety checker made black."""
        found = next((getattr(output, name) for name in BLACKED_OUT if getattr(output, name, None) is not None), None)
        if not isinstance(found, (list, tuple)):
            return
        self._is_blacked_out |= {
            request.index: bool(is_black) for request, is_black in zip(requests, found, strict=True)
        }
        count = sum(self._is_blacked_out.values())
        kept = tuple(note for note in self.notes if not note.startswith(_SAFETY))
        self.notes = (*kept, f"{_SAFETY}: it made {count} of {len(self._is_blacked_out)} images black")

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages of which the pipeline has networks.

        A scheduler of a higher order calls the backbone more often than once a step. Where each request has a call of
        its own, the networks run once for each.
        """
        names = dict.fromkeys(name for name, _ in self._networks())
        steps = self.arguments.get("num_inference_steps")
        is_known = self.one_call_a_step and getattr(self.pipeline.scheduler, "order", 1) == 1
        calls = {"backbone": steps if is_known and isinstance(steps, int) else None, "decoder": 1}
        return tuple(Stage(name, None if self._is_alone else calls.get(name)) for name in names)

    def networks(self) -> tuple[torch.nn.Module, ...]:
        return tuple(part for part in self.pipeline.components.values() if isinstance(part, torch.nn.Module))

    def watched(self, watch: StageWatch) -> AbstractContextManager[None]:
        """Tell `watch` of the calls of the pipeline's text encoders, backbone and decoder."""
        return hooked(self._networks(), watch)

    def _networks(self) -> list[tuple[StageName, torch.nn.Module]]:
        decoder = decoder_of(self.pipeline)
        networks: list[tuple[StageName, torch.nn.Module]] = []
        networks += [("text encoder", encoder) for encoder in text_encoders_of(self.pipeline)]
        networks += [("backbone", network) for network in backbones_of(self.pipeline)]
        networks += [("decoder", decoder)] if decoder is not None else []
        return networks


def place_reusable(
    pipeline: Any, ask: Callable[[Any, Any], DiffusersGenerator], options: Any, runtime: Runtime, strategy: str
) -> DiffusersGenerator:
    """Return a pipeline, as it was loaded, on the run's device, as a generator that can be asked for other options.

    ask: gives the generator of a pipeline and options, not placed yet. strategy: see `DiffusersGenerator.place`.
    """
    loaded = LoadedPipeline(pipeline, ask)
    generator = ask(pipeline, options)
    generator.loaded = loaded
    generator.place(runtime, strategy)
    return generator


def dtype_of(runtime: Runtime) -> torch.dtype:
    """Return the run's dtype as torch's."""
    return dtype_named(runtime.dtype)


def dtype_named(name: DType) -> torch.dtype:
    """Return torch's dtype of this name."""
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]


def check_offload(runtime: Runtime) -> None:
    """Raise ValueError where model offload, or a device map, was asked for and cannot be.

    Called before any weights are read, so that the answer does not wait for them.
    """
    if runtime.offload and not runtime.device.startswith("cuda"):
        raise ValueError(f"OFFLOAD=1 moves weights to and from a GPU, but DEVICE is {runtime.device}: set OFFLOAD=0")
    check_modes(runtime)
    check_device_map(runtime)


@contextmanager
def missing_weights(model: str | Path, variable: str) -> Iterator[None]:
    """Turn the libraries' many-line errors over files into one line with the remedy.

    Raises:
        OSError: what was looked for, where it can be put, and what runs without.
    """
    try:
        yield
    except OSError as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise OSError(no_weights(str(model), variable, reason)) from error


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence diffusers' and transformers' remarks and loading bars; the hub's download bars stay."""
    import diffusers
    import transformers

    diffusers_level = diffusers.logging.get_verbosity()
    transformers_level = transformers.logging.get_verbosity()
    diffusers.logging.set_verbosity_error()
    transformers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        diffusers.logging.set_verbosity(diffusers_level)
        transformers.logging.set_verbosity(transformers_level)
        diffusers.logging.enable_progress_bar()
        transformers.logging.enable_progress_bar()


@contextmanager
def quiet_calls() -> Iterator[None]:
    """Silence what pipelines and tokenizers say at each call, such as the words of prompts that they cut."""
    import diffusers
    import transformers

    loggers = (diffusers.logging, transformers.logging)
    levels = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)


def _call_notes(facts: PipelineFacts, is_alone: bool) -> tuple[str, ...]:
    """Return the footer's notes on how requests are put together."""
    if is_alone:
        return ("each request has a call of its own: the pipeline does not take several, or gives them one seed",)
    return ("images depend on the batch size: prompts are padded to the longest",) if facts.batch_matters else ()


def half_variant(folder: Path, subfolder: str, dtype: torch.dtype) -> str | None:
    """Return "fp16" where a folder holds half-size files and the run needs no more than those."""
    if dtype == torch.float32:
        return None
    return "fp16" if any((folder / subfolder).glob("*.fp16*.safetensors")) else None


def tiny_folder(runtime: Runtime, name: str) -> Path:
    """Return the folder of an embedded model.

    Raises:
        OSError: it is not there.
    """
    folder = runtime.assets / name
    if not folder.is_dir():
        raise OSError(f"no embedded model in {folder}: WEIGHTS=tiny needs the repository's assets folder")
    return folder


def tiny_notes(runtime: Runtime, native: int) -> tuple[str, ...]:
    """Return the footer's note where an embedded model was asked for a size that it cannot make."""
    return () if runtime.image_size == native else (f"the embedded model makes {native} px images",)
