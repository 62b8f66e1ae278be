"""What cannot be right is refused in parsing: one line that names the setting, exit 2, no torch, within a second."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parsing import FIELDS, SETTINGS, no_settings_in_the_environment, parse, read_line, refusal  # noqa: F401

from benchmark.measure.accelerators import count_gpus
from benchmark.settings.command_line import parse_command
from benchmark.settings.near_misses import NearMisses

ROOT = Path(__file__).parents[3]
LINES = (Path(__file__).parent / "bad_settings.txt").read_text(encoding="utf-8").splitlines()
OTHERS = (Path(__file__).parent / "other_programs.txt").read_text(encoding="utf-8").split()
NEEDS_GPU = ("DEVICE=cuda", "DEVICE=cuda:99", "OFFLOAD=1")


@pytest.mark.parametrize("line", LINES)
def test_every_bad_setting_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    gpus = count_gpus()
    if line in NEEDS_GPU and (gpus is None or gpus > (99 if ":" in line else 0)):
        pytest.skip("this machine has such a device, or only torch can tell")
    arguments, variables = read_line(line)
    said = refusal(monkeypatch, arguments, variables)
    # Of a flag its setting is named, as a flag or as a variable.
    names = list(variables) or [arguments[0].partition("=")[0].lstrip("-")]
    spellings = {name for given in names for name in (given, given.upper().replace("-", "_"))}
    assert any(name in said for name in spellings) or "every model is skipped" in said, said


GOOD = [
    "NUM_SAMPLES=1", "NUM_SAMPLES=10000000", "NUM_SAMPLES=1_000", "IMAGE_SIZE=64", "IMAGE_SIZE=8192", "BATCH_SIZE=4096",
    "WARMUP=0", "SEED=0", "NUM_REFERENCES=1", "WEIGHTS=tiny", "MODE=eager\\,compiled", "METRICS=fid\\,kid",
    "METRICS=all", "DTYPE=float16", "DTYPE=auto", "DEVICE=cpu", "DEVICE=auto", "FRESH=1", "FRESH=yes", "OFFLOAD=0",
    "FEATURE_DTYPE=tf32", "FID_PROTOCOL=torch-fidelity", "DATASET=robots", "DATASET=org/name",
    "DATASET=org/name CAPTION_COLUMN=x",
    "MODELS=pixart", "MODELS=var-d20", "MODELS=var-d16\\,var-d20", "MODELS=var-d20 VAR_DEPTH=20", "MODELS=hub:org/name",
    "MODELS=pixart SKIP_SDXL=1", "SKIP_SDXL=1 SKIP_VAR=1 SKIP_PIXART=1", "PIXART_STEPS=1", "PIXART_GUIDANCE=0",
    "PIXART_GUIDANCE=1e1", "PIXART_LORA=none", "PIXART_LORA_SCALE=0", "VAR_DEPTH=30 MODELS=var", "VAR_TOP_P=1",
    "VAR_TOP_K=0", "VAR_CLASSES=999", "VAR_CLASSES=1\\,207\\,980 MODELS=var-d16", "VAR_CLASSES=nearest",
    "VAR_CLASSES=99 WEIGHTS=tiny", "INFINITY_TAU=0.01", "INFINITY_ASPECT=3.5",
    "INFINITY_INSERTION=-32", "HUB_GUIDANCE=-1", "HUB_STEPS=0", "SDXL_MODEL=org/name", "PIXART_MODEL=org/name",
    "CLIP_MODEL=org/name", "NUM_SAMPLES= SEED= MODELS= METRICS= OUTPUT_DIR=", "--pixart-lora ''", "--image-column ''",
    "--infinity-negative-prompt ''", "--hub-guidance -1", "--num-samples=5", "--fresh 1",
]  # fmt: skip


@pytest.mark.parametrize("line", GOOD)
def test_what_is_right_is_taken(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    parse(monkeypatch, *read_line(line))


def limits(name: str) -> dict[str, float]:
    """Return the bounds of a setting: ge, le, multiple_of."""
    field, bounds = FIELDS[name], ("ge", "le", "multiple_of")
    items = [*field.metadata]
    for part in typing.get_args(field.annotation):  # a number or a word: the bounds are the number's
        if typing.get_origin(part) is typing.Annotated:
            items += [item for own in typing.get_args(part)[1:] for item in getattr(own, "metadata", ())]
    return {bound: getattr(item, bound) for item in items for bound in bounds if hasattr(item, bound)}


def types_of(annotation: Any) -> set[Any]:
    """Return the plain types that an annotation is made of."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return {plain for part in typing.get_args(annotation) for plain in types_of(part)}
    if origin is typing.Annotated:
        return types_of(typing.get_args(annotation)[0])
    return {annotation if origin is None else origin}


