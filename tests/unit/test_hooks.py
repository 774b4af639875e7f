# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hooks and break points: which units and files they become, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from worlds import part, pool, unit

from preroot.errors import RecipeError
from preroot.recipe.conditions import Chosen
from preroot.recipe.features import Content, Point
from preroot.recipe.library import load_features
from preroot.recipe.load import Overrides, load_recipe
from preroot.recipe.schema import Hook, Recipe
from preroot.recipe.search import BUILT_IN, SearchPath
from preroot.tree.declare import Declaration
from preroot.tree.hooks import check_points, hook_declarations
from preroot.tree.plan import plan_part

POINTS = (
    Point("early", after=("a.service",), before=("b.service",)),
    Point("late", after=("c.target",)),
    Point("end", hooks=False),
    Point("shutdown", stops=False),
)
CHOSEN = (Chosen("hooks", "", {}, Content(point=POINTS)),)
SCRIPT = "#!/bin/sh\n"
WANTS = "etc/systemd/system/initrd.target.wants"


def made(*hooks: Hook, flavour: str = "systemd", part_name: str = "base") -> dict[str, Declaration]:
    found = hook_declarations(Recipe(hook=hooks), part_name, flavour, CHOSEN, {"file": b"\x7fELF"})
    return {each.path: each for each in found}


def text(found: dict[str, Declaration], name: str) -> str:
    return (found[f"usr/lib/systemd/system/{name}"].data or b"").decode()


def after(found: dict[str, Declaration], name: str) -> list[str]:
    return [word for line in re.findall(r"^After=(.*)$", text(found, name), re.M) for word in line.split()]


def test_break_points_are_there_without_hooks() -> None:
    found = made()
    names = ["preroot-break-early.service", "preroot-break-late.service", "preroot-break-end.service"]
    assert sorted(found) == sorted(
        [f"usr/lib/systemd/system/{name}" for name in names] + [f"{WANTS}/{n}" for n in names]
    )
    assert found[f"{WANTS}/{names[0]}"].target == f"/usr/lib/systemd/system/{names[0]}"
    assert "\nConditionKernelCommandLine=rd.break=early\n" in text(found, names[0])
    assert after(found, names[1]) == ["c.target", names[0]]
    assert after(found, names[2]) == [names[1]]
    assert "\nBefore=b.service\n" in text(found, names[0])


def test_hooks_run_after_the_break_point_by_order_and_name() -> None:
    found = made(
        Hook(point="early", name="z", content=SCRIPT, order=10),
        Hook(point="early", name="b", source="file"),
        Hook(point="early", name="a", content=SCRIPT),
    )
    units = [f"preroot-hook-early-{each}.service" for each in ("10-z", "50-a", "50-b")]
    assert after(found, units[0]) == ["a.service", "preroot-break-early.service"]
    assert after(found, units[1]) == ["a.service", units[0]]
    assert after(found, units[2]) == ["a.service", units[1]]
    assert set(after(found, "preroot-break-late.service")) >= set(units)
    hook = found["usr/lib/preroot/hooks/early/50-b"]
    assert (hook.mode, hook.data, hook.owner) == (0o755, b"\x7fELF", "recipe")
    assert "ExecStart=/usr/lib/preroot/hook /usr/lib/preroot/hooks/early/50-b\n" in text(found, units[2])


def test_a_required_hook_ends_the_boot() -> None:
    name = "preroot-hook-early-50-a.service"
    assert "OnFailure=emergency.target" in text(
        made(Hook(point="early", name="a", content=SCRIPT, required=True)), name
    )
    assert "OnFailure" not in text(made(Hook(point="early", name="a", content=SCRIPT)), name)


def test_a_unit_is_ordered_by_a_drop_in() -> None:
    found = made(Hook(point="early", unit="mine.service"), Hook(point="early", name="z", content=SCRIPT))
    drop_in = text(found, "mine.service.d/50-preroot-hook.conf")
    assert "DefaultDependencies=no\nAfter=a.service preroot-break-early.service\nBefore=b.service\n" in drop_in
    assert found[f"{WANTS}/mine.service"].target == "/usr/lib/systemd/system/mine.service"
    assert after(found, "preroot-hook-early-50-z.service") == ["a.service", "mine.service"]


def test_a_unit_of_a_hook_must_be_there() -> None:
    content = Content(point=POINTS, directory=("usr/lib/preroot",))
    given = part(content, Recipe(hook=(Hook(point="early", unit="mine.service"),)))
    assert any("mine.service" in line and "missing" in line for line in plan_part(given, pool()).problems)
    there = plan_part(given, pool(unit("mine.service", "[Service]\nExecStart=true\n"))).problems
    assert not any("mine.service" in line and "the unit" in line for line in there)


