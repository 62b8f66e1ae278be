"""What a model is to the benchmark: a family in the registry, and an image generator once it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from files.downloads import Need as Need
from models.loras.files import LoraVariant as LoraVariant
from models.loras.files import TrainingData as TrainingData
from models.stages import Stage as Stage
from models.stages import StageName as StageName
from models.stages import StageWatch as StageWatch

if TYPE_CHECKING:
    from torch import Tensor, nn

Weights = Literal["pretrained", "random", "tiny"]
Mode = Literal["eager", "compiled"]
DType = Literal["float32", "float16", "bfloat16"]
NetworkSize = Literal["full", "small"]
DeviceMap = Literal["", "balanced"]


OFFICIAL_RNG_NOTE = "one random generator per batch, as in the published code: images depend on the batch size"


@dataclass(frozen=True)
class Request:
    """One image that is asked for. It depends on its index alone: on which row of the prompts, and on which seed.

    class_label: for models that are conditioned on a class. metadata: what the data set says of the prompt beside its
    text, for example what the image must contain; models do not read it.
    """

    index: int
    prompt: str
    seed: int
    class_label: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Runtime:
    """Where and how a model is to be loaded: all that a model file learns of the run.

    `image_size` is the side in pixels that was asked for; a model that cannot choose returns its own and says so
    in its notes. `label_names` are the data set's class names, in the order of its labels, or empty.
    `cache` is a folder for what is worth keeping between runs; `assets` holds the embedded models. `random_size` is the
    size of networks with random weights: small ones keep every kind of layer of the full ones, for scripts and tests.
    `device_map`: "balanced" where the components of a pipeline are to be on several GPUs; then `device` is the first.
    """

    weights: Weights
    device: str
    dtype: DType
    image_size: int
    assets: Path
    cache: Path
    mode: Mode = "eager"
    offload: bool = False
    label_names: tuple[str, ...] = ()
    random_size: NetworkSize = "full"
    device_map: DeviceMap = ""


class ImageGenerator(Protocol):
    """A loaded text-to-image (or class-to-image) model.

    name: the column's title, "VAR-d16".
    image_size: pixels per side that `generate` returns, of the longer side where the images are not square.
    parameters: of the generating network alone (UNet, transformer), as papers count.
    notes: one line each for the table's footer: another size than the native one, offload, how classes were chosen.
    class_conditional: whether it is asked for classes instead of prompts, so that no image is paired with the image of
        its prompt.
    devices: the GPUs that its networks are on, "cuda:0", where they are on several; empty: on the run's device alone.
    """

    name: str
    image_size: int
    parameters: int
    notes: tuple[str, ...] = ()
    class_conditional: bool = False
    devices: tuple[str, ...] = ()

    def prepare(self, requests: Sequence[Request]) -> list[Request]:
        """Return the requests as this model will be asked them; called once, outside any timer.

        A class-conditional model puts the class in `class_label` and the class's name in `prompt`, so that the
        benchmark knows what each image was really asked for.
        """
        return list(requests)

    def generate(self, requests: Sequence[Request]) -> Tensor:
        """Return `images_BCHW`, uint8 0..255, on the model's device.

        Request i depends on its own seed alone: its noise is the same at any batch size and place in the batch.
        """
        ...

    def with_options(self, options: Any) -> ImageGenerator:
        """Return a generator of the same loaded networks for other `ModelFamily.call_options`; this one stays as it is.

        Its notes, stages and images are those of a model that was loaded with `options`. Asked only of families that
        have such options, in a mode in which they share what is loaded.

        Raises:
            ValueError: the model cannot be called with these options.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot be called with other options")

    def check(self) -> None:
        """Check the last images, where `generate` leaves a check to this. Call it after each `generate`, untimed.

        Raises:
            ValueError: they were made of NaN or infinite values, which their bytes do not show.
        """
        return

    def stages(self) -> tuple[Stage, ...]:
        """Return the parts of a call in their order; empty where the model does not tell them apart."""
        return ()

    def networks(self) -> Sequence[nn.Module]:
        """Return all networks that a call may run; empty where the model does not name them.

        Whoever counts what a call costs knows by these which tensors are weights.
        """
        return ()

    def watched(self, watch: StageWatch) -> AbstractContextManager[None]:  # noqa: ARG002
        """Tell `watch` of the stages of each `generate` as long as the context is open; the images stay the same.

        The generator owns its networks, so it alone knows where to listen: nothing is patched from outside.
        """
        return nullcontext()


