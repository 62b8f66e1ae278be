"""The table of diffusers' pipelines: it decides every class that the installed diffusers has, and says what is so."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest

from models.pipelines.facts import FACTS, facts_by_signature, facts_of, judge
from models.pipelines.table import TEXT_TO_IMAGE
from scripts.document_pipelines import DOCUMENT, document

NEGATIVE_UNUSED = {"UniDiffuserPipeline"}  # it encodes one, and mixes in noise
# What only the table knows: a package that one asks for, what the output of another is.
BEYOND_SIGNATURES = {"Cosmos2TextToImagePipeline", "StableDiffusionLDM3DPipeline"}


def pipelines() -> dict[str, Any]:
    """Return the classes of pipelines that diffusers has, those included that lack a package here."""
    found = {name: getattr(diffusers, name) for name in dir(diffusers)}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type)
        and kind is not diffusers.DiffusionPipeline
        and (issubclass(kind, diffusers.DiffusionPipeline) or ("dummy" in kind.__module__ and "Pipeline" in name))
        and "Modular" not in name
    }


def signature(kind: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(kind.__call__).parameters)


def test_every_pipeline_of_diffusers_is_in_the_table_and_one_of_a_later_release_is_judged_by_its_call() -> None:
    kinds = pipelines()
    assert len(kinds) > 290
    new = set(kinds) - set(FACTS)
    if diffusers.__version__.startswith("0.42."):  # the release that the table was written for
        assert new == set()
        assert set(FACTS) - set(kinds) == set()
    for name in new:
        facts = facts_by_signature(name, signature(kinds[name]))
        assert facts.refusal or facts.notes


def test_at_least_49_classes_run() -> None:
    assert sum(not facts.refusal for facts in FACTS.values()) >= 49


@pytest.mark.parametrize("name", sorted(TEXT_TO_IMAGE))
def test_what_the_table_says_of_a_call_is_so_in_diffusers(name: str) -> None:
    kind = getattr(diffusers, name)
    facts, taken = TEXT_TO_IMAGE[name], signature(kind)
    assert {*facts.guidance, *facts.steps} <= set(taken)
    assert not facts.fixed or set(facts.fixed) & set(taken)
    assert facts.scale_of_negative in ("", *taken)
    assert facts.negative == ("negative_prompt" in taken and name not in NEGATIVE_UNUSED)
    if facts.guidance:
        assert taken[facts.guidance[0]].default == facts.default
    if facts.negative_scale:
        assert taken[facts.negative_scale].default == facts.off
    parts = inspect.signature(kind.__init__).parameters
    assert facts.safety == ("safety_checker" in parts)
    assert "scheduler" in parts or not facts.scheduler
    encoders = {part.replace("tokenizer", "text_encoder") for part in parts} | set(parts)
    assert set(facts.tokens) <= encoders


def test_the_rule_for_unknown_classes_decides_the_known_ones_alike() -> None:
    apart = {
        name
        for name, kind in pipelines().items()
        if "dummy" not in kind.__module__ and bool(judge(name, signature(kind))) != bool(FACTS[name].refusal)
    }
    assert apart == BEYOND_SIGNATURES


def made(**parameters: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters of a call with these defaults; ... for none."""
    return {
        name: inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if default is ... else default,
        )
        for name, default in parameters.items()
    }


@pytest.mark.parametrize(
    ("name", "more", "reason"),
    [
        ("NewPipeline", {"num_frames": 16}, "makes video or sound"),
        ("NewVideoPipeline", {}, "makes video or sound"),
        ("NewPipeline", {"audio_length": 1}, "makes video or sound"),
        ("NewPipeline", {"strength": 0.8}, "changes an image"),
        ("NewEditPipeline", {"image": None}, "changes an image"),
        ("NewPipeline", {"control_image": None}, "follows a control image"),
        ("NewPipeline", {"image": ...}, "needs image beside the prompt"),
        ("NewUpscalePipeline", {}, "enlarges or refines an image"),
        ("NewPipeline", {"output_type": "pt"}, "makes no images"),
        ("NewPipeline", {"image": None}, ""),
    ],
)
def test_a_class_that_is_not_in_the_table_is_judged_by_its_call(name: str, more: Any, reason: str) -> None:
    assert facts_of(name) is None
    taken = made(**{"prompt": None, "output_type": "pil", "guidance_scale": 4.0, **more})
    assert facts_by_signature(name, taken).refusal == reason


def test_an_unknown_class_is_asked_one_request_at_a_time_for_pil_images() -> None:
    taken = made(prompt=None, negative_prompt=None, true_cfg_scale=4.0, output_type="pil", use_pe=True)
    facts = facts_by_signature("NewPipeline", taken)
    assert facts.alone
    assert not facts.tensors
    assert facts.guidance == ("true_cfg_scale",)
    assert facts.plain_negative == " "
    assert facts.fixed == {"use_pe": False}
    assert any("does not know this class" in note for note in facts.notes)


def test_the_table_is_read_without_torch_or_diffusers() -> None:
    code = (
        "import sys, models.diffusers_hub, models.pipelines.facts;"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    root = Path(__file__).parents[3]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_document_of_pipelines_is_what_the_program_decides_by() -> None:
    assert DOCUMENT.read_text() == document(), "run python scripts/document_pipelines.py"
