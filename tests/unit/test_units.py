# SPDX-License-Identifier: LGPL-2.1-or-later
"""Unit files and their command lines, by systemd.syntax(7) and systemd.service(5)."""

from __future__ import annotations

import shlex

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.packages.learn import learn
from preroot.packages.learn.units import ExecLine, read_unit, split_exec, split_exec_lines, split_words
from preroot.packages.model import Unit

EXAMPLE = b"""\xef\xbb\xbf# a comment
; another
Lost=outside a section
[Section A]
KeyOne=value 1
KeyTwo=value 2

  [Section B]
  Setting="something" "some thing" "\xe2\x80\xa6"
KeyTwo=value 2 \\
       value 2 continued

[Section C]
KeyThree=value 3\\
# this line is ignored
  ; this one too
       value 3 continued
[broken
Lost=too
[Section D]
ExecStart=
ExecStart = /bin/x  
no equals sign
Even=two \\\\
Odd=three \\\\\\
 more
=nothing
Last=cut \\"""  # noqa: W291


def test_the_rules_of_systemd_syntax() -> None:
    assert read_unit(EXAMPLE).settings == (
        ("Section A", "KeyOne", "value 1"),
        ("Section A", "KeyTwo", "value 2"),
        ("Section B", "Setting", '"something" "some thing" "…"'),
        ("Section B", "KeyTwo", "value 2         value 2 continued"),
        ("Section C", "KeyThree", "value 3        value 3 continued"),
        ("Section D", "ExecStart", ""),
        ("Section D", "ExecStart", "/bin/x"),
        ("Section D", "Even", "two \\\\"),
        ("Section D", "Odd", "three \\\\  more"),
        ("Section D", "Last", "cut"),
    )


def test_an_empty_line_ends_a_continuation() -> None:
    assert read_unit(b"[A]\nB=c \\\n\nD=e\n").settings == (("A", "B", "c"), ("A", "D", "e"))


NAMES = st.from_regex(r"[A-Z][A-Za-z0-9-]{0,10}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zs", "Zl", "Zp"), exclude_characters="\\")).filter(
    lambda text: text.strip() == text
)


@given(st.lists(st.tuples(NAMES, NAMES, VALUES)))
def test_what_was_written_is_read_back(settings: list[tuple[str, str, str]]) -> None:
    text = "".join(f"[{section}]\n{key}={value}\n" for section, key, value in settings)
    assert read_unit(text.encode()).settings == tuple(settings)


@given(st.binary())
def test_random_bytes_raise_nothing_and_can_be_kept(noise: bytes) -> None:
    unit = read_unit(b"[A]\n" + noise)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(unit), type=Unit) == unit


@pytest.mark.parametrize(
    ("line", "commands"),
    [
        ("/bin/echo one two", [ExecLine("", "/bin/echo", ("one", "two"))]),
        ("-/bin/false", [ExecLine("-", "/bin/false", ())]),
        ("-@!!:/bin/x argv0 a", [ExecLine("-@!!:", "/bin/x", ("a",))]),
        ("|+/bin/x", [ExecLine("|+", "/bin/x", ())]),
        ('/bin/echo "one two" \'three "four"\'', [ExecLine("", "/bin/echo", ("one two", 'three "four"'))]),
        (r'/bin/echo "a\"b" c\x20d \u00e9\101 \q', [ExecLine("", "/bin/echo", ('a"b', "c d", "éA", "\\q"))]),
        ('"/opt/my tool" x', [ExecLine("", "/opt/my tool", ("x",))]),
        ('/bin/sh -c "a ; b"', [ExecLine("", "/bin/sh", ("-c", "a ; b"))]),
        ("/bin/a x ; -/bin/b y", [ExecLine("", "/bin/a", ("x",)), ExecLine("-", "/bin/b", ("y",))]),
        (r"/bin/find x \; y", [ExecLine("", "/bin/find", ("x", ";", "y"))]),
        ('/bin/a ";" b', [ExecLine("", "/bin/a", (";", "b"))]),
        ("; ;", []),
        ("", []),
        ("modprobe %i $X", [ExecLine("", "modprobe", ("%i", "$X"))]),
        ("/bin/x 'unclosed one", [ExecLine("", "/bin/x", ("unclosed one",))]),
        ("/bin/x trailing\\", [ExecLine("", "/bin/x", ("trailing\\",))]),
        (r"/bin/x \ud800 \U00110000 \x00", [ExecLine("", "/bin/x", (r"\ud800", r"\U00110000", r"\x00"))]),
    ],
)
def test_command_lines(line: str, commands: list[ExecLine]) -> None:
    assert list(split_exec_lines(line)) == commands
    assert split_exec(line) == (commands[0] if commands else ExecLine("", "", ()))


@given(
    st.lists(
        st.text(
            st.characters(codec="ascii", min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\"), min_size=1
        )
    )
)
def test_words_quoted_as_in_a_shell_are_split_as_in_a_shell(words: list[str]) -> None:
    line = shlex.join(words)
    assert [word for word, _ in split_words(line)] == shlex.split(line) == words


@given(st.text())
def test_random_command_lines_raise_nothing(line: str) -> None:
    for command in split_exec_lines(line):
        msgspec.msgpack.encode([command.path, *command.arguments])


@pytest.mark.parametrize(
    "path",
    [
        "usr/lib/systemd/system/a.service", "lib/systemd/system/a@.socket", "etc/systemd/system/a.mount",
        "usr/lib/systemd/system/a.service.d/10-x.conf", "usr/lib/systemd/system/service.d/x.conf",
        "usr/lib/systemd/system/a-.slice.d/x.conf",
    ],
)  # fmt: skip
def test_where_units_are(path: str) -> None:
    assert learn(path, 0o644, b"[Unit]\nDescription=x\n") == Unit((("Unit", "Description", "x"),))


@pytest.mark.parametrize(
    "path",
    [
        "usr/lib/systemd/user/a.service", "usr/lib/systemd/system/a.txt", "usr/share/systemd/system/a.service",
        "usr/lib/systemd/system/a.service.d/x", "usr/lib/systemd/system/a.service.wants/b.service",
    ],
)  # fmt: skip
def test_what_is_no_unit(path: str) -> None:
    assert learn(path, 0o644, b"[Unit]\nDescription=x\n") is None
