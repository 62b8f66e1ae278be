"""A column's key and its title: what tells two columns apart, whatever else a run has."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

import models
from benchmark.settings.axes import Axis, points
from benchmark.settings.column_key import ColumnKey
from benchmark.settings.titles import folder_name, titles_of


def key(family: str = "sdxl", mode: str = "eager", **options: str) -> ColumnKey:
    return ColumnKey(family, {f"{family}_{name}".upper(): value for name, value in options.items()}, {"MODE": mode})


def test_a_title_is_the_models_name_where_nothing_else_differs() -> None:
    keys = [key(), key("var"), key("var", "compiled"), key("pixart", lora="adapter 12")]
    names = ["SDXL", "VAR-d16", "VAR-d16", "PixArt+LoRA"]
    assert titles_of(names, keys) == ["SDXL", "VAR-d16", "VAR-d16 (compiled)", "PixArt+LoRA"]


def test_the_mode_stands_in_the_title_of_a_single_column_too() -> None:
    assert titles_of(["SDXL"], [key(mode="compiled")]) == ["SDXL (compiled)"]


def test_what_differs_between_columns_of_one_name_stands_in_their_titles() -> None:
    keys = [key(steps="8"), key(steps="20"), key(steps="20", mode="compiled")]
    assert titles_of(["SDXL"] * 3, keys) == ["SDXL (steps 8)", "SDXL (steps 20)", "SDXL (steps 20, compiled)"]


def test_two_folders_of_one_name_are_told_apart_by_as_much_of_their_paths_as_it_takes() -> None:
    keys = [key("hub", model="./a/x"), key("hub", model="./b/x"), key("hub", model="./c/b/x")]
    assert titles_of(["x"] * 2, keys[:2]) == ["x (a/x)", "x (b/x)"]
    assert titles_of(["x"] * 3, keys)[0] == "x (a/x)"
    assert len(set(titles_of(["x"] * 3, keys))) == 3


def test_the_same_column_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="names SDXL twice"):
        titles_of(["SDXL", "SDXL"], [key(steps="8"), key(steps="8")])


def test_one_name_of_two_families_is_refused() -> None:
    with pytest.raises(ValueError, match="SDXL would be two columns"):
        titles_of(["SDXL", "SDXL"], [key(), key("hub", model="./SDXL")])


@pytest.mark.parametrize(
    ("recorded", "matches"),
    [
        ({"FAMILY": "sdxl", "SDXL_STEPS": "8", "MODE": "eager"}, True),
        ({"FAMILY": "sdxl", "SDXL_STEPS": "8", "MODE": "eager", "SEED": "7"}, True),
        ({"FAMILY": "sdxl", "SDXL_STEPS": "9", "MODE": "eager"}, False),
        ({"FAMILY": "pixart", "SDXL_STEPS": "8", "MODE": "eager"}, False),
        ({"FAMILY": "sdxl", "MODE": "eager"}, True),
        ({"FAMILY": "sdxl", "SDXL_STEPS": "8"}, False),
    ],
)
def test_a_key_matches_a_record_where_what_it_lacks_is_the_default(recorded: Mapping[str, str], matches: bool) -> None:
    assert key(steps="8").matches(recorded, {"SDXL_STEPS": "8", "MODE": "compiled"}) == matches


def test_equal_keys_have_one_digest_and_others_another() -> None:
    assert key(steps="8").digest == key(steps="8").digest
    assert key(steps="8").digest != key(steps="9").digest


def test_a_new_folder_is_called_as_it_always_was() -> None:
    assert folder_name("VAR-d16", {"MODE": "compiled"}) == "VAR-d16-compiled"
    assert folder_name("VAR-d16", {"MODE": "eager"}, held_out=True) == "VAR-d16-held-out"
    assert folder_name("Grey+A", {"MODE": "compiled"}, held_out=True) == "Grey+A-compiled-held-out"


def test_the_last_axis_varies_fastest() -> None:
    found = list(points([Axis("mode", ("eager", "compiled")), Axis("sdxl_steps", (4, 8))]))
    assert [tuple(point.values()) for point in found] == [
        ("eager", 4), ("eager", 8), ("compiled", 4), ("compiled", 8),
    ]  # fmt: skip


def test_an_option_of_one_family_varies_in_its_columns_alone() -> None:
    sdxl, var = (next(family for family in models.FAMILIES if family.key == name) for name in ("sdxl", "var"))
    axis = Axis("sdxl_steps", (4, 8))
    assert axis.concerns(sdxl, models.FAMILIES)
    assert not axis.concerns(var, models.FAMILIES)
    assert Axis("batch_size", (1, 2)).concerns(var, models.FAMILIES)
