"""The settings of a run: one typed, immutable object, read from environment variables and flags of the same names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_type_hints

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError, create_model, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

import metrics
import models
from benchmark.measure.findings import PASSES, PassName
from benchmark.settings.axes import Axis
from benchmark.settings.column_key import ColumnKey
from benchmark.settings.fingerprint import fingerprint_of
from benchmark.settings.selection import SelectedModel as SelectedModel
from benchmark.settings.selection import select_models
from benchmark.settings.sweep import read_sweep
from benchmark.settings.titles import check_titles, titles_of
from files.reading import is_regular, shown
from files.sources import check_source, expanded
from metrics.base import CLIP_MODEL, DINOV2_MODEL, FeatureDType, FidProtocol
from models.base import DeviceMap, Mode, ModelFamily, Weights

ASSETS = Path(__file__).resolve().parents[2] / "assets"
DATASET_OF_WEIGHTS = {"pretrained": "gundam", "random": "robots", "tiny": "robots"}
OUTPUT_OF_WEIGHTS = {"pretrained": "local_repo", "random": "local_repo/random", "tiny": "local_repo/tiny"}
METRICS_OF_WEIGHTS = {"pretrained": "fid,kid", "random": "fid,kid", "tiny": "fid,kid,fidelity,psnr"}
TINY_IMAGE_SIZE = 64
MINIMUM_REFERENCES = 2000
MOST_IMAGES = 10_000_000
Pass = PassName | Literal["all", "none"]
AskedDType = Literal["auto", "float32", "float16", "bfloat16"]
_INTEGER = TypeAdapter(int)


def _split(value: object) -> object:
    if not isinstance(value, str):
        return value
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if not parts:
        raise ValueError("the list has no entries; name some, or leave the setting out")
    return parts


def _checked(check: Callable[[Any], None]) -> AfterValidator:
    """Return a validator of a value that was given: what `check` raises is the setting's error."""

    def validate(value: Any) -> Any:
        try:
            check(value)
        except OSError as error:
            raise ValueError(str(error)) from None
        return value

    return AfterValidator(validate)


ModelSource = Annotated[str, _checked(check_source)]


