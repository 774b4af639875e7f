# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the closed world says when something is missing: one line that names the thing, who asked, and where it is."""

from __future__ import annotations

import pytest
from worlds import LIB, WORLD, file, library, link, pool, world

from preroot.packages.model import FileInfo
from preroot.recipe.schema import Exception_
from preroot.tree.check import exception_problems, missing_problems, name_problems
from preroot.tree.closure.model import Missing, Request
from preroot.tree.model import Reason
from preroot.tree.users import KnownNames, allocate

UNIT = "usr/lib/systemd/system/a.service"


def line(request: Request, *files: FileInfo, detail: str = "", **changes: object) -> str:
    (only,) = missing_problems([Missing(request, detail)], pool(*files), world(**changes))
    return only


def test_who_asked_is_a_path_a_feature_or_the_recipe() -> None:
    for reason, words in (
        (Reason("exec", UNIT, "ExecStart=-/usr/bin/x y"), f"/{UNIT} (ExecStart=-/usr/bin/x y)"),
        (Reason("feature", "ssh", "/usr/bin/x"), "feature ssh"),
        (Reason("plugin", "ssh", "pam:unix"), "feature ssh (pam:unix)"),
        (Reason("recipe", "recipe", "usr/bin/*"), "the recipe (usr/bin/*)"),
    ):
        said = line(Request("path", "/usr/bin/x", reason))
        assert said == f"the file /usr/bin/x, asked for by {words}, is missing: no package of the lock has it"


@pytest.mark.parametrize(
    ("kind", "word"), [("path", "file"), ("library", "library"), ("program", "program"), ("unit", "unit")]
)
def test_what_is_missing_is_named(kind: str, word: str) -> None:
    assert line(Request(kind, "x", Reason("unit", UNIT))).startswith(f"the {word} x, asked for by /{UNIT}, is missing")  # type: ignore[arg-type]


def test_a_file_of_that_name_elsewhere_is_named() -> None:
    said = line(Request("path", "/usr/bin/x", Reason("exec", UNIT)), file("usr/libexec/x"), file("opt/x"))
    assert said.endswith(": /opt/x exists")


def test_a_library_elsewhere_is_named_with_what_is_searched() -> None:
    request = Request("library", "libz.so.1", Reason("needed", "usr/bin/x"), search=("/usr/lib/own",))
    said = line(request, library("usr/lib/private/libz.so.1"))
    assert said.endswith(
        ": it is at /usr/lib/private/libz.so.1, which ld.so does not search "
        f"(it searches /usr/lib/own, /{LIB}, /usr/lib)"
    )


def test_a_library_that_is_there_for_another_machine() -> None:
    said = line(Request("library", "libz.so.1", Reason("needed", "usr/bin/x")), library("libz.so.1", machine=183))
    assert said.endswith(f": /{LIB}/libz.so.1 is for another machine, or no library")


def test_a_dangling_link_is_not_where_the_thing_is() -> None:
    said = line(Request("program", "x", Reason("exec", UNIT)), link("opt/x", "gone"))
    assert said.endswith("no package of the lock has it")


def test_a_detail_says_it_all() -> None:
    assert line(Request("path", "x", Reason("exec", UNIT)), file("opt/x"), detail="the recipe excludes usr/x").endswith(
        "is missing: the recipe excludes usr/x"
    )


def test_a_misspelt_unit_gets_the_nearest() -> None:
    said = line(
        Request("unit", "systemd-fcsk@.service", Reason("feature", "f")), wanted=frozenset({"systemd-fsck@.service"})
    )
    assert said.endswith("no package of the lock has it; did you mean 'systemd-fsck@.service'?")


def test_an_exception_that_nothing_needs_is_a_problem_and_one_that_is_needed_is_none() -> None:
    needed, unneeded = Exception_("a", "b", "c"), Exception_("d", "e", "f")
    assert exception_problems([(needed, "feature x"), (unneeded, "the recipe")], [needed]) == [
        "the recipe declares an exception for d asked for by e, which nothing needs: remove it"
    ]


def test_users_and_groups_that_nothing_declares() -> None:
    names = allocate(["ghost", "other"], ["phantom"], KnownNames({}, {}), {}, {})
    assert name_problems(names, {"ghost": "/x (User=ghost)", "phantom": "/y (GROUP=phantom)"}) == [
        "the user ghost, asked for by /x (User=ghost), is declared by no package and no [[user]]",
        "the user other, asked for by the recipe, is declared by no package and no [[user]]",
        "the group phantom, asked for by /y (GROUP=phantom), is declared by no package and no [[group]]",
    ]


def test_nothing_missing_is_no_problem() -> None:
    assert missing_problems([], pool(), WORLD) == []
