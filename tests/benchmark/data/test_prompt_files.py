"""Files of prompts: what each kind gives, and what is refused with one line that names the place."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmark.data.prompts import Prompt
from benchmark.data.sources.prompt_file import MOST_CHARACTERS, read_prompt_file

BOM = b"\xef\xbb\xbf"


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path, column: str = "") -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the caller looks at what it says)
        read_prompt_file(path, column)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return str(caught.value)


def test_a_text_file_has_a_prompt_a_line_and_blank_lines_are_counted(tmp_path: Path) -> None:
    found = read_prompt_file(write(tmp_path, "mine.txt", "a cat\n\n  a dog, ünï \n \na\u2028b\n"))
    assert found.prompts == (Prompt(0, "a cat"), Prompt(2, "a dog, ünï"), Prompt(4, "a\u2028b"))
    assert (found.name, found.label_names, found.exhausted) == ("mine", (), True)
    assert found.note == "2 blank lines of mine.txt skipped"
    assert read_prompt_file(write(tmp_path, "mine.txt", "a cat\na dog")).note == ""


@pytest.mark.parametrize("content", ["a cat\r\na dog\r\n", "a cat\ra dog", BOM + b"a cat\na dog\n\n"])
def test_line_ends_byte_order_marks_and_blank_lines_change_no_prompt_and_no_identity(
    tmp_path: Path, content: str | bytes
) -> None:
    plain = read_prompt_file(write(tmp_path, "mine.txt", "a cat\na dog\n"))
    other = read_prompt_file(write(tmp_path, "mine.txt", content))
    assert [prompt.text for prompt in other.prompts] == ["a cat", "a dog"]
    assert other.identity == plain.identity
    changed = read_prompt_file(write(tmp_path, "mine.txt", "a cat\na god\n"))
    assert changed.identity != plain.identity


def test_json_lines_give_prompt_label_and_metadata(tmp_path: Path) -> None:
    rows = [
        {"text": "not this", "prompt": " a cat ", "label": 3, "parts": ["ear", 2], "note": "", "none": None},
        {"prompt": "", "kind": "blank"},
        {"prompt": "half \ud800", "label": "12", "kind": "animal"},
    ]
    found = read_prompt_file(write(tmp_path, "mine.jsonl", "\n\n".join(json.dumps(row) for row in rows)))
    assert found.prompts == (
        Prompt(0, "a cat", 3, {"text": "not this", "parts": '["ear", 2]'}),
        Prompt(2, "half \ufffd", 12, {"kind": "animal"}),
    )
    assert found.note == "1 blank row of mine.jsonl skipped"


def test_a_csv_may_quote_commas_line_ends_and_quotes(tmp_path: Path) -> None:
    text = 'class_label,Prompt,kind\n7,"a cat, ""the"" cat",animal\n,"two\nlines",\n'
    found = read_prompt_file(write(tmp_path, "mine.csv", BOM + text.encode()))
    assert found.prompts == (Prompt(0, 'a cat, "the" cat', 7, {"kind": "animal"}), Prompt(1, "two\nlines"))


def test_in_a_tsv_quotes_are_part_of_the_text_but_for_those_of_a_writer_of_csv(tmp_path: Path) -> None:
    rows = ['a "STOP" sign', '"STOP", it says', '"a ""STOP"" sign"', '"Hello"', 'a, b \\t "']
    text = "Prompt\tCategory\n" + "".join(f"{row}\tSigns\n" for row in rows)
    found = read_prompt_file(write(tmp_path, "mine.tsv", text))
    assert [prompt.text for prompt in found.prompts] == [*rows[:2], 'a "STOP" sign', *rows[3:]]
    assert {prompt.metadata["Category"] for prompt in found.prompts} == {"Signs"}


@pytest.mark.parametrize(
    ("header", "named", "text"),
    [
        ("prompt,text,caption", "", "1"),
        ("caption,text,other", "", "2"),
        ("Caption,other,more", "", "1"),
        ("prompt,text,caption", "caption", "3"),
        ("a,b,c", "b", "2"),
    ],
)
def test_the_prompts_column_is_named_or_the_first_that_is_known(
    tmp_path: Path, header: str, named: str, text: str
) -> None:
    [prompt] = read_prompt_file(write(tmp_path, "mine.csv", f"{header}\n1,2,3\n"), named).prompts
    assert prompt.text == text
    assert sorted(prompt.metadata.values()) == sorted({"1", "2", "3"} - {text})


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "holds no prompts"),
        ("a.txt", b"\n \n", "holds no prompts"),
        ("a.txt", b"good\ncaf\xe9\n", "line 2 is not UTF-8"),
        ("a.txt", "good".encode("utf-16") + b"x", "is not UTF-8, and not UTF-16 as its byte order mark says"),
        ("a.csv", "prompt\ncafé".encode("cp1252"), "line 2 is not UTF-8 .*save it as UTF-8 .of a spreadsheet"),
        ("a.txt", "good\nbad".encode("utf-16-le"), "line 1 holds a NUL"),
        (
            "a.txt",
            b"good\n" + b"x" * (MOST_CHARACTERS + 1),
            "line 2 has 10,001 characters; a prompt has at most 10,000",
        ),
        ("a.csv", b"", "holds no prompts"),
        ("a.csv", b"prompt\n", "holds no prompts"),
        ("a.csv", b"prompt\na cat, on a mat\n", "line 2 has 2 cells where the header has 1"),
        ("a.csv", b"prompt,kind\na cat,animal\na dog\n", "line 3 has 1 cells where the header has 2"),
        ("a.csv", b'prompt\n"' + b"a" * 200_000 + b'"\n', "line 2 is not CSV"),
        ("a.csv", b"words,kind\na cat,animal\n", "none of the columns prompt, text, caption.*CAPTION_COLUMN.*words"),
        ("a.csv", b"prompt,label\na cat,animal\n", "line 2 has animal in column 'label'.*whole number"),
        ("a.csv", b"prompt,label\na cat,-1\n", "line 2 has -1 in column 'label'"),
        ("a.csv", b"prompt,label\na cat,1234567890\n", "line 2 has 1234567890 in column 'label'"),
        ("a.csv", b"file_name,text\na.png,a cat\n", "is a table of images .*file_name.*give its folder"),
        ("a.tsv", b'prompt\tkind\n"two\nlines"\tx\n', "line 2 has 1 cells where the header has 2"),
        ("a.jsonl", b'{"prompt": "a"}\n[1]\n', "line 2 is no JSON object"),
        ("a.jsonl", b'{"prompt": "a"}\n{"prompt"\n', "line 2 is not JSON"),
        ("a.jsonl", b'{"prompt": "a"}\n\n{"prompt": 7}\n', "line 3 has no text in column 'prompt'"),
        ("a.jsonl", b'{"prompt": "a"}\n{"text": "b"}\n', "line 2 has no text in column 'prompt'"),
        ("a.jsonl", b'{"prompt": "a", "label": true}\n', "line 1 has True in column 'label'"),
        ("a.jsonl", b'{"prompt": "a", "label": 1.5}\n', "line 1 has 1.5 in column 'label'"),
    ],
)
def test_what_cannot_be_a_file_of_prompts_is_one_line(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    message = refusal(write(tmp_path, name, content))
    assert re.search(says, message)
    assert name in message


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a café\n猫\n"),
        ("a.csv", "Prompt;label\r\na café;3\r\n猫;\r\n"),
        ("a.csv", "sep=\t\nlabel\tdescription\n3\ta café\n\t猫\n"),
        ("a.tsv", "text\tkind\na café\tx\n猫\ty\n"),
        ("a.jsonl", '{"text": "a café"}\n{"text": null}\n{"text": "猫"}\n'),
    ],
)
def test_prompts_are_read_by_their_mark_and_by_what_separates_their_cells(
    tmp_path: Path, name: str, content: str, encoding: str
) -> None:
    found = read_prompt_file(write(tmp_path, name, content.encode(encoding)))
    assert [prompt.text for prompt in found.prompts] == ["a café", "猫"]
    assert found.note == ("1 blank row of a.jsonl skipped" if name == "a.jsonl" else "")


def test_a_table_with_names_of_images_is_told_by_its_cells_and_not_by_a_column_alone(tmp_path: Path) -> None:
    images = write(tmp_path, "a.csv", "file;caption\nIMG_1.JPG;a dog\n")
    assert "is a table of images (it has a column file): give its folder" in refusal(images)
    prompts = read_prompt_file(write(tmp_path, "b.csv", "image,prompt\n7,a dog\n"))
    assert prompts.prompts == (Prompt(0, "a dog", metadata={"image": "7"}),)


def test_a_column_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    table = write(tmp_path, "a.csv", "prompt\na cat\n")
    assert "CAPTION_COLUMN=blurb is no column of" in refusal(table, "blurb")
    text = write(tmp_path, "a.txt", "a cat\n")
    assert "has no columns; leave it out" in refusal(text, "blurb")
