"""What the environment and the flags turn into, and what is refused with one line."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmark.settings.command_line import SettingsError, parse_command
from benchmark.settings.fields import Settings

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _no_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.settings.fields import settings_class

    for name in settings_class().model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def parse(monkeypatch: pytest.MonkeyPatch, *flags: str, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return parse_command(flags, variables).settings


def refusal(monkeypatch: pytest.MonkeyPatch, *flags: str, **variables: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(monkeypatch, *flags, **variables)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def titles(settings: Settings) -> list[str]:
    return [model.title for model in settings.selected_models()]


def test_the_documented_command_line_leaves_sdxl_out(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = parse(monkeypatch, NUM_SAMPLES="10000", SKIP_SDXL="1", RUN_PIXART="1")
    assert settings.num_samples == 10000
    assert settings.num_references == 10000
    assert "SDXL" not in titles(settings)
    assert titles(settings) == ["VAR-d16", "PixArt", "Infinity-2B"]


def test_infinity_runs_unless_it_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Infinity-2B" in titles(parse(monkeypatch))
    assert "Infinity-2B" not in titles(parse(monkeypatch, SKIP_INFINITY="1"))


def test_infinity_is_asked_to_draw_as_its_authors_do(monkeypatch: pytest.MonkeyPatch) -> None:
    (plain,), (tiny,) = (
        parse(monkeypatch, MODELS="infinity", WEIGHTS=weights).selected_models() for weights in ("pretrained", "tiny")
    )
    assert (plain.options.cfg, plain.options.tau, plain.options.top_k, plain.options.top_p) == (4.0, 0.5, 900, 0.97)
    assert (tiny.options.cfg, tiny.options.tau, tiny.options.top_p) == (1.5, 0.5, 0.0)
    (official,) = parse(monkeypatch, MODELS="infinity", INFINITY_OFFICIAL_RNG="1").selected_models()
    assert official.options.official_rng


def test_a_flag_wins_over_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(monkeypatch, "--num-samples", "7", NUM_SAMPLES="9").num_samples == 7


def test_defaults_follow_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained, tiny = parse(monkeypatch), parse(monkeypatch, WEIGHTS="tiny")
    assert (pretrained.dataset, tiny.dataset) == ("gundam", "robots")
    assert (pretrained.output_dir, tiny.output_dir) == (Path("local_repo"), Path("local_repo/tiny"))
    assert (pretrained.image_size, tiny.image_size) == (512, 64)
    assert tiny.num_references == 2000


def test_random_weights_are_not_scored_and_read_prompts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(monkeypatch, NUM_SAMPLES="8").rows_needed() == 2000
    assert parse(monkeypatch, NUM_SAMPLES="8", WEIGHTS="random").rows_needed() == 8


def test_tiny_weights_have_their_own_steps_unless_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def steps(settings: Settings) -> int:
        (model,) = settings.selected_models()
        return int(model.options.steps)

    assert steps(parse(monkeypatch, MODELS="sdxl")) == 20
    assert steps(parse(monkeypatch, MODELS="sdxl", WEIGHTS="tiny")) == 10
    assert steps(parse(monkeypatch, MODELS="sdxl", WEIGHTS="tiny", SDXL_STEPS="4")) == 4


@pytest.mark.parametrize(
    ("given", "names"),
    [("all", ("stages", "memory", "energy", "roofline")), ("none", ()), ("energy,stages", ("energy", "stages"))],
)
def test_passes_are_those_that_are_named_or_all_or_none(
    given: str, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert parse(monkeypatch, PASSES=given).pass_names() == names


def test_models_names_the_columns_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    assert titles(parse(monkeypatch, MODELS="pixart,var-d20,hub:some/Model")) == ["PixArt", "VAR-d20", "Model"]


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"NUM_SAMPLES": "many"}, "NUM_SAMPLES=many"),
        ({"NUM_SAMPLES": "0"}, "NUM_SAMPLES=0"),
        ({"WEIGHTS": "huge"}, "WEIGHTS=huge"),
        ({"IMAGE_SIZE": "500"}, "IMAGE_SIZE=500"),
        ({"MODE": "fast"}, "MODE"),
        ({"METRICS": "fid,beauty"}, "'beauty' is no metric"),
        ({"MODELS": "sdxl,dalle"}, "'dalle' is no model"),
        ({"MODELS": "sdxl,sdxl"}, "names SDXL twice"),
        ({"SKIP_SDXL": "1", "RUN_SDXL": "1"}, "contradict"),
        ({"MODELS": "sdxl", "SKIP_SDXL": "1"}, "MODELS names sdxl, but SKIP_SDXL=1"),
        ({"MODELS": "hub:org/reference"}, "cannot be called 'reference'"),
        ({"INFINITY_INSERTION": "1"}, "INFINITY_INSERTION=1"),
        ({"INFINITY_ASPECT": "9"}, "INFINITY_ASPECT=9"),
        ({"INFINITY_TAU": "0"}, "INFINITY_TAU=0"),
        ({"MODELS": "sdxl", "RUN_PIXART": "1"}, "MODELS does not name pixart, but RUN_PIXART=1"),
        ({"MODELS": "pixart", "RUN_PIXART": "0"}, "MODELS names pixart, but RUN_PIXART=0"),
        ({"SEED": "9" * 23}, "SEED=999"),
        ({f"SKIP_{key}": "1" for key in ("SDXL", "VAR", "PIXART", "INFINITY")}, "every model is skipped"),
        ({"SDXL_STEPS": "0"}, "SDXL_STEPS=0"),
        ({"PIXART_GUIDANCE": "nan"}, "PIXART_GUIDANCE=nan"),
        ({"VAR_CLASSES": "foo"}, "VAR_CLASSES=foo"),
        ({"VAR_TOP_P": "2"}, "VAR_TOP_P=2"),
        ({"VAR_TOP_K": "-5"}, "VAR_TOP_K=-5"),
        ({"SKIP_SDLX": "1"}, "SKIP_SDXL was probably meant"),
        ({"NUM_SAMPLE": "3"}, "NUM_SAMPLES was probably meant"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: str
) -> None:
    assert says in refusal(monkeypatch, **variables)


def test_names_that_are_nobodys_slip_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    parse(monkeypatch, NODE="1", HOME_DIR="/", HF_HOME="/tmp", XDG_DATA_HOME="/tmp", PASS="secret")


def test_the_fingerprint_leaves_out_what_extends_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(**variables: str) -> dict[str, str]:
        settings = parse(monkeypatch, **variables)
        return settings.fingerprint(settings.selected_models()[0], {"DEVICE": "cpu"})

    first = fingerprint(MODELS="sdxl", NUM_SAMPLES="4")
    assert fingerprint(MODELS="sdxl", NUM_SAMPLES="8", METRICS="kid", NUM_REFERENCES="10") == first
    assert fingerprint(MODELS="sdxl", SDXL_STEPS="5")["SDXL_STEPS"] != first["SDXL_STEPS"]


def test_help_lists_every_setting_and_answers_within_a_second() -> None:
    start = time.perf_counter()
    helped = subprocess.run([sys.executable, "run_inference.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    assert helped.returncode == 0
    for name in ("--num-samples", "--skip-infinity", "--sdxl-steps", "--var-depth", "--check"):
        assert name in helped.stdout
    assert seconds < 1.0 or _import_is_slow_here()


def _import_is_slow_here() -> bool:
    """A machine that is busy with other work proves nothing; torch in the process would."""
    probe = (
        "import sys, benchmark.settings.command_line; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    )
    return subprocess.run([sys.executable, "-c", probe], cwd=ROOT).returncode == 0


def test_a_bad_setting_exits_with_2_and_one_line() -> None:
    command = [sys.executable, "run_inference.py", "--num-samples", "many"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr.count("\n") == 1


def test_check_says_what_would_run_without_torch(tmp_path: Path) -> None:
    probe = (
        "import sys, run_inference;"
        "status = run_inference.main(['--check', '--weights', 'tiny', '--output-dir', sys.argv[1]]);"
        "sys.exit(status or 10 * ('torch' in sys.modules))"
    )
    checked = subprocess.run([sys.executable, "-c", probe, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    for text in ("VAR", "PixArt", "robots", "0 images already there"):
        assert text in checked.stdout


def test_readme_has_the_settings_as_they_are() -> None:
    from scripts.document_settings import with_list

    readme = (ROOT / "README.md").read_text()
    assert readme == with_list(readme), "run python scripts/document_settings.py"
    for name in ("NUM_SAMPLES", "SKIP_INFINITY", "SDXL_STEPS", "VAR_CLASSES"):
        assert f"`{name}`" in readme
