# SPDX-License-Identifier: LGPL-2.1-or-later
"""What features and recipes put into a part themselves, and the links that enabling makes (systemctl(1))."""

from __future__ import annotations

import pytest
from worlds import UNITS, link, pool, unit

from preroot.errors import RecipeError
from preroot.packages.model import FileInfo
from preroot.recipe.conditions import Chosen
from preroot.recipe.features import Content, Generate, Take
from preroot.recipe.schema import File, Link, Modprobe, Recipe, Secret, Unit
from preroot.tree.declare import (
    Declaration,
    digest,
    enablement,
    feature_declarations,
    merged_usr,
    recipe_declarations,
)
from preroot.tree.model import Reason


def fill(text: str) -> str:
    return text.replace("{{option.x}}", "value")


def declared(content: Content, runtime: dict[str, bytes] | None = None) -> dict[str, Declaration]:
    found = feature_declarations(Chosen("f", "", {}, content), fill, runtime or {}, pool())
    return {each.path: each for each in found}


def enabled(*names: str, files: list[FileInfo]) -> dict[str, str]:
    return {each.path: each.target for each in enablement([(name, "feature f") for name in names], pool(*files))}


def wants(*names: str, below: str = "etc/systemd/system/x.target.wants") -> set[str]:
    return {f"{below}/{name}" for name in names}


def install(*lines: str) -> str:
    return "\n".join(["[Install]", *lines, ""])


def test_merged_usr() -> None:
    (only,) = merged_usr({"bin": "usr/bin"})
    assert (only.path, only.target, only.reason.kind) == ("bin", "usr/bin", "merged-usr")


def test_what_a_feature_declares() -> None:
    content = Content(
        directory=("lib/{{option.x}}", "tmp 1777"),
        link=(Link("bin/{{option.x}}", "{{option.x}}.1"),),
        take=Take(mask=("a.service",)),
        generate=(
            Generate(
                "/etc/{{option.x}}", "\nk={{option.x}}\n", mode="0600", owner="o", group="g", replaces="p.postinst"
            ),
            Generate("etc/run", source="dir/run", mode="755"),
        ),
    )
    found = declared(content, {"dir/run": b"#!/bin/sh\n{{option.x}}\n"})
    assert (found["usr/lib/value"].mode, found["tmp"].mode, found["tmp"].is_directory) == (0o755, 0o1777, True)
    assert found["usr/bin/value"].target == "value.1"
    assert found["etc/systemd/system/a.service"].target == "/dev/null"
    written = found["etc/value"]
    assert (written.data, written.mode, written.user, written.group) == (b"k=value\n", 0o600, "o", "g")
    assert written.reason == Reason("feature", "f", "replaces p.postinst")
    assert (found["etc/run"].data, found["etc/run"].mode) == (b"#!/bin/sh\n{{option.x}}\n", 0o755)
    assert all(each.owner == "feature f" for each in found.values())


def test_a_runtime_file_that_does_not_exist() -> None:
    with pytest.raises(RecipeError, match="feature f: runtime file 'nowhere' does not exist"):
        declared(Content(generate=(Generate("x", source="nowhere"),)))


def test_what_a_recipe_declares_goes_into_the_part_it_names() -> None:
    recipe = Recipe(
        file=(
            File("bin/a", content="A", mode="0755", owner="o"),
            File("b", source="b.txt", part="other"),
            File("empty"),
        ),
        link=(Link("l", "t"), Link("m", "t", part="other")),
        unit=(Unit("u.service", content="[Service]\n"), Unit("v.service", source="v", part="other")),
        secret=(Secret("etc/key", "key.txt"), Secret("etc/other", "other.txt", part="other")),
        modprobe=Modprobe(blacklist=("nouveau",)),
    )
    sources = {"b.txt": b"B", "v": b"[Service]\n"}
    default = {each.path: each for each in recipe_declarations(recipe, "", sources, pool())}
    assert set(default) == {
        "usr/bin/a",
        "empty",
        "l",
        f"{UNITS}/u.service",
        "etc/key",
        "etc/modprobe.d/preroot.conf",
    }
    assert (default["usr/bin/a"].data, default["usr/bin/a"].mode, default["usr/bin/a"].user) == (b"A", 0o755, "o")
    assert default["empty"].data == b""
    assert not default["empty"].is_directory
    assert (default["etc/key"].secret, default["etc/key"].mode, default["etc/key"].data) == ("key.txt", 0o600, None)
    assert b"blacklist nouveau" in (default["etc/modprobe.d/preroot.conf"].data or b"")
    other = {each.path for each in recipe_declarations(recipe, "other", sources, pool())}
    assert other == {"b", "m", f"{UNITS}/v.service", "etc/other"}


