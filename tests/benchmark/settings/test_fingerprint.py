"""The fingerprint of a column: every setting, but for those that change neither images nor times."""

from __future__ import annotations

import pytest

import models
from benchmark.settings import fingerprint
from benchmark.settings.fields import Settings, settings_class


def settings_of(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in {"MODELS": "sdxl", "WEIGHTS": "tiny", **variables}.items():
        monkeypatch.setenv(name, value)
    return settings_class()()


def fingerprint_of(settings: Settings) -> dict[str, str]:
    return settings.fingerprint(settings.selected_models()[0], {"device": "cpu", "dtype": "float32"})


LEFT_OUT = {
    "NUM_SAMPLES", "NUM_REFERENCES", "OUTPUT_DIR", "FRESH", "OFFLINE", "MODELS", "METRICS", "INCEPTION_WEIGHTS",
    "FID_PROTOCOL", "FEATURE_DTYPE", "DINOV2_MODEL", "CLIP_MODEL", "REFERENCE", "ROUNDS", "PASSES", "BULK_BATCH_SIZE",
    "QUALITY_MARGIN", "SWEEP", "TIMED_ON",
}  # fmt: skip


def test_every_setting_is_in_it_but_for_those_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(monkeypatch)
    others = {
        name.upper()
        for name in type(settings).model_fields
        for family in models.FAMILIES
        if family.key != "sdxl" and name.startswith(f"{family.key}_")
    }
    switches = {name.upper() for name in type(settings).model_fields if name.startswith(("skip_", "run_"))}
    every = {name.upper() for name in type(settings).model_fields}
    assert set(fingerprint_of(settings)) == (every - LEFT_OUT - others - switches) | {"FAMILY"}


def test_a_new_setting_is_in_it_unless_it_is_listed() -> None:
    assert fingerprint.is_recorded("a_setting_of_tomorrow")
    assert not fingerprint.is_recorded("reference")
    assert not fingerprint.is_recorded("pixart_steps"), "a family's option is the key's business"


@pytest.mark.parametrize(
    ("name", "value"), [("NUM_SAMPLES", "9"), ("METRICS", "kid"), ("NUM_REFERENCES", "10"), ("REFERENCE", "emoji"),
                        ("PIXART_STEPS", "3"), ("OUTPUT_DIR", "elsewhere"), ("FID_PROTOCOL", "torch-fidelity"),
                        ("ROUNDS", "9"), ("BULK_BATCH_SIZE", "9")],
)  # fmt: skip
def test_what_changes_neither_images_nor_times_changes_no_fingerprint(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    before = fingerprint_of(settings_of(monkeypatch))
    assert fingerprint_of(settings_of(monkeypatch, **{name: value})) == before


@pytest.mark.parametrize(
    ("name", "value"), [("SEED", "7"), ("BATCH_SIZE", "2"), ("WARMUP", "0"), ("SDXL_STEPS", "3"), ("DATASET", "emoji")]
)
def test_what_changes_images_or_times_changes_it(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    before = fingerprint_of(settings_of(monkeypatch))
    after = fingerprint_of(settings_of(monkeypatch, **{name: value}))
    assert {key for key in after if after[key] != before[key]} == {name}


def test_defaults_are_those_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = settings_of(monkeypatch)
    assert fingerprint.defaults_of(tiny, tiny.selected_models()[0])["SDXL_STEPS"] == "10"
    official = settings_of(monkeypatch, WEIGHTS="pretrained")
    defaults = fingerprint.defaults_of(official, official.selected_models()[0])
    assert (defaults["SDXL_STEPS"], defaults["WARMUP"]) == ("20", "3")
