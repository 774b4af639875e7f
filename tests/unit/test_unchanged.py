# SPDX-License-Identifier: LGPL-2.1-or-later
"""The note of a build: what undoes it, and that a damaged one is none."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot import unchanged
from preroot.unchanged import Stamp, Watch, recall, remember, stamp, stamp_path

COMMAND = ("build", "my.toml")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe that was written some time before the build: a stamp shows every later change."""
    path = tmp_path / "my.toml"
    path.write_text("level = 1\n")
    settle()
    return path


def settle() -> None:
    time.sleep(2 * unchanged._TICK_NS / 1e9)


def noted(cache: Path, inputs: dict[Path, Stamp], outputs: dict[Path, Stamp], watch: Watch) -> bool:
    note = watch.note(inputs, outputs, "said\n")
    remember(cache, COMMAND, note)
    return note is not None


def test_what_is_as_it_was_is_recalled(recipe: Path, tmp_path: Path) -> None:
    watch = Watch()
    inputs = {recipe: stamp(recipe), tmp_path / "drop-in.toml": None}
    image = tmp_path / "image"
    image.write_bytes(b"new")
    assert noted(tmp_path / "cache", inputs, {image: stamp(image)}, watch)
    assert recall(tmp_path / "cache", COMMAND) == "said\n"
    assert recall(tmp_path / "cache", (*COMMAND, "--quiet")) is None
    (tmp_path / "drop-in.toml").touch()
    assert recall(tmp_path / "cache", COMMAND) is None


def test_a_recipe_that_is_saved_while_the_build_runs(recipe: Path, tmp_path: Path) -> None:
    """It is read, then saved, then the build ends: the note is of what was read."""
    watch = Watch()
    inputs = {recipe: stamp(recipe)}
    recipe.write_text("level = 2\n")
    assert noted(tmp_path / "cache", inputs, {}, watch)
    assert recall(tmp_path / "cache", COMMAND) is None


def test_a_recipe_that_is_saved_just_before_it_is_read(recipe: Path, tmp_path: Path) -> None:
    """One more change within the same tick of the kernel's clock would not show: nothing is noted."""
    watch = Watch()
    recipe.write_text("level = 2\n")
    assert not noted(tmp_path / "cache", {recipe: stamp(recipe)}, {}, watch)
    assert recall(tmp_path / "cache", COMMAND) is None


def test_a_change_that_hides_its_time(recipe: Path, tmp_path: Path) -> None:
    """Same size, same inode, and the old modification time given back: the change time tells."""
    watch = Watch()
    assert noted(tmp_path / "cache", {recipe: stamp(recipe)}, {}, watch)
    before = recipe.stat()
    with recipe.open("r+b") as file:
        file.write(b"level = 2\n")
    os.utime(recipe, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert recipe.stat().st_mtime_ns == before.st_mtime_ns and recipe.stat().st_size == before.st_size
    assert recall(tmp_path / "cache", COMMAND) is None


@pytest.mark.parametrize("seconds", [-(1 << 31), -1, 0, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 33])
def test_times_that_do_not_fit_in_32_bits(recipe: Path, tmp_path: Path, seconds: int) -> None:
    os.utime(recipe, (seconds, seconds))
    settle()
    watch = Watch()
    assert noted(tmp_path / "cache", {recipe: stamp(recipe)}, {}, watch)
    assert recall(tmp_path / "cache", COMMAND) == "said\n"
    os.utime(recipe, (seconds + 1, seconds + 1))
    assert recall(tmp_path / "cache", COMMAND) is None


def test_another_preroot_is_another_command(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert noted(tmp_path / "cache", {recipe: stamp(recipe)}, {}, Watch())
    monkeypatch.setattr(unchanged, "_PACKAGE", tmp_path)
    assert recall(tmp_path / "cache", COMMAND) is None


def test_a_note_that_can_not_be_kept_is_no_error(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert noted(tmp_path / "cache", {recipe: stamp(recipe)}, {}, Watch())
    assert recall(tmp_path / "cache", COMMAND) is None


@pytest.fixture(scope="module")
def note(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cache = tmp_path_factory.mktemp("cache")
    remember(cache, COMMAND, Watch().note({}, {}, "said\n"))
    assert recall(cache, COMMAND) == "said\n"
    return stamp_path(cache, COMMAND)


@given(st.data())
def test_a_note_with_any_byte_changed_is_none(note: Path, data: st.DataObject) -> None:
    whole = note.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    try:
        if data.draw(st.booleans()):
            note.write_bytes(whole[:place])
        else:
            other = data.draw(st.integers(1, 255)) ^ whole[place]
            note.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
        assert recall(note.parent.parent, COMMAND) is None
    finally:
        note.write_bytes(whole)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["files", "said", "x"]), inner),
    max_leaves=8,
)


@given(JSON)
def test_a_note_of_any_other_shape_is_none(note: Path, value: object) -> None:
    """Sealed as a note is, and not one: of an older or newer preroot."""
    import hashlib

    whole = note.read_bytes()
    body = json.dumps(value).encode()
    try:
        note.write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
        said = recall(note.parent.parent, COMMAND)
        # what names no files, or only such as are not there, is sound
        assert said is None or (isinstance(value, dict) and not any(value["files"].values()))
    finally:
        note.write_bytes(whole)
