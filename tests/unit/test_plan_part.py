# SPDX-License-Identifier: LGPL-2.1-or-later
"""One part, planned as a whole from small packages: features, recipe, closure, check and tree together."""

from __future__ import annotations

from typing import Any

import pytest
from worlds import LIBC, UNITS, directory, file, link, part, pool, program, unit

from preroot.errors import RecipeError
from preroot.packages.model import FileInfo
from preroot.recipe.conditions import Chosen
from preroot.recipe.features import Content, Generate, Modules, Take
from preroot.recipe.schema import Exception_, File, Group, Kernel, Link, Recipe, Secret, Unit, User
from preroot.tree.model import Reason
from preroot.tree.modules import ModuleRequest
from preroot.tree.plan import GROUP_MASTER, PASSWD_MASTER, PartInput, PlannedPart, module_requests, plan_part

FILES = (
    *LIBC,
    program("usr/bin/x", "libc.so.6"),
    unit("a.service", "[Service]\nExecStart=/usr/bin/x\nUser=u\n[Install]\nWantedBy=b.target\n"),
    unit("b.target", "[Unit]\nX=1\n"),
)
TEXTS = {
    "usr/lib/sysusers.d/u.conf": b"u u -\ng disk 6\n",
    PASSWD_MASTER: b"root:*:0:0:root:/root:/bin/bash\n",
    GROUP_MASTER: b"root:*:0:\ndisk:*:7:\n",
}


def planned(given: PartInput, *files: FileInfo) -> PlannedPart:
    return plan_part(given, pool(*FILES, *files))


def take(**what: Any) -> Content:
    return Content(take=Take(**what))


def test_a_feature_becomes_a_tree() -> None:
    made = planned(part(take(units=("b.target",), enable=("a.service",)), texts=TEXTS))
    assert made.problems == ()
    entries = made.tree.entries
    assert {
        "usr/bin/x",
        f"{UNITS}/a.service",
        "etc/systemd/system/b.target.wants/a.service",
        "lib",
        "lib64",
        "etc/passwd",
    } <= entries.keys()
    assert entries["lib"].target == "usr/lib"
    assert entries["usr/bin/x"].reasons == (Reason("exec", f"{UNITS}/a.service", "ExecStart=/usr/bin/x"),)
    assert (made.names.uid("u"), set(made.names.groups)) == (100, {"root", "u"})
    assert entries["etc/shadow"].mode == 0o600
    assert not made.secret


def test_nothing_is_made_when_something_is_missing() -> None:
    made = planned(part(take(units=("a.service", "gone.service"))))
    assert made.problems == (
        "the unit gone.service, asked for by feature test, is missing: no package of the lock has it; "
        "did you mean 'a.service'?",
        f"the user u, asked for by /{UNITS}/a.service (User=u), is declared by no package and no [[user]]",
    )
    assert made.tree.entries == {}


def test_a_unit_asked_for_by_an_enabled_alias_or_a_feature_may_not_be_masked_by_another() -> None:
    content = take(units=("a.service",), mask=("a.service",))
    made = planned(part(content, texts=TEXTS))
    assert made.problems == (
        "the unit a.service, asked for by feature test, is missing: /etc/systemd/system/a.service masks it",
    )


def test_a_mask_hides_what_is_only_wanted() -> None:
    content = take(units=("c.service",), wanted=("a.service",), mask=("a.service",))
    made = planned(part(content, texts=TEXTS), unit("c.service", "[Unit]\nWants=a.service\n"))
    assert made.problems == ()
    assert made.tree.entries["etc/systemd/system/a.service"].target == "/dev/null"
    assert "usr/bin/x" not in made.tree.entries


def test_generated_files_bring_what_they_refer_to() -> None:
    content = Content(
        generate=(
            Generate("usr/bin/own", "#!/bin/x\n", mode="755"),
            Generate(f"{UNITS}/a.service.d/1.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/own\nUser=root\n"),
        ),
        take=Take(units=("a.service",)),
    )
    made = planned(part(content))
    assert made.problems == ()
    assert made.tree.entries["usr/bin/x"].reasons == (Reason("interpreter", "usr/bin/own", "#!/bin/x"),)