class Settings(BaseSettings):
    """Everything a user can choose that does not belong to one model. Field `num_samples` is variable NUM_SAMPLES."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", alias_generator=str.upper, populate_by_name=True, env_ignore_empty=True,
        case_sensitive=True, protected_namespaces=(),
    )  # fmt: skip

    num_samples: int = Field(50, ge=1, le=MOST_IMAGES, description="images per model")
    image_size: int = Field(
        512, ge=8, le=8192, multiple_of=8, description="side in pixels asked of models that can choose"
    )
    models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), description="explicit list instead of SKIP_/RUN_, e.g. sdxl,var-d16,pixart,hub:org/name or hub:./folder"
    )
    weights: Weights = Field(
        "pretrained",
        description="pretrained: official weights from the hub or local folders; random: full-size architectures with "
        "random weights, for speed alone; tiny: the embedded models",
    )
    dataset: str = Field(
        "gundam",
        description="gundam, wikiart, robots, emoji, a local folder, a hub id org/name, or a file of prompts "
        "(.txt, .jsonl, .tsv, .csv)",
    )
    image_column: str = Field("", description="image column of a table or data set, where it cannot be guessed")
    caption_column: str = Field("", description="caption column of a table or data set, where it cannot be guessed")
    reference: str = Field(
        "",
        description="reference images in the place of DATASET's own: a data set or a folder with images, or statistics "
        "(.npz with mu and sigma, for fid)",
    )
    num_references: int = Field(
        MINIMUM_REFERENCES,
        ge=1,
        le=MOST_IMAGES,
        description="reference images for the quality metrics: max(NUM_SAMPLES, 2000)",
    )
    batch_size: int = Field(1, ge=1, le=4096, description="requests per timed generate() call")
    rounds: int = Field(
        4, ge=1, le=1000, description="fresh processes that time each model; winners on speed need at least 3"
    )
    timed_samples: Annotated[int, Field(ge=1, le=MOST_IMAGES)] | Literal["all"] = Field(
        25, description="requests that every round times, the same first ones, or all; further images are made in bulk"
    )
    bulk_batch_size: Annotated[int, Field(ge=1, le=4096)] | Literal["auto"] = Field(
        "auto",
        description="requests per call for images that are not timed; auto: the power of two up to 64 that is the "
        "fastest per image",
    )
    mode: Annotated[tuple[Mode, ...], NoDecode, BeforeValidator(_split)] = Field(
        ("eager",), min_length=1, description="eager, compiled, or eager,compiled for a column each"
    )
    sweep: str = Field(
        "",
        description="a column for each value of models' options: sdxl.steps=4,8,20; var-d16.cfg=1.5,4. Left of the dot "
        "a name as in MODELS, right of it an option in small letters; winner lines compare the value that each has "
        "without a sweep",
    )
    passes: Annotated[tuple[Pass, ...], NoDecode, BeforeValidator(_split)] = Field(
        PASSES,
        min_length=1,
        description="what the first and the last round measure after their timed batches: any of "
        f"{','.join(PASSES)}; all; or none",
    )
    metrics: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = Field(
        ("fid", "kid"), description=f"quality metrics, all, or any of {','.join(metrics.METRICS)}"
    )
    quality_margin: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] | Literal["auto"] = Field(
        "auto",
        description="how much worse a faster configuration's deciding score (fid or kid) may be to count as equal; "
        "auto: twice the half-width of the 95 % interval of the floor",
    )
    inception_weights: Annotated[Path, AfterValidator(expanded)] | None = Field(
        None,
        description="weights-inception-2015-12-05-6726825d.pth, instead of torch-fidelity's, which is downloaded once",
    )
    fid_protocol: FidProtocol = Field(
        "clean", description="clean: resize as clean-fid; torch-fidelity: as TensorFlow 1, as torch-fidelity does"
    )
    feature_dtype: FeatureDType = Field(
        "float32", description="arithmetic of the metrics' networks: float32, tf32 or bfloat16; scores of two never mix"
    )
    dinov2_model: ModelSource = Field(DINOV2_MODEL, description="hub id or local folder, for fd-dinov2")
    clip_model: ModelSource = Field(CLIP_MODEL, description="hub id or local folder, for cmmd and clipscore")
    seed: int = Field(42, ge=0, le=2**62, description="image i is drawn from SEED + i")
    dtype: Annotated[tuple[AskedDType, ...], NoDecode, BeforeValidator(_split)] = Field(
        ("auto",),
        min_length=1,
        description="auto is bfloat16 on GPUs that have it and float32 on a CPU; float32,bfloat16 gives a column each",
    )
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:[0-9]{1,3})?)$", description="auto, cpu, cuda or cuda:N")
    timed_on: Literal["first", "all"] = Field(
        "first",
        description="with several processes: time the models on the first GPU alone, or on all GPUs of its host, one "
        "after the other",
    )
    warmup: int = Field(
        3, ge=0, le=1000, description="least untimed generate() calls in each process; more follow until they agree"
    )
    output_dir: Annotated[Path, AfterValidator(expanded)] = Field(
        Path("local_repo"), description="folder for images, timings, references and results"
    )
    offline: bool = Field(False, description="1: download nothing; what is missing is told, and left out of the run")
    fresh: bool = Field(False, description="1: delete what earlier runs of these models wrote, and start over")
    offload: bool = Field(False, description="1: diffusers' model offload, for GPUs too small; costs time")
    device_map: DeviceMap = Field(
        "",
        description="balanced: each component of a hub: pipeline on one of several GPUs, for a pipeline that does not "
        "fit one",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Refuse what is empty, and fill in the defaults that depend on WEIGHTS and NUM_SAMPLES; what was given stays.

        Of the environment an empty variable does not arrive here: it means unset. An empty flag does.
        """
        for name, field in cls.model_fields.items():
            value = values.get(name.upper())
            if isinstance(value, str) and not value.strip() and field.default != "":
                raise ValueError(f"{name.upper()} is empty: give a value, or leave it out ({field.description})")
        weights = str(values.get("WEIGHTS", "pretrained"))
        values.setdefault("DATASET", DATASET_OF_WEIGHTS.get(weights, "gundam"))
        values.setdefault("OUTPUT_DIR", OUTPUT_OF_WEIGHTS.get(weights, "local_repo"))
        values.setdefault("METRICS", METRICS_OF_WEIGHTS.get(weights, "fid,kid"))
        try:
            samples = _INTEGER.validate_python(values.get("NUM_SAMPLES", 50))
        except ValidationError:
            pass  # its own field says so
        else:
            values.setdefault("NUM_REFERENCES", max(samples, MINIMUM_REFERENCES))
        if weights == "tiny":
            values.setdefault("IMAGE_SIZE", TINY_IMAGE_SIZE)
            for family in models.FAMILIES:
                for option, default in family.tiny_options.items():
                    values.setdefault(f"{family.key}_{option}".upper(), default)
        return values

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        unknown = [name for name in self.metrics if name not in metrics.METRICS and name != "all"]
        if unknown:
            raise ValueError(f"METRICS: {unknown[0]!r} is no metric; there are {', '.join(metrics.METRICS)}, or all")
        if len(set(self.metrics)) != len(self.metrics):
            raise ValueError(f"METRICS={','.join(self.metrics)}: each metric at most once")
        if len(set(self.passes)) != len(self.passes):
            raise ValueError(f"PASSES={','.join(self.passes)}: each pass at most once")
        if len(self.passes) > 1 and (alone := {"all", "none"} & set(self.passes)):
            raise ValueError(f"PASSES={','.join(self.passes)}: {min(alone)} must stand alone")
        if len(set(self.mode)) != len(self.mode):
            raise ValueError(f"MODE={','.join(self.mode)}: each mode at most once")
        if len(set(self.dtype)) != len(self.dtype):
            raise ValueError(f"DTYPE={','.join(self.dtype)}: each dtype at most once")
        if len(self.dtype) > 1 and "auto" in self.dtype:
            raise ValueError(f"DTYPE={','.join(self.dtype)}: auto must stand alone")
        if self.inception_weights is not None and not is_regular(self.inception_weights):
            raise ValueError(
                f"INCEPTION_WEIGHTS={self.inception_weights}: no such file; name one, or unset the variable"
            )
        if not self.selected_models():
            raise ValueError("every model is skipped: leave out one SKIP_ variable, or name models in MODELS")
        selected = self.selected_models()
        check_titles([model.title for model in selected])
        titles_of(
            [model.title for model in selected], [ColumnKey(model.family.key, model.values) for model in selected]
        )
        self.swept()
        return self

    def selected_models(self) -> list[SelectedModel]:
        """Return the models of this run in the order of the columns. Raises ValueError for contradictions."""
        return select_models(self, self.models)

    def swept(self) -> list[Axis]:
        """Return the axes that SWEEP asks for. Raises ValueError where it cannot be read."""
        return read_sweep(self.sweep, self, self.selected_models(), self.models)

    def refuse_sweep(self, who: str) -> None:
        """Raise ValueError where SWEEP or DTYPE asks for several columns of a model. who: what makes one alone."""
        if self.sweep.strip():
            raise ValueError(f"SWEEP={shown(self.sweep)}: {who} takes one value of each option; leave SWEEP out")
        if len(self.dtype) > 1:
            raise ValueError(f"DTYPE={','.join(self.dtype)}: {who} takes one dtype")

    def rows_needed(self) -> int:
        """Return how many rows of the data set this run reads: its prompts, and references if there is a score."""
        return self.num_samples if self.weights == "random" else max(self.num_samples, self.num_references)

    def references_needed(self) -> int:
        """Return how many reference images this run reads: none where nothing is scored."""
        return 0 if self.weights == "random" else self.num_references

    def timed_count(self) -> int:
        """Return how many of the first requests every round times."""
        return self.num_samples if self.timed_samples == "all" else min(self.num_samples, self.timed_samples)

    def pass_names(self) -> tuple[PassName, ...]:
        """Return the passes of this run, `all` spelled out."""
        return PASSES if "all" in self.passes else tuple(name for name in self.passes if name in PASSES)

    def metric_names(self) -> tuple[str, ...]:
        """Return the metrics of this run, `all` spelled out."""
        return tuple(metrics.METRICS) if "all" in self.metrics else self.metrics

    def fingerprint(self, model: SelectedModel, resolved: Mapping[str, str]) -> dict[str, str]:
        """Return what decides this model's images and times: see `benchmark.settings.fingerprint`."""
        return fingerprint_of(self, model, resolved)


