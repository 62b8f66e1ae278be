"""Options that are JSON objects: one recorded form, and one line for what is none."""

from __future__ import annotations

import pytest

from models.diffusers_hub import Options
from models.json_options import canonical, read_object, read_texts


def test_equal_objects_have_one_text() -> None:
    assert canonical('{"b": [1, 2],\n "a": "é"}') == canonical('{"a":"\\u00e9","b":[1,2]}') == '{"a":"é","b":[1,2]}'
    assert canonical("") == canonical(" {} ") == ""
    assert Options(id="a/b", components='{ "vae": "x" }') == Options(id="a/b", components='{"vae":"x"}')


def test_empty_text_is_an_empty_object() -> None:
    assert read_object("") == read_texts(" ") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is no JSON object"),
        ("vae=./x", "is no JSON object"),
        ("[1]", "is a JSON list"),
        ('{"a": 1, "a": 2}', "it names a twice"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ("[" * 100_000, "is no JSON object"),
    ],
)
def test_what_is_no_object_is_told_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        read_object(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert canonical(text) == text


@pytest.mark.parametrize("text", ['{"vae": 3}', '{"vae": ""}', '{"vae": {"x": "y"}}'])
def test_component_that_is_no_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"vae is .*: expected a text, such as a folder"):
        read_texts(text)
