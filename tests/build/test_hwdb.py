# SPDX-License-Identifier: LGPL-2.1-or-later
"""The hardware database: compiled of what features take and the recipe adds, and of nothing else."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest
from fixture_types import LockMaker
from hwdb_reader import read_hwdb
from hypothesis import given, settings
from hypothesis import strategies as st

from preroot.engine import Engine, Overrides
from preroot.errors import PrerootError
from preroot.run import find_tool, run
from preroot.tree.hwdb import HWDB_BIN, compile_hwdb, hwdb_key
from preroot.tree.model import Entry

SOURCE = "usr/lib/udev/hwdb.d/a.hwdb"
OWN = """file=[{path="/etc/udev/hwdb.d/99-mine.hwdb", content='''
evdev:name:My Keyboard:*
 KEYBOARD_KEY_70001=b
'''}]"""


def tree(engine: Engine, debian_lock: LockMaker, release: str, *sets: str) -> tuple[dict[str, Entry], dict[str, str]]:
    loaded = engine.load(None, Overrides(set=(f"distribution.release={release}", *sets)))
    plan = engine.plan(loaded, engine.lock(loaded, debian_lock(release, "amd64", "features.input.hwdb=true")))
    return {path: entry for part in plan.parts for path, entry in part.tree.entries.items()}, plan.lock.tools


@pytest.mark.parametrize("release", ["trixie", "bookworm", pytest.param("sid", marks=pytest.mark.matrix)])
def test_the_keyboards_and_nothing_else(engine: Engine, debian_lock: LockMaker, release: str) -> None:
    found, tools = tree(engine, debian_lock, release, "features.input.hwdb=true")
    assert not [path for path in found if "/hwdb.d/" in path]
    made = found[HWDB_BIN]
    assert made.size < 200_000
    assert {(each.kind, each.asker) for each in made.reasons} == {("feature", "input"), ("generated", "preroot")}
    patterns = read_hwdb(engine.read(made))
    assert patterns["evdev:atkbd:dmi:bvn*:bvr*:bd*:svnAcer*:pn*:*"]["KEYBOARD_KEY_86"] == "wlan"
    assert {pattern.partition(":")[0] for pattern in patterns} == {"evdev"}
    assert re.match(r"2\d\d\.\d", tools["systemd-hwdb"])


def test_no_feature_no_database_and_no_tool(
    engine: Engine, debian_lock: LockMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("preroot.run.find_tool", lambda name: None if name == "systemd-hwdb" else find_tool(name))
    found, tools = tree(engine, debian_lock, "trixie")
    assert HWDB_BIN not in found
    assert "systemd-hwdb" not in tools


def test_what_the_recipe_adds(engine: Engine, debian_lock: LockMaker) -> None:
    both, _ = tree(engine, debian_lock, "trixie", "features.input.hwdb=true", OWN)
    patterns = read_hwdb(engine.read(both[HWDB_BIN]))
    assert patterns["evdev:name:My Keyboard:*"] == {"KEYBOARD_KEY_70001": "b"}
    assert len(patterns) > 100
    alone, _ = tree(engine, debian_lock, "trixie", OWN)
    assert set(read_hwdb(engine.read(alone[HWDB_BIN]))) == {"evdev:name:My Keyboard:*"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            'exclude=["usr/lib/udev/hwdb.d/60-keyboard.hwdb"]',
            "60-keyboard.hwdb is excluded, and feature input takes it",
        ),
        (OWN.replace("evdev:name:My Keyboard:*\n", ""), "/etc/udev/hwdb.d/99-mine.hwdb:1: Match expected"),
        (f'file=[{{path="{HWDB_BIN}", content="x"}}]', f"{HWDB_BIN} is of recipe, and is to be compiled as well"),
    ],
)
def test_what_can_not_be(engine: Engine, debian_lock: LockMaker, value: str, message: str) -> None:
    with pytest.raises(PrerootError, match=re.escape(message)):
        tree(engine, debian_lock, "trixie", "features.input.hwdb=true", value)


def test_the_package_is_named_where_the_tool_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preroot.run.find_tool", lambda _: None)
    with pytest.raises(PrerootError, match="systemd-hwdb is needed to compile the hardware database") as error:
        compile_hwdb({SOURCE: b"a:*\n A=1\n"})
    assert error.value.hint == "apt-get install udev"


def test_the_same_bytes_wherever_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {SOURCE: b"a:*\n A=1\n", "etc/udev/hwdb.d/b.hwdb": b"a:*\n A=2\n"}
    deeper = tmp_path / "a directory" / "below"
    deeper.mkdir(parents=True)
    made = compile_hwdb(dict(reversed(files.items())))
    monkeypatch.setenv("TMPDIR", str(deeper))
    assert made == compile_hwdb(files)
    assert read_hwdb(made) == {"a:*": {"A": "2"}}
    assert hwdb_key({"a": "1"}, "252") != hwdb_key({"a": "1"}, "257")


_WORDS = st.text(string.ascii_letters + string.digits + "*?:_-", min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(_WORDS, st.dictionaries(_WORDS.map(lambda word: "K" + word), _WORDS, min_size=1, max_size=3),
                       min_size=1, max_size=8))  # fmt: skip
def test_every_entry_is_found_again(wanted: dict[str, dict[str, str]]) -> None:
    text = "".join(
        f"{pattern}\n" + "".join(f" {key}={value}\n" for key, value in values.items()) + "\n"
        for pattern, values in wanted.items()
    )
    assert read_hwdb(compile_hwdb({SOURCE: text.encode()})) == wanted


def test_the_tool_says_its_version() -> None:
    assert re.search(rb"systemd 2\d\d", run(["systemd-hwdb", "--version"], purpose="to test"))