def test_what_the_pool_is_told() -> None:
    reason = Reason("recipe", "recipe")
    script = Declaration("usr/bin/x", "recipe", reason, data=b"#!/bin/sh\n").declared()
    assert script.learnt is not None
    assert Declaration("l", "recipe", reason, target="t").declared().target == "t"
    assert Declaration("s", "recipe", reason, secret="file").declared().learnt is None


def test_links_of_install() -> None:
    text = install("WantedBy=x.target y.target", "RequiredBy=x.target", "UpheldBy=z.service", "Alias=b.service")
    assert enabled("a.service", files=[unit("a.service", text)]) == {
        f"etc/systemd/system/{path}": f"/{UNITS}/a.service"
        for path in (
            "b.service",
            "x.target.wants/a.service",
            "y.target.wants/a.service",
            "x.target.requires/a.service",
            "z.service.upholds/a.service",
        )
    }


def test_an_empty_value_takes_back_and_specifiers_are_filled_in() -> None:
    text = install("WantedBy=gone.target", "WantedBy=", "WantedBy=x.target", "Alias=%p-too.service")
    assert set(enabled("a.service", files=[unit("a.service", text)])) == {
        *wants("a.service"),
        "etc/systemd/system/a-too.service",
    }


@pytest.mark.parametrize(("asked", "made"), [("t@.service", "t@d.service"), ("t@own.service", "t@own.service")])
def test_templates(asked: str, made: str) -> None:
    text = install("WantedBy=x.target", "DefaultInstance=d")
    assert enabled(asked, files=[unit("t@.service", text)]) == {
        f"etc/systemd/system/x.target.wants/{made}": f"/{UNITS}/t@.service"
    }


def test_a_template_without_an_instance() -> None:
    with pytest.raises(RecipeError, match=r"feature f enables the template t@\.service without an instance") as caught:
        enabled("t@.service", files=[unit("t@.service", install("WantedBy=x.target"))])
    assert "t@INSTANCE.service" in caught.value.hint


def test_also_enables_more_in_circles_and_past_what_is_missing() -> None:
    files = [
        unit(
            "a.service", install("WantedBy=x.target", "Also=b.service a.service gone.service static.service t@.service")
        ),
        unit("b.service", install("WantedBy=x.target", "Also=a.service")),
        unit("static.service", "[Service]\n"),
        unit("t@.service", install("WantedBy=x.target")),
    ]
    assert set(enabled("a.service", files=files)) == wants("a.service", "b.service")


def test_a_unit_that_only_names_others() -> None:
    files = [unit("a.service", install("Also=b.service")), unit("b.service", install("WantedBy=x.target"))]
    assert set(enabled("a.service", files=files)) == wants("b.service")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "which no package and no table of the recipe has"),
        ([link(f"{UNITS}/a.service", "/dev/null")], "which no package and no table of the recipe has"),
        ([unit("a.service", "[Service]\n")], "which has no \\[Install\\] section that says where"),
    ],
)
def test_what_cannot_be_enabled(files: list[FileInfo], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        enabled("a.service", files=files)


def test_who_enables_is_the_reason() -> None:
    files = pool(unit("a.service", install("WantedBy=x.target")))
    reasons = [each.reason for owner in ("feature f", "recipe") for each in enablement([("a.service", owner)], files)]
    assert reasons == [Reason("feature", "f", "enables a.service"), Reason("recipe", "recipe", "enables a.service")]


def test_digest() -> None:
    assert digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
