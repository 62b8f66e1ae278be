"""The zoo has each class of diffusers that the program runs, and says of it what the program's table says."""

from __future__ import annotations

import pytest
from zoo_pipelines import ENTRIES

from models.pipelines.facts import FACTS

RUNS = {name for name, facts in FACTS.items() if not facts.refusal}


def test_zoo_has_each_class_that_runs() -> None:
    assert set(ENTRIES) == RUNS


def test_at_least_forty_two_classes_run() -> None:
    assert len(ENTRIES) >= 42


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_table_names_the_guidance_that_the_class_documents(name: str) -> None:
    assert bool(FACTS[name].guidance) == bool(ENTRIES[name].guidance)
    # A guider is a component that guides in the place of an argument, where a checkpoint has it.
    assert not ENTRIES[name].guidance or ENTRIES[name].guidance in (*FACTS[name].guidance, "guider")