def test_links_may_lead_out_of_the_image_and_nowhere_else() -> None:
    for target in ("/run/x", "../run", "/dev/null", "/proc/self/mounts", "../sysroot/etc"):
        assert planned(part(Content(link=(Link("var/x", target),)))).problems == ()
    made = planned(part(Content(link=(Link("var/x", "runner"),))))
    assert made.problems == (
        "the file var/x, asked for by feature test (link), is missing: it leads to /var/runner, "
        "which no package of the lock has",
    )


def test_templates_are_filled_in() -> None:
    chosen = Chosen(
        "test",
        "",
        {"name": "x"},
        Content(take=Take(binaries=("{{option.name}}",)), generate=(Generate("etc/t", "{{distribution.name}}"),)),
    )
    made = planned(part(chosen=(chosen,)))
    assert {"usr/bin/x", "etc/t"} <= made.tree.entries.keys()
    assert made.tree.entries["etc/t"].size == len("debian")


def test_globs_alternatives_and_plugins() -> None:
    files = (file("usr/share/a/1"), file("usr/share/a/2"), file("usr/lib/x86_64-linux-gnu/security/pam_x.so"))
    content = take(files=("usr/share/a/*",), any=(("usr/gone", "usr/share/a/2"),), plugins=("pam:x",))
    entries = planned(part(content), *files).tree.entries
    assert {each.path for each in files} <= entries.keys()
    assert entries[files[2].path].reasons == (Reason("plugin", "test", "pam:x"),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (take(files=("usr/gone/*",)), "feature test takes usr/gone/\\*, which matches nothing"),
        (take(any=(("usr/gone", "opt/gone"),)), "feature test takes one of usr/gone, opt/gone, and no package has any"),
        (take(plugins=("x:y",)), "feature test: unknown plugin family 'x'"),
    ],
)
def test_what_a_feature_cannot_take(content: Content, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        planned(part(content))


def test_the_recipes_own_tables() -> None:
    recipe = Recipe(
        take=("/bin/x",),
        file=(File("/etc/own", content="text", owner="me", group="us"),),
        link=(Link("etc/link", "own"),),
        unit=(Unit("own.service", content="[Service]\nExecStart=/usr/bin/x\n[Install]\nWantedBy=b.target\n"),),
        user=(User("me", 1000),),
        group=(Group("us", members=("me",)), Group("extra", 77)),
    )
    made = planned(part(take(units=("b.target",)), recipe))
    assert made.problems == ()
    entries = made.tree.entries
    assert (entries["etc/own"].uid, entries["etc/own"].owner) == (1000, "recipe")
    assert entries["etc/own"].gid == made.names.gid("us")
    assert entries["usr/bin/x"].reasons[0] == Reason("recipe", "recipe", "/bin/x")
    assert {"etc/link", f"{UNITS}/own.service", "etc/systemd/system/b.target.wants/own.service"} <= entries.keys()
    assert set(made.names.groups) == {"root", "me", "us", "extra"}


def test_a_group_table_beats_the_group_that_a_user_of_that_name_brings() -> None:
    made = planned(part(recipe=Recipe(user=(User("me", 1000),), group=(Group("me", 2000),))))
    assert (made.names.uid("me"), made.names.gid("me")) == (1000, 2000)


def test_tables_of_another_part_stay_out() -> None:
    recipe = Recipe(file=(File("etc/own", part="other"),), unit=(Unit("own.service", content=" ", part="other"),))
    assert planned(part(recipe=recipe)).problems == ()
    made = planned(part(recipe=recipe, name="other", is_default=False))
    assert made.problems == ()
    assert {"etc/own", f"{UNITS}/own.service"} <= made.tree.entries.keys()


def test_a_secret_is_said_to_be_one() -> None:
    made = planned(part(recipe=Recipe(secret=(Secret("etc/key", "key.txt"),))))
    assert made.secret
    assert made.tree.entries["etc/key"].sha256 == ""


def test_excluding_a_generated_file_leaves_it_out_unless_something_needs_it() -> None:
    content = Content(generate=(Generate("usr/bin/own", "#!/bin/x\n"), Generate("etc/own", "x")))
    made = planned(part(content, Recipe(exclude=("/etc/own",))))
    assert made.problems == ()
    assert "etc/own" not in made.tree.entries
    assert [(each.what, each.reason) for each in made.left_out] == [("etc/own", "the recipe excludes it")]
    needing = unit("c.service", "[Service]\nExecStart=/usr/bin/own\n")
    content = Content(generate=content.generate, take=Take(units=("c.service",)))
    made = planned(part(content, Recipe(exclude=("/bin/own",))), needing)
    assert made.problems == (
        f"the file /usr/bin/own, asked for by /{UNITS}/c.service (ExecStart=/usr/bin/own), is missing: "
        "the recipe excludes usr/bin/own",
    )


def test_exceptions_of_feature_and_recipe() -> None:
    lacking = program("usr/bin/y", "libz.so.1")
    exception = Exception_("libz.so.1", "usr/bin/y", "r")
    content = Content(take=Take(binaries=("y",)), exceptions=(exception,))
    assert planned(part(content), lacking).problems == ()
    assert planned(part(take(binaries=("y",)), Recipe(exceptions=(exception,))), lacking).problems == ()
    made = planned(part(take(binaries=("x",)), Recipe(exceptions=(exception,))), lacking)
    assert made.problems == (
        "the recipe declares an exception for libz.so.1 asked for by usr/bin/y, which nothing needs: remove it",
    )


def test_what_cannot_be_a_tree_is_a_problem() -> None:
    content = Content(generate=(Generate("etc/x", "1"), Generate("etc/x/y", "1")))
    (problem,) = planned(part(content)).problems
    assert "etc/x/y (of feature test) lies below etc/x, which is a file" in problem


def test_numbers_come_from_the_lock() -> None:
    made = planned(part(take(units=("a.service",)), texts=TEXTS, users={"u": 555}, groups={"u": 556}))
    assert (made.names.uid("u"), made.names.gid("u")) == (555, 556)


def test_base_passwd_counts_before_sysusers() -> None:
    rules = file("usr/lib/udev/rules.d/1.rules", 'GROUP="disk"\n')
    made = planned(part(take(udev_rules=("1.rules",)), texts=TEXTS), rules)
    assert made.names.gid("disk") == 7


def test_every_link_of_a_tree_leads_to_something_in_it_or_out_of_it() -> None:
    files = (
        link("etc/mtab", "/proc/mounts"),
        link("usr/bin/y", "/etc/alternatives/y"),
        link("etc/alternatives/y", "/bin/x"),
        link("usr/share/new", "old/deep/.."),
        directory("usr/share/old"),
        directory("usr/share/old/deep"),
    )
    entries = planned(part(take(binaries=("y",), files=("etc/mtab", "usr/share/new"))), *files).tree.entries
    assert {"etc/alternatives/y", "usr/bin/x", "usr/share/old/deep", "etc/mtab"} <= entries.keys()


def test_wishes_for_modules() -> None:
    modules = Modules(required=("a",), any_of=(("b", "c"), ("d",)), if_present=("e",), virtual=("f",), generic=("g",))
    chosen = [Chosen("t", "", {}, Content(modules=modules))]
    optional = {
        selection: [
            each.spec
            for each in module_requests(chosen, Recipe(kernel=Kernel(modules=selection)))
            if each.need == "if-present"
        ]
        for selection in ("list", "virtual", "generic")
    }
    assert optional == {"list": ["e"], "virtual": ["e", "f"], "generic": ["e", "f", "g"]}
    wishes = module_requests(chosen, Recipe(kernel=Kernel(add_modules=("own",))))
    assert wishes[:4] == [
        ModuleRequest("a", "required", "t"),
        ModuleRequest("b", "any-of", "t", "0"),
        ModuleRequest("c", "any-of", "t", "0"),
        ModuleRequest("d", "any-of", "t", "1"),
    ]
    assert wishes[-1] == ModuleRequest("own", "required", "the recipe", kind="recipe")