def wrong_types(name: str) -> list[str]:
    """Return values of another kind than the setting's; a plain text takes any."""
    kinds = types_of(FIELDS[name].annotation)
    if bool in kinds:
        return ["maybe", "2"]
    if int in kinds:
        return ["many", "1.5", "0x10", "1e3", "nan", "１２", "9" * 20, "-" + "9" * 20, "9" * 5000]
    if float in kinds:
        return ["many", "nan", "-inf", "0x10", "１.5", "1e999"]
    if typing.Literal in kinds:
        return ["huge", "AUTO"]
    if tuple in kinds:
        return [",", " , ", "nonesuch"]
    return {"device": ["gpu", "cuda:", "cuda:１", "cuda:-1", "cuda\n"], "var_classes": ["some", "1,,2", "1 2"]}.get(
        name, []
    )


def misspellings(name: str) -> Iterator[str]:
    """Yield the setting in other cases, without underscores, in the plural, with two letters swapped, one doubled."""
    variable = name.upper()
    yield from (name, name.title())
    yield f"_{name.title()}_".strip("_") + "_"
    if "_" in name:
        yield variable.replace("_", "")
    yield variable.removesuffix("S") if variable.endswith("S") else f"{variable}S"
    word = max(variable.split("_"), key=len)
    swapped = word[0] + word[2] + word[1] + word[3:]
    if swapped != word:
        yield variable.replace(word, swapped)
    yield variable.replace(word, word[0] + word[1] + word[1:])


def generated() -> Iterator[tuple[str, list[str], dict[str, str]]]:
    """Yield the setting's name, arguments and variables of every case that follows from the settings themselves."""
    for name, field in FIELDS.items():
        variable, flag = name.upper(), "--" + name.replace("_", "-")
        if field.default != "":
            yield variable, [f"{flag}="], {}
            yield variable, [f"{flag}= "], {}
        for value in wrong_types(name):
            yield variable, [], {variable: value}
        bounds = limits(name)
        step = bounds.get("multiple_of", 1 if int in types_of(field.annotation) else 0.001)
        if "ge" in bounds:
            yield variable, [], {variable: str(bounds["ge"] - step)}
        if "le" in bounds:
            yield variable, [f"{flag}={bounds['le'] + step}"], {}
        for spelling in misspellings(name):
            if spelling != variable:
                yield variable, [], {spelling: "1"}
        yield variable, [f"{flag}x=1"], {}


CASES = list(generated())


def test_there_are_enough_cases_for_every_setting() -> None:
    assert len(CASES) >= 190
    assert {name for name, _, _ in CASES} == {name.upper() for name in FIELDS}


@pytest.mark.parametrize("name", FIELDS)
def test_every_setting_refuses_what_is_empty_of_another_kind_or_out_of_bounds(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    spellings = (name.upper(), "--" + name.replace("_", "-"))
    for arguments, variables in [case[1:] for case in CASES if case[0] == name.upper()]:
        with monkeypatch.context() as patch:
            said = refusal(patch, arguments, variables)
        assert any(spelling in said for spelling in spellings), (arguments, variables, said)
        assert len(said) < 1000


# A column of each family, which its options reach.
FAMILY_COLUMNS = {
    "sdxl": "sdxl", "var": "var", "pixart": "pixart", "infinity": "infinity", "hub": "hub:org/never-seen-here",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in FIELDS if limits(name)])
def test_the_bounds_themselves_are_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    bounds = limits(name)
    for bound in ("ge", "le"):
        # IMAGE_SIZE and the two that depend on what a model is are bounded by the models too.
        if bound in bounds and name not in ("var_depth", "infinity_insertion"):
            model = next((key for key in FAMILY_COLUMNS if name.startswith(f"{key}_")), "var")
            settings = parse(monkeypatch, ["--models", FAMILY_COLUMNS[model]], {name.upper(): str(bounds[bound])})
            assert getattr(settings, name) == bounds[bound]


def test_every_number_has_both_bounds() -> None:
    for name, field in FIELDS.items():
        kinds = types_of(field.annotation)
        if bool not in kinds and kinds & {int, float}:
            assert {"ge", "le"} <= set(limits(name)), name


def test_no_torch_is_imported_to_refuse_a_setting() -> None:
    probe = (
        "import os, sys\n"
        "sys.path.insert(0, 'tests/benchmark')\n"
        "from benchmark.settings.command_line import SettingsError, parse_command\n"
        "refused = 0\n"
        "for line in sys.stdin.read().splitlines():\n"
        "    variables = dict(word.split('=', 1) for word in line.replace('\\\\,', ',').split(' '))\n"
        "    os.environ.update(variables)\n"
        "    try:\n"
        "        parse_command([], variables)\n"
        "    except SettingsError:\n"
        "        refused += 1\n"
        "    for name in variables: del os.environ[name]\n"
        "heavy = [name for name in ('torch', 'diffusers', 'transformers', 'numpy', 'PIL') if name in sys.modules]\n"
        "print(refused, heavy)\n"
    )
    lines = [line for line in LINES if not line.startswith("--") and "=" in line and line not in NEEDS_GPU]
    clean = {name: value for name, value in os.environ.items() if name.lower() not in FIELDS}
    told = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, input="\n".join(lines), capture_output=True, text=True, env=clean
    )
    assert told.stdout.strip() == f"{len(lines)} []", told.stderr