def model_fields(families: Sequence[ModelFamily]) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, type and field of every per-model setting: the registry's switches and each family's options."""
    for family in families:
        if family.switchable:
            yield f"skip_{family.key}", bool | None, Field(None, description=f"1: leave {family.key} out")
            yield f"run_{family.key}", bool | None, Field(None, description=f"0: leave {family.key} out")
        types = get_type_hints(family.options)
        for field in dataclasses.fields(family.options):
            tiny = family.tiny_options.get(field.name)
            note = "" if tiny is None else f" ({tiny} with tiny weights)"
            text = field.metadata.get("help", "") + note
            limits: dict[str, Any] = {
                "ge": field.metadata.get("least"),
                "le": field.metadata.get("most"),
                "pattern": field.metadata.get("pattern"),
            }
            if types[field.name] is float:
                limits["allow_inf_nan"] = False
            check = field.metadata.get("check")
            type_ = types[field.name] if check is None else Annotated[types[field.name], _checked(check)]
            yield f"{family.key}_{field.name}", type_, Field(field.default, description=text, **limits)


def settings_class(families: Sequence[ModelFamily] | None = None) -> type[Settings]:
    """Return Settings with the variables of every model family in it."""
    fields: dict[str, Any] = {
        name: (type_, field) for name, type_, field in model_fields(models.FAMILIES if families is None else families)
    }
    return create_model("RunSettings", __base__=Settings, **fields)