def test_a_busybox_part_has_files_alone() -> None:
    found = made(Hook(point="early", name="a", content=SCRIPT, required=True), flavour="busybox")
    assert sorted(found) == ["usr/lib/preroot/hooks/early/50-a", "usr/lib/preroot/hooks/early/50-a.required"]
    assert found["usr/lib/preroot/hooks/early/50-a.required"].mode == 0o644
    with pytest.raises(RecipeError, match="a busybox part runs none"):
        made(Hook(point="early", unit="mine.service"), flavour="busybox")


def test_hooks_at_points_without_a_stop_are_files() -> None:
    found = made(Hook(point="shutdown", name="a", content=SCRIPT))
    assert [path for path in found if "shutdown" in path] == ["usr/lib/preroot/hooks/shutdown/50-a"]


def test_a_hook_goes_where_its_point_is() -> None:
    hook = Hook(point="early", name="a", content=SCRIPT)
    other = Hook(point="early", name="b", content=SCRIPT, part="exitrd")
    assert "usr/lib/preroot/hooks/early/50-a" in made(hook, other)
    assert "usr/lib/preroot/hooks/early/50-b" not in made(hook, other)
    assert "usr/lib/preroot/hooks/early/50-b" in made(hook, other, part_name="exitrd")


@pytest.mark.parametrize("content", ["", "echo hello\n", " #!/bin/sh\n"])
def test_what_can_not_be_executed_is_refused(content: str) -> None:
    with pytest.raises(RecipeError, match="neither a script with a #! line nor an ELF program"):
        made(Hook(point="early", name="a", content=content))


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (Hook(point="erly", name="a"), r"hook\[0\] \(a\): the image has no point 'erly'.*did you mean 'early'"),
        (Hook(point="end", name="a"), "no point 'end'"),
        (Hook(point="early", name="a", part="exitrd"), "part exitrd has no point 'early'.*add the feature hooks"),
    ],
)
def test_points_that_there_are_not(hook: Hook, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_points(Recipe(hook=(hook,)), {"base": CHOSEN})
    assert re.search(said, f"{caught.value} {caught.value.hint}")
    check_points(Recipe(hook=(Hook(point="early", name="a"),)), {"base": CHOSEN})


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ({"point": "mount", "name": "a"}, "neither content nor source"),
        ({"point": "mount", "content": SCRIPT}, "has no name"),
        ({"point": "mount", "name": "a", "content": SCRIPT, "unit": "a.service"}, "a unit besides content"),
        ({"point": "mount", "unit": "a"}, "no unit's name"),
        ({"point": "mount", "name": "../a", "content": SCRIPT}, "hook[0].name"),
        ({"point": "mount", "name": "a\n", "content": SCRIPT}, "hook[0].name"),
        ({"point": "mount", "name": "a", "order": 100, "content": SCRIPT}, "hook[0].order"),
        ({"point": "mount", "name": "a", "source": "gone"}, "gone does not exist"),
        ({"name": "a", "content": SCRIPT}, "point"),
    ],
)
def test_wrong_hooks_are_refused(hook: dict[str, Any], said: str, tmp_path: Path) -> None:
    lines = "\n".join(f"{key} = {value if isinstance(value, int) else repr(value)}" for key, value in hook.items())
    recipe = tmp_path / "x.toml"
    recipe.write_text(f"[[hook]]\n{lines}\n".replace("'", '"'))
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe, Overrides(), SearchPath((BUILT_IN,)))
    assert said in str(caught.value)


def test_two_hooks_of_a_name_at_one_point_are_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "x.toml"
    hook = '[[hook]]\npoint = "{}"\nname = "a"\ncontent = "x"\n'
    recipe.write_text(hook.format("mount") + hook.format("cleanup"))
    load_recipe(recipe, Overrides(), SearchPath((BUILT_IN,)))
    recipe.write_text(hook.format("mount") * 2)
    with pytest.raises(RecipeError, match="mount/a is given already"):
        load_recipe(recipe, Overrides(), SearchPath((BUILT_IN,)))


def test_the_documented_points_are_those_of_the_feature() -> None:
    feature = load_features(SearchPath((BUILT_IN,)))["hooks"]
    page = (Path(__file__).parents[2] / "docs/hooks.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]*) \| ([^|]*) \|", page, re.M)
    documented = {name: (re.findall(r"`([^`]+)`", begin), re.findall(r"`([^`]+)`", end)) for name, begin, end in rows}
    assert {name: sorted(map(sorted, both)) for name, both in documented.items()} == {
        each.name: sorted(map(sorted, (each.after, each.before))) for each in feature.point
    }
