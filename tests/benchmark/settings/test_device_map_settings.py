"""DEVICE_MAP: what stands against it is refused in one line, and a column with it is another one than without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from parsing import no_settings_in_the_environment, parse, refusal  # noqa: F401

from benchmark.run import check
from benchmark.run.columns import choose_models, plan_columns
from benchmark.settings.column_key import ColumnKey
from benchmark.settings.fields import Settings
from benchmark.settings.fingerprint import defaults_of
from benchmark.settings.runtime import runtime_of
from benchmark.settings.titles import titles_of

SPREAD = {"DEVICE_MAP": "balanced"}


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    set_gpus(monkeypatch, 2)
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def set_gpus(monkeypatch: pytest.MonkeyPatch, count: int | None) -> None:
    for place in ("benchmark.settings.preconditions.count_gpus", "benchmark.run.check.count_gpus"):
        monkeypatch.setattr(place, lambda: count)


@pytest.fixture
def hub(tmp_path: Path) -> str:
    folder = tmp_path / "flux"
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    return f"hub:{folder}"


def spread(monkeypatch: pytest.MonkeyPatch, hub: str, **variables: str) -> Settings:
    return parse(monkeypatch, [], {"MODELS": hub, **SPREAD, **variables})


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_pipelines_of_the_hub_can_be_spread_over_several_gpus(
    monkeypatch: pytest.MonkeyPatch, hub: str, device: str
) -> None:
    for weights in ("pretrained", "random"):
        settings = spread(monkeypatch, hub, DEVICE=device, WEIGHTS=weights, OFFLINE="1")
        assert settings.device_map == runtime_of(settings, "eager").device_map == "balanced"


def test_where_only_torch_can_count_the_gpus_torch_is_left_to_tell(monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    set_gpus(monkeypatch, None)
    assert spread(monkeypatch, hub).device_map


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"OFFLOAD": "1"}, "OFFLOAD=1 moves them to the CPU"),
        ({"MODE": "eager,compiled"}, "does not run with MODE=compiled: torch.compile stops at accelerate's hooks"),
        ({"DEVICE": "cpu"}, "but DEVICE is cpu"),
        ({"DEVICE": "cuda:0"}, "but DEVICE is cuda:0"),
        ({"WORLD_SIZE": "4"}, "a launcher started 4, and each rank has one GPU"),
    ],
)
def test_what_excludes_a_map_is_refused_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, hub: str, variables: dict[str, str], says: str
) -> None:
    text = refusal(monkeypatch, [], {"MODELS": hub, **SPREAD, **variables})
    assert says in text
    assert text.startswith("DEVICE_MAP=balanced")


def test_a_launcher_of_one_process_is_none(monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    assert spread(monkeypatch, hub, WORLD_SIZE="1").device_map


@pytest.mark.parametrize(("count", "says"), [(1, "one GPU leaves nothing to balance"), (0, "shows no GPU")])
def test_fewer_than_two_gpus_are_refused(monkeypatch: pytest.MonkeyPatch, hub: str, count: int, says: str) -> None:
    set_gpus(monkeypatch, count)
    assert says in refusal(monkeypatch, [], {"MODELS": hub, **SPREAD})


def test_other_models_in_the_run_are_named(monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    text = refusal(monkeypatch, [], {"MODELS": f"sdxl,{hub},var-d16", **SPREAD})
    assert "this run has SDXL, VAR-d16: give those a run of their own" in text
    assert "flux" not in text
    assert "this run has " in refusal(monkeypatch, [], SPREAD), "the models of every run are no pipelines of the hub"


def test_another_map_is_refused(monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    assert refusal(monkeypatch, [], {"MODELS": hub, "DEVICE_MAP": "auto"}).startswith("DEVICE_MAP=auto")
    assert parse(monkeypatch, ["--models", hub, "--device-map", ""], {}).device_map == ""


def test_a_map_is_in_the_fingerprint_and_records_without_one_count_as_none(
    monkeypatch: pytest.MonkeyPatch, hub: str
) -> None:
    plain, mapped = parse(monkeypatch, [], {"MODELS": hub}), spread(monkeypatch, hub)
    prints = [settings.fingerprint(settings.selected_models()[0], {}) for settings in (plain, mapped)]
    assert {name for name in prints[0] if prints[0][name] != prints[1][name]} == {"DEVICE_MAP"}
    assert [found["DEVICE_MAP"] for found in prints] == ["", "balanced"]
    assert defaults_of(plain, plain.selected_models()[0])["DEVICE_MAP"] == prints[0]["DEVICE_MAP"]


def test_the_title_says_several_gpus_and_the_folder_is_the_models(monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    columns = []
    for settings in (parse(monkeypatch, [], {"MODELS": hub}), spread(monkeypatch, hub)):
        columns += plan_columns(settings, choose_models(settings, "robots", lambda _: None))
    assert [column.title for column in columns] == ["flux", "flux (several GPUs)"]
    assert columns[0].key == columns[1].key
    assert columns[0].name == columns[1].name == "flux"


def test_a_mark_stands_behind_what_differs() -> None:
    keys = [ColumnKey("hub", {"HUB_STEPS": steps}, {"MODE": "eager"}) for steps in ("4", "8")]
    assert titles_of(["x", "x"], keys, ["several GPUs"]) == ["x (steps 4, several GPUs)", "x (steps 8, several GPUs)"]


def test_the_plan_says_over_how_many_gpus(monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    settings = spread(monkeypatch, hub)
    assert check._describe_device_map(settings) == ", components balanced over 2 GPUs"
    assert check._describe_device_map(parse(monkeypatch, [], {"MODELS": hub, "DEVICE_MAP": ""})) == ""
