# SPDX-License-Identifier: LGPL-2.1-or-later
"""The engine as other programs see it: what it offers, what it costs to import, and what it never does to its host."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from image_samples import file, part, plan, tree

import preroot
from preroot import engine
from preroot.engine import BuildError, Check, Plan, Problem
from preroot.engine.checks import checked

SOURCE = Path(preroot.__file__).parent
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
#: what has nothing to do with a build that somebody asks for in a script
HEAVY = {"click", "rich", "zstandard", "subprocess", "asyncio", "http.client", "ssl", "difflib", "qemu"}


def test_everything_that_is_offered_is_there_and_documented() -> None:
    for name in engine.__all__:
        assert getattr(engine, name) is not None
    lacking = [name for name in engine.__all__ if isinstance(getattr(engine, name), type)
               and not getattr(engine, name).__doc__]  # fmt: skip
    assert not lacking
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        engine.nonsense  # noqa: B018
    assert (SOURCE / "py.typed").is_file()


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, preroot.engine; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "preroot.engine" in loaded
    rooms = {name for name in loaded if name.startswith(("preroot.cli", "preroot.boot", "preroot.inspect"))}
    assert not (loaded & HEAVY | rooms)


def deeds(tree: ast.AST) -> Iterator[str]:
    """Yield what a module does to the process that it runs in."""
    names = {"print", "exit", "quit", "input", "sys.exit", "os._exit", "os.chdir", "os.umask", "os.putenv",
             "signal.signal", "locale.setlocale", "logging.basicConfig", "sys.setrecursionlimit"}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"{node.lineno}: global {', '.join(node.names)}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in names:
            yield f"{node.lineno}: {ast.unparse(node.func)}"
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            if ast.unparse(node.value) == "os.environ":
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in {"sys.stdout", "sys.stderr"}:
            yield f"{node.lineno}: {ast.unparse(node)}"


def test_a_program_that_embeds_it_keeps_its_process_as_it_is() -> None:
    found = [f"{path.relative_to(SOURCE)}:{deed}" for path in SOURCE.rglob("*.py")
             if path.relative_to(SOURCE).parts[0] not in {"cli", "__main__.py"}
             for deed in deeds(ast.parse(path.read_text()))]  # fmt: skip
    assert not found
    assert len(list(deeds(ast.parse("global x\nprint(1)\nos.environ['A'] = ''\nsys.stderr.write('')")))) == 4


PLAN = plan(part("base", tree(file("usr/bin/su", b"x", 0o4755))))


def finding(*problems: Problem) -> Check:
    def check(seen: Plan) -> Iterable[Problem]:
        assert seen is PLAN
        yield from problems

    return check


def test_checks_that_find_nothing_leave_the_plan_as_it_is() -> None:
    assert checked(PLAN, [finding(), lambda _: ()]) is PLAN


def test_warnings_of_checks_become_the_plans() -> None:
    warning = Problem("usr/bin/x is old", "leave it out", "warning")
    assert checked(PLAN, [finding(warning), finding()]).warnings == ("usr/bin/x is old (leave it out)",)


def test_one_error_is_the_builds_and_several_have_a_line_each() -> None:
    one, two = Problem("usr/bin/su is set-uid", "exclude it"), Problem("no licence")
    with pytest.raises(BuildError) as caught:
        checked(PLAN, [finding(one)])
    assert (caught.value.message, caught.value.hint) == ("usr/bin/su is set-uid", "exclude it")
    with pytest.raises(BuildError) as caught:
        checked(PLAN, [finding(one, Problem("w", severity="warning")), finding(two, one)])
    assert caught.value.message == "usr/bin/su is set-uid (exclude it)\nno licence"


def test_the_page_shows_what_the_examples_have() -> None:
    page = (ROOT / "docs/library.md").read_text()
    sources = {path.name: path.read_text() for path in EXAMPLES.glob("*.py")}
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.S | re.M)
    assert len(blocks) >= len(sources)
    for block in blocks:
        assert any(block in text for text in sources.values()), block
    for name in (*sources, "appliance.toml"):
        assert f"(../examples/{name})" in page


def test_the_page_names_everything_that_is_public() -> None:
    page = (ROOT / "docs/library.md").read_text()
    assert [name for name in engine.__all__ if f"`{name}`" not in page] == []
    methods = [name for name, value in vars(engine.Engine).items() if callable(value) and not name.startswith("_")]
    assert [name for name in methods if f"`{name}(" not in page] == []


def test_the_page_on_other_builders_shows_the_script() -> None:
    page = (ROOT / "docs/integration.md").read_text()
    (block,) = re.findall(r"^```sh\n(.*?)^```$", page, re.S | re.M)
    assert block in (EXAMPLES / "mkosi/mkosi.finalize").read_text()
    settings = (EXAMPLES / "mkosi/mkosi.conf").read_text().splitlines()
    named = [word for word in re.findall(r"`([A-Z]\w+=\w+)`", page) if not word.startswith("Initrds")]
    assert len(named) == 3 and set(named) <= set(settings)