def option(
    default: Any,
    help: str,
    *,
    least: float | None = None,
    most: float | None = None,
    pattern: str | None = None,
    check: Callable[[Any], None] | None = None,
) -> Any:
    """Declare one field of a family's options dataclass; `help` stands in --help and README.

    What is below `least`, above `most` or not of the form `pattern` is refused before anything is loaded; so is a
    number that is not finite. `check` is called with a value that the user gave; it raises ValueError or OSError where
    the value alone, or what lies at the path that it names, is wrong, and imports no torch.
    """
    metadata = {"help": help, "least": least, "most": most, "pattern": pattern, "check": check}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class ModelFamily:
    """One line of the registry: everything known of a model before torch is imported.

    key: lower case; gives SKIP_<KEY>, RUN_<KEY> and the prefix <KEY>_ of its options' variables.
    options: a frozen dataclass whose fields, made with `option`, become variables and flags: `steps` -> SDXL_STEPS.
    title: the column's name for these options, "VAR-d16".
    source: one phrase for --check: where the weights would come from.
    load: builds the generator. Raises OSError where weights are missing, ValueError where they do not fit.
    tiny_options: other defaults with WEIGHTS=tiny.
    select: the options that a name in MODELS stands for ("var-d30" -> {"depth": 30}), or None for another's name.
    switchable: whether it has SKIP_/RUN_ variables and runs by default.
    lora_folder: the folder beside a data set's input where fine-tuning leaves a LoRA for this family.
    variants: from its options, and that folder if it is there, to the options without LoRA and to the model with it,
        which has a column of its own (None: no LoRA). Raises OSError where a named LoRA is none.
    check: raises ValueError or OSError where these options cannot be loaded, as far as settings and the names of files
        tell. It imports no torch, and the runtime's device and dtype are not known yet.
    needs: what must be on this machine before these options can be loaded, asked before any data is prepared; None:
        nothing. It imports no torch; it may read small indexes from the hub. With --check, `auto` is still the dtype of
        a machine without a GPU where it is not known. Raises ValueError or OSError where the model cannot run at all.
    unreached: which options that a user set reach nothing in this model, name to reason, as far as files on this
        machine tell. What reaches no column of a run is refused.
    call_options: the options that are arguments of a call alone: one load serves all their values
        (`ImageGenerator.with_options`). shares_compiled: whether it does with MODE=compiled, too.
    takes_device_map: whether its components can be on several GPUs (DEVICE_MAP).
    imports: modules that loading and the first call import: a process from which others fork imports them beforehand.
        Importing them must neither touch CUDA nor compute anything.
    """

    key: str
    options: type[Any]
    title: Callable[[Any], str]
    source: Callable[[Any, Runtime], str]
    load: Callable[[Any, Runtime], ImageGenerator]
    tiny_options: Mapping[str, object] = field(default_factory=dict)
    select: Callable[[str], Mapping[str, object] | None] | None = None
    switchable: bool = True
    lora_folder: str = ""
    variants: Callable[[Any, Path | None], tuple[Any, LoraVariant | None]] | None = None
    check: Callable[[Any, Runtime], None] | None = None
    needs: Callable[[Any, Runtime], Sequence[Need]] | None = None
    unreached: Callable[[Any, Runtime], Mapping[str, str]] | None = None
    call_options: frozenset[str] = frozenset()
    shares_compiled: bool = True
    takes_device_map: bool = False
    imports: tuple[str, ...] = ()

    def selected_by(self, name: str) -> Mapping[str, object] | None:
        """Return the options that `name`, an entry of MODELS, stands for, or None where it is another family's."""
        if self.select is not None:
            return self.select(name)
        return {} if name == self.key else None


def unread_sources(options: Any, runtime: Runtime, *names: str) -> dict[str, str]:
    """Return those options that name where weights come from, were set, and are not read with these weights."""
    if runtime.weights == "pretrained":
        return {}
    has = "reads the embedded weights" if runtime.weights == "tiny" else "draws its weights at random"
    defaults = {each.name: each.default for each in fields(options)}
    return {name: f"WEIGHTS={runtime.weights} {has}" for name in names if getattr(options, name) != defaults[name]}


def check_size(image_size: int, multiple: int, name: str) -> None:
    """Raise ValueError where a side is no multiple of what the network can tile."""
    if image_size <= 0 or image_size % multiple:
        raise ValueError(f"IMAGE_SIZE={image_size}: {name} needs a multiple of {multiple}")


def check_modes(runtime: Runtime) -> None:
    """Raise ValueError where offload, a compiled network and a device map are asked for that exclude each other."""
    if runtime.offload and runtime.mode == "compiled":
        raise ValueError("OFFLOAD=1 moves weights that MODE=compiled needs in place: set MODE=eager or OFFLOAD=0")
    if runtime.device_map and runtime.offload:
        raise ValueError(
            f"DEVICE_MAP={runtime.device_map} keeps all weights on GPUs, and OFFLOAD=1 moves them to the CPU: leave "
            "one of them out"
        )
    if runtime.device_map and runtime.mode == "compiled":
        raise ValueError(
            f"DEVICE_MAP={runtime.device_map} does not run with MODE=compiled: torch.compile stops at accelerate's "
            "hooks, which move tensors between the GPUs, at every layer; set MODE=eager"
        )


def check_negative_prompt(prefix: str, negative_prompt: str, guidance: float) -> None:
    """Raise ValueError where a negative prompt would reach nothing, since guidance is off; prefix: "SDXL"."""
    if negative_prompt and guidance <= 1:
        raise ValueError(
            f"{prefix}_NEGATIVE_PROMPT reaches nothing with {prefix}_GUIDANCE={guidance:g}, which turns guidance off: "
            f"set {prefix}_GUIDANCE above 1, or leave {prefix}_NEGATIVE_PROMPT out"
        )


def size_note(asked: int, native: int) -> tuple[str, ...]:
    """Return the footer's note for a model that was asked for another size than the one it was trained at."""
    return () if asked == native else (f"made {asked} px images; trained at {native} px",)
