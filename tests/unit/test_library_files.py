# SPDX-License-Identifier: LGPL-2.1-or-later
"""The files of libraries/: what they say together, and what is refused, by place."""

from __future__ import annotations

from pathlib import Path

import pytest
from worlds import LIBRARIES

from preroot.errors import RecipeError
from preroot.recipe.libraries import load_libraries
from preroot.recipe.search import SearchPath

FACT = '[[dlopen]]\nasker = "usr/bin/x"\nsonames = ["libx.so.1"]\nevidence = "seen"\n'
FAMILY = '[family.f]\nsummary = "s"\nplugin = ["{libdir}/f/{name}.so"]\nevidence = "e"\n'


def write(directory: Path, **files: str) -> SearchPath:
    for name, text in files.items():
        path = directory / "libraries" / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return SearchPath((directory,))


def test_files_add_up_and_higher_ones_replace_lower_ones(tmp_path: Path) -> None:
    low, high = tmp_path / "low", tmp_path / "high"
    write(low, a_toml=FACT, b_toml=FAMILY, c_toml="")
    write(high, a_toml=FACT.replace("libx", "liby"), b_toml_d__more_toml=FACT)
    found = load_libraries(SearchPath((low, high)))
    assert [fact.sonames for fact in found.dlopen] == [("liby.so.1",), ("libx.so.1",)]
    assert list(found.families) == ["f"]
    assert {low / "libraries", high / "libraries", high / "libraries/a.toml"} <= set(found.files)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[dlopen]]\nasker = "x"\nsonames = []\nevidence = ""\n', "x.toml:3"),
        (FACT + 'verson = ">=1"\n', "did you mean 'version'"),
        (FACT + 'version = "new"\n', "usr/bin/x: 'new' is not a comparison"),
        (FACT + 'imports = ["malloc"]\n', "x.toml:5: .*imports.*malloc"),
        (FAMILY.replace("{name}", "name"), "no {name}"),
        (FAMILY + '[[family.f.use]]\nasker = "x"\nevidence = "e"\nversion = "1.x"\n', "x: '1.x' is not a comparison"),
        ('[[dismiss]]\nasker = "x"\nsonames = ["libx.so.1"]\nreason = ""\n', "x.toml:4"),
        ("[family", "x.toml:1"),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_libraries(write(tmp_path, x_toml=text))


def test_two_files_can_not_define_one_family(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"b\.toml: the plugin family 'f' is defined by another file"):
        load_libraries(write(tmp_path, a_toml=FAMILY, b_toml=FAMILY))


def test_every_entry_of_our_own_says_why() -> None:
    assert all(fact.evidence for fact in LIBRARIES.dlopen)
    assert all(family.evidence and family.summary for family in LIBRARIES.families.values())
    assert all(use.evidence for family in LIBRARIES.families.values() for use in family.use)
    assert all(use.plugins or use.paths for family in LIBRARIES.families.values() for use in family.use)
