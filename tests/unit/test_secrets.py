# SPDX-License-Identifier: LGPL-2.1-or-later
"""Secrets are shown nowhere: not in errors, not among a recipe's values, not by the reasons of what is generated."""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.boot.machine import join_initrds
from preroot.engine.secrets import open_options, open_sources
from preroot.errors import RecipeError
from preroot.inspect.diff import ImagePath, diff
from preroot.recipe.conditions import Chosen
from preroot.recipe.features import Content, Generate
from preroot.recipe.library import load_features
from preroot.recipe.load import Overrides, explain, load_recipe
from preroot.recipe.schema import Secret
from preroot.recipe.search import BUILT_IN, SearchPath
from preroot.recipe.template import render
from preroot.tree.build import declared_entry
from preroot.tree.declare import feature_declarations
from preroot.tree.model import BytesContent
from preroot.tree.pool import Pool
from preroot.tree.users import KnownNames, allocate
from preroot.unchanged import Watch, recall, remember, stamp

PLANTED = "planted4711planted"
HASH = f"$6$salt${PLANTED}"
SEARCH = SearchPath((BUILT_IN,))


def refusal(where: Path, text: str, *sets: str) -> str:
    recipe = where / "my.toml"
    recipe.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, Overrides(set=sets), SEARCH)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f'[access]\npassword-hash = ["{HASH}"]', "access.password-hash"),
        (f'[access]\npassword-hash = "{PLANTED}"', "access.password-hash"),
        (f'[access]\npassword-hash = "$6${PLANTED} x"', "access.password-hash"),
        (f'[access]\npassword_hash = "{HASH}"', "password_hash"),
        (f'[access]\npolicy = "{HASH}"', "access.policy"),
        (f'[[secret]]\npath = "etc/key"\ncontent = "{PLANTED}"', "secret[0].content"),
        (f'[[secret]]\npath = "etc/key"\nsource = """-----BEGIN PRIVATE KEY-----\n{PLANTED}\n"""', "secret[0].source"),
        (f'[[secret]]\npath = "etc/key"\nsource = "x"\nmode = "BEGIN PRIVATE KEY-----{PLANTED}"', "secret[0].mode"),
    ],
)  # fmt: skip
def test_errors_about_a_secret_do_not_repeat_it(tmp_path: Path, text: str, names: str) -> None:
    said = refusal(tmp_path, text)
    assert names in said and PLANTED not in said


@pytest.mark.parametrize(
    "text", [f"access.password-hash:{HASH}", f"access.password-hash {HASH}", f"access.password-hash=[{HASH}]"]
)
def test_the_command_line_is_not_repeated_either(tmp_path: Path, text: str) -> None:
    said = refusal(tmp_path, "", text)
    assert "--set access.password-hash" in said and PLANTED not in said


@given(st.text(max_size=20), st.sampled_from([":", " ", "#", "\n"]))
def test_whatever_is_behind_a_key_on_the_command_line(value: str, separator: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, Overrides(set=(f"a.secret{separator}{PLANTED}{value.replace('=', '')}",)), SEARCH)
    assert PLANTED not in str(caught.value)


def test_values_are_shown_without_secrets(tmp_path: Path) -> None:
    recipe = tmp_path / "my.toml"
    recipe.write_text(
        f'[access]\npolicy = "password"\npassword-hash = "{HASH}"\n[features.x]\nchap-secret = "{PLANTED}"\n'
    )
    rows = {key: value for key, value, _ in explain(load_recipe(recipe, search=SEARCH))}
    assert rows["access.password-hash"] == rows["features.x.chap-secret"] == '"(secret)"'
    assert rows["access.policy"] == '"password"'


def feature_file(where: Path, text: str) -> SearchPath:
    (where / "features").mkdir(exist_ok=True)
    (where / "features" / "chap.toml").write_text(text)
    return SearchPath((where,))


