# SPDX-License-Identifier: LGPL-2.1-or-later
"""Reading TOML and finding lines."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preroot.errors import RecipeError
from preroot.recipe.toml import Key, dotted, parse, positions, quoted, read_text

TRICKY = '''\
# a = 1
top = "[x]" # ] = comment
"quoted key".'lit.eral'.bare = 1
"esc\\"aped\\u0041" = 2
long = """
# not a comment
[not.a.table]
quotes at the end: """""
literal = \'\'\'
it''s = 3\'\'\'\'
after = 4

[table . "sub"]  # spaces
list = [ # comment ]
  1, [2,
  3],
  "]", # more
]
inline = { a = 1, b.c = { d = "}" }, e = [
  { f = 5 } ] }
date = 2026-11-20 13:00:00
[[array]]
x = 1
[[array]]
x = 2
[array.inner]
y = 3
[[array.deep]]
z = 4
[[array.deep]]
z = 5
'''


def test_positions_of_tricky_text() -> None:
    found = positions(TRICKY)
    expected: dict[Key, int] = {
        ("top",): 2,
        ("quoted key", "lit.eral", "bare"): 3,
        ('esc"apedA',): 4,
        ("long",): 5,
        ("literal",): 9,
        ("after",): 11,
        ("table", "sub"): 13,
        ("table", "sub", "list", 0): 15,
        ("table", "sub", "list", 1, 1): 16,
        ("table", "sub", "list", 2): 17,
        ("table", "sub", "inline", "b", "c", "d"): 19,
        ("table", "sub", "inline", "e", 0, "f"): 20,
        ("table", "sub", "date"): 21,
        ("array", 0, "x"): 23,
        ("array", 1, "x"): 25,
        ("array", 1, "inner", "y"): 27,
        ("array", 1, "deep", 0, "z"): 29,
        ("array", 1, "deep", 1): 30,
        ("array", 1, "deep", 1, "z"): 31,
    }
    assert {key: found.get(key) for key in expected} == expected


def test_positions_knows_every_key_of_tricky_text() -> None:
    assert all_keys(tomllib.loads(TRICKY)) <= set(positions(TRICKY))


def test_positions_with_dos_line_ends() -> None:
    assert positions("a = 1\r\n\r\nb = [\r\n 2 ]\r\n")[("b", 0)] == 4


def all_keys(value: Any, key: Key = ()) -> set[Key]:
    keys = {key} if key else set()
    if isinstance(value, dict):
        for name, each in value.items():
            keys |= all_keys(each, (*key, name))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            keys |= all_keys(each, (*key, number))
    return keys


names = st.text(st.sampled_from("ab-_1.\"'\\ é#[]={}"), min_size=1, max_size=4)
strings = st.text(st.sampled_from("ab\"'\\\n#[]={}.,é\x7f"), max_size=8)
values = st.recursive(
    st.integers(-9, 9) | st.booleans() | strings,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def inline(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(name)} = {inline(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",\n  ".join(inline(each) for each in value) + "]"
    return str(value)


@settings(deadline=None)
@given(st.dictionaries(names, values, max_size=5), st.dictionaries(names, values, max_size=3))
def test_positions_of_written_documents(top: dict[str, Any], table: dict[str, Any]) -> None:
    lines: list[str] = []
    starts: dict[Key, int] = {}
    for prefix, body in (((), top), (("the table",), table)):
        if prefix:
            lines.append('["the table"]')
        for name, value in body.items():
            starts[(*prefix, name)] = len(lines) + 1
            lines += f"{quoted(name)} = {inline(value)}".split("\n")
    text = "\n".join(lines)
    if "the table" in top:
        return
    assert tomllib.loads(text) == {**top, "the table": table}
    found = positions(text)
    assert all_keys({**top, "the table": table}) == set(found)
    assert {key: found[key] for key in starts} == starts


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        data = parse(text, "FILE")
    except RecipeError as error:
        assert str(error).startswith("FILE")
        return
    assert all_keys(data) <= set(positions(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nb =\n", "FILE:2: "),
        ("a = 1\n\n[a]\n", "FILE:3: "),
        ("[part.base]\n[part.base]\n", "FILE:2: "),
        ("a = [\n", "FILE:1: "),
        ("a = " + "[" * 5000, "FILE: nested too deeply"),
        ("a = " + "[" * 40 + "]" * 40, "FILE: nested too deeply"),
        (".".join(["a"] * 40) + " = 1", "FILE: nested too deeply"),
        ("a = 9223372036854775808", "FILE: the number 9223372036854775808 is beyond 64 bits"),
        ("a = " + "9" * 5000, "FILE: "),
        ("\na = '" + "x" * 70000 + "'", "FILE:2: the line is longer than"),
    ],
)
def test_refused_text(text: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(text, "FILE")
    assert str(caught.value).startswith(message)
    assert caught.value.hint


def test_files_that_are_no_text_files(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"# ok\na = '\xe4'\n")
    (tmp_path / "large").write_bytes(b"#" * (1 << 21))
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, message in (
        ("latin", "latin:2: not UTF-8 (byte 0xe4)"),
        ("large", "large is longer than"),
        ("fifo", "fifo is not a regular file"),
        ("loop", "loop cannot be read: Too many levels of symbolic links"),
        ("missing", "missing does not exist"),
        (".", " is a directory"),
        ("nul\0", " cannot be read: "),
    ):
        with pytest.raises(RecipeError) as caught:
            read_text(tmp_path / name)
        assert message in str(caught.value), name


def test_dotted() -> None:
    assert dotted(("part", "base", "features")) == "part.base.features"
    assert dotted(("file", 0, "path")) == "file[0].path"
    assert dotted(("modprobe", "options", "a.b c")) == 'modprobe.options."a.b c"'