def processor_seconds() -> float:
    """Return the processor time of all programs that were started here and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def clean_environment(**variables: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.lower() not in FIELDS} | variables


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        ([], {"NUM_SAMPLES": "99999999999999999999"}),
        ([], {"numSamples": "5"}),
        ([], {"MODELS": "var-d17"}),
        ([], {"VAR_CLASSES": "99999", "MODELS": "var-d16"}),
        ([], {"DATASET": "./nope"}),
        ([], {"SDXL_MODEL": "/nope\x1b[31m"}),
        ([], {"OUTPUT_DIR": "/etc/passwd/out"}),
        ([], {"METRICS": ","}),
        (["--output-dir", ""], {}),
        (["NUM_SAMPLES=5"], {}),
    ],
)
def test_as_a_process_a_refusal_is_one_line_and_takes_less_than_a_second(
    arguments: list[str], variables: dict[str, str], tmp_path: Path
) -> None:
    seconds = []
    for _ in range(5):  # the best of some, and of processor time, since other programs may be at work here
        start = processor_seconds()
        told = subprocess.run(
            [sys.executable, str(ROOT / "run_inference.py"), *arguments], cwd=tmp_path,
            env=clean_environment(**variables), capture_output=True, text=True, check=False,
        )  # fmt: skip
        seconds.append(processor_seconds() - start)
        assert told.returncode == 2, told.stderr
        assert told.stdout == ""
        assert told.stderr.count("\n") == 1
        assert "\x1b" not in told.stderr
        assert list(tmp_path.iterdir()) == []
        if seconds[-1] < 1:
            break
    assert min(seconds) < 1


def test_variables_of_other_programs_are_left_alone() -> None:
    assert len(set(OTHERS)) >= 200
    parse_command([], dict.fromkeys(OTHERS, "x"))


def test_variables_that_the_projects_own_scripts_read_are_left_alone() -> None:
    shell, python = r"\$\{([A-Z][A-Z0-9_]*)", r"environ(?:ment)?(?:\.get)?[\[(]\s*\"([A-Z][A-Z0-9_]*)\""
    read = {
        name
        for folder in ("scripts", "finetuning")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".sh", ".py")
        for name in re.findall(shell if path.suffix == ".sh" else python, path.read_text(encoding="utf-8"))
    }
    assert {"BS", "STEPS", "LR", "RANK", "BASE_DIR", "COMBINED_BASE", "PORT", "PYTHON_BIN", "VALIDATION_PROMPT"} <= read
    parse_command([], dict.fromkeys(read, "x"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("N_IMAGES", "NUM_SAMPLES"), ("NUM_OF_SAMPLES", "NUM_SAMPLES"), ("OUTPUT_FOLDER", "OUTPUT_DIR"),
        ("OUTDIR", "OUTPUT_DIR"), ("WARM_UP", "WARMUP"), ("data_set", "DATASET"), ("WEIGHT", "WEIGHTS"),
        ("SDXL_CFG_SCALE", "SDXL_GUIDANCE"), ("PIXART_GUIDANCE_SCALE", "PIXART_GUIDANCE"), ("VAR_GUIDANCE", "VAR_CFG"),
        ("PIXART_NUM_INFERENCE_STEPS", "PIXART_STEPS"), ("INFINITY_TEMPERATURE", "INFINITY_TAU"),
        ("RUN_PIXART_SIGMA", "RUN_PIXART"), ("SKIP_VAR_D16", "SKIP_VAR"), ("BATCHSZ", "BATCH_SIZE"),
        ("GUIDANCE_SCALE", "_GUIDANCE"), ("NUM_INFERENCE_STEPS", "_STEPS"), ("num-samples", "NUM_SAMPLES"),
    ],
)  # fmt: skip
def test_other_words_for_a_setting_are_told(monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    assert re.search(rf"{meant}\b.* was probably meant", refusal(monkeypatch, [], {name: "3"}))


def test_a_new_models_options_are_guarded_too() -> None:
    near_misses = NearMisses(["FLAT_GUIDANCE", "SKIP_FLAT"], ["FLAT"], ["FLAT"])
    assert near_misses.meant_by("FLAT_CFG") == "FLAT_GUIDANCE"
    assert near_misses.meant_by("SKIP_FALT") == "SKIP_FLAT"
    assert near_misses.meant_by("PIXART_CFG") == ""


def test_control_characters_of_a_value_are_shown_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in ({"NUM_SAMPLES": "1\n2\x1b[31m"}, {"NUM_SAMPLE": "1\n2\x1b[31m"}, {"DATASET": "a\nb\x1b[31m"}):
        said = refusal(monkeypatch, [], variables)
        assert said.isprintable()
        assert r"\x1b" in said
    assert r"\u202e" in refusal(monkeypatch, ["--\u202egnp"], {})