OPTION = 'summary = "x"\n[options.password]\nsecret = true\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[options.password]\nhelp = "x"\n', "has the name of a secret and is none"),
        ("[options.pin]\nsecret = true\n", "its name does not say so"),
        ('[options.password]\nsecret = true\ndefault = "x"\n', "must be a string without a default"),
        (OPTION + '[[generate]]\npath = "etc/x"\ncontent = "{{option.password}}"\n', "others may read it"),
        (OPTION + '[[generate]]\npath = "etc/{{ option.password }}"\ncontent = "x"\n', "shows a secret in a path"),
        (OPTION + '[[link]]\npath = "etc/x"\ntarget = "{{option.password}}"\n', "shows a secret in a path"),
        (OPTION + 'directory = ["etc/{{option.password}}"]\n', None),
    ],
)  # fmt: skip
def test_features_are_held_to_keep_a_secret(tmp_path: Path, text: str, says: str | None) -> None:
    if says is None:  # a key of the file's top cannot stand behind a table
        text = 'directory = ["etc/{{option.password}}"]\n' + OPTION
        says = "shows a secret in a path"
    with pytest.raises(RecipeError, match=says):
        load_features(feature_file(tmp_path, text))["chap"]


def declared(file: Generate) -> Any:
    chosen = Chosen("chap", "", {"password": PLANTED}, Content(generate=(file,)))
    values = {"option.password": PLANTED}
    return feature_declarations(chosen, lambda text: render(text, values), {}, Pool([], {}))


def test_what_is_generated_from_a_secret_is_one() -> None:
    (found,) = declared(Generate("etc/chap", "pass = {{option.password}}\n", mode="0600"))
    entry = declared_entry(found, (), allocate((), (), KnownNames({}, {}), {}, {}))
    assert isinstance(entry.content, BytesContent) and entry.content.data == f"pass = {PLANTED}\n".encode()
    assert (entry.content.secret, entry.size, entry.sha256) == (True, 0, "")
    assert PLANTED not in repr(entry) and PLANTED in repr(BytesContent(PLANTED.encode()))


def test_a_unit_is_no_place_for_a_secret() -> None:
    unit = Generate("usr/lib/systemd/system/x.service", "[Service]\nExecStart=/x {{option.password}}\n", mode="0600")
    with pytest.raises(RecipeError, match=r"x\.service has a secret inside") as caught:
        declared(unit)
    assert "LoadCredential=" in caught.value.hint


def path(data: bytes) -> ImagePath:
    return ImagePath("file", 0o600, 0, 0, len(data), sha256(data).hexdigest(), "", None)


def test_a_difference_tells_of_a_secret_only_that_it_differs() -> None:
    before, after = {"etc/key": path(b"a"), "etc/x": path(b"a")}, {"etc/key": path(b"bb"), "etc/x": path(b"bb")}
    key, other = diff(before, after, {"etc/key"}).changed
    assert (key.what, key.after.size, key.after.sha256) == (("content",), 0, "")
    assert (other.what, other.after.size, other.after.sha256) == (("size", "content"), 2, after["etc/x"].sha256)
    assert (diff(before, after, {"etc/key"}).size_before, diff(before, after).size_before) == (1, 2)


def test_a_source_that_everybody_can_read_is_warned_of() -> None:
    secrets = (Secret("etc/a", "/run/a"), Secret("etc/b", "/run/b"))
    (warning,) = open_sources(secrets, {"/run/a": 0o644, "/run/b": 0o640})
    assert "etc/a" in warning and "/run/a (mode 0644" in warning


def test_an_option_with_a_secret_is_warned_of_by_its_name() -> None:
    (warning,) = open_options(("ro", f"rd.iscsi.password={PLANTED}", "root=/dev/vda", "password"))
    assert warning.startswith("rd.iscsi.password on the kernel's command line") and PLANTED not in warning


def test_joined_initrds_are_for_their_owner_alone(tmp_path: Path) -> None:
    names = []
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(name.encode())
        names.append(str(tmp_path / name))
    before = os.umask(0)
    try:
        joined = Path(join_initrds(tuple(names), tmp_path / "joined"))
    finally:
        os.umask(before)
    assert joined.stat().st_mode & 0o777 == 0o600


def test_the_note_of_a_build_has_no_sizes(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("x" * 12_345)
    os.utime(key, (1, 1))
    time.sleep(0.05)  # what has changed just now is not noted
    remember(tmp_path / "cache", ["build"], Watch().note({key: stamp(key)}, {}, "said"))
    (note,) = (tmp_path / "cache" / "unchanged").iterdir()
    assert str(key) in note.read_text() and "12345" not in note.read_text().replace(str(key.stat().st_ino), "")
    assert recall(tmp_path / "cache", ["build"]) == "said"
    before = key.stat()
    key.write_text("y" * 12_345)
    os.utime(key, ns=(before.st_atime_ns, before.st_mtime_ns))  # ctime still tells
    assert recall(tmp_path / "cache", ["build"]) is None
