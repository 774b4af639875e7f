# SPDX-License-Identifier: LGPL-2.1-or-later
"""The rules of the house that no linter knows: who may import whom, licences, names that must not be in the project."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SOURCE = PROJECT / "src/preroot"

#: Data flows from the first to the last: a room imports from itself and those before it. `run`, `errors`, …
#: `progress` are below them all; what is above all rooms (cli, __main__) may import anything.
ROOMS = ("recipe", "facts", "packages", "tree", "image", "boot", "inspect", "deploy", "serve")
GROUND = frozenset({"errors", "run", "scratch", "progress", "cache", "staging", "unchanged", "__init__"})
#: the only module between rooms and the command line
ENGINE = frozenset({"engine"})

TEXT_SUFFIXES = {".py", ".toml", ".sh", ".service", ".target", ".conf", ".rules", ".md", ".json", ".yml", ""}
#: directories that are no part of the project
FOREIGN = {".git", ".venv", "build", "dist", "__pycache__"}

LONGEST_FILE = 420
SPDX = "SPDX-License-Identifier: LGPL-2.1-or-later"


def project_files(*tops: str) -> Iterator[Path]:
    """Yield the project's own text files below the directories given (the whole project without any)."""
    for top in tops or (".",):
        for path in sorted((PROJECT / top).rglob("*")):
            parts = path.relative_to(PROJECT).parts
            if FOREIGN.isdisjoint(parts) and not any(part.endswith(("_cache", ".egg-info")) for part in parts) \
                    and not any(part == ".hypothesis" for part in parts) and path.is_file() \
                    and path.suffix in TEXT_SUFFIXES:  # fmt: skip
                yield path


def python_files(*tops: str) -> list[Path]:
    """Return the project's Python files, scripts without a suffix included."""
    return [path for path in project_files(*tops) if path.suffix == ".py" or b"python" in path.read_bytes()[:40]]


def shell_files() -> list[Path]:
    """Return the project's scripts for sh or bash, by their first line."""
    shebang = re.compile(rb"#!.*[/ ](sh|dash|bash)( |\n)")
    return [path for path in project_files() if shebang.match(path.read_bytes()[:80])]


def room_of(module: str) -> str:
    """Return the part of the house that a dotted module name of preroot is in."""
    return module.split(".")[1] if "." in module else "__init__"


def imports_of(source: str, module: str) -> set[str]:
    """Return the dotted names of the modules of preroot that `source` (of `module`) imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level]
                base = ".".join([*parents, base]) if base else ".".join(parents)
            found.add(base)
            # `from preroot import engine` names a module in the list, `from preroot.errors import X` does not.
            if base == "preroot":
                found |= {f"preroot.{alias.name}" for alias in node.names}
    return {name for name in found if name == "preroot" or name.startswith("preroot.")}


def forbidden(module: str, imported: str) -> bool:
    """Return whether the rules of the house forbid `module` to import `imported` (both of preroot)."""
    here, there = room_of(module), room_of(imported)
    if there in GROUND or here == there:
        return False
    if here in ROOMS:
        return there not in ROOMS or ROOMS.index(there) > ROOMS.index(here)
    if here in ENGINE:
        return there not in ROOMS
    return here in GROUND


def module_name(path: Path) -> str:
    """Return the dotted name of a source file of preroot (a package's __init__ has it as its last part)."""
    return ".".join(path.relative_to(PROJECT / "src").with_suffix("").parts)


@pytest.mark.parametrize("path", python_files("src"), ids=lambda path: str(path.relative_to(SOURCE)))
def test_rooms_import_only_from_those_above(path: Path) -> None:
    module = module_name(path)
    wrong = sorted(name for name in imports_of(path.read_text(), module) if forbidden(module, name))
    assert not wrong, f"{module} must not import {', '.join(wrong)}: data flows {' → '.join(ROOMS)} → engine → cli"


@pytest.mark.parametrize(
    ("module", "imported", "wrong"),
    [
        ("preroot.recipe.load", "preroot.errors", False),
        ("preroot.facts.arch", "preroot.recipe.schema", False),
        ("preroot.recipe.load", "preroot.facts.arch", True),
        ("preroot.tree.closure.elf", "preroot.image.cpio", True),
        ("preroot.image.cpio", "preroot.tree.model", False),
        ("preroot.boot.machine", "preroot.engine", True),
        ("preroot.engine", "preroot.boot.machine", False),
        ("preroot.engine", "preroot.cli", True),
        ("preroot.cli", "preroot.engine", False),
        ("preroot.run", "preroot.recipe.schema", True),
    ],
)
def test_the_rule_of_the_house_itself(module: str, imported: str, wrong: bool) -> None:
    assert forbidden(module, imported) is wrong


def test_imports_are_found_where_they_hide() -> None:
    source = "import preroot.cli\ndef f():\n    from preroot import engine\n    from ..image import cpio\nimport os\n"
    assert imports_of(source, "preroot.tree.model") == {"preroot", "preroot.cli", "preroot.engine", "preroot.image"}


def test_every_source_file_has_its_licence() -> None:
    sources = [*python_files("src", "tests", "bench", "scripts", "examples"), *shell_files(), PROJECT / "Makefile"]
    lacking = {str(path.relative_to(PROJECT)) for path in sources
               if SPDX not in "\n".join(path.read_text().splitlines()[:2])}  # fmt: skip
    assert not lacking, f"no SPDX line at the top of: {', '.join(sorted(lacking))}"


def test_no_mirror_and_no_path_of_one_machine() -> None:
    """A mirror comes from the user's recipe or the host's own apt configuration, never from the project.

    The words are put together here so that this file does not have them.
    """
    words = re.compile("|".join([
        r"\b(deb|ftp\d?|security|snapshot|archive|ports|http|httpredir)\." r"(\w\w\.)?debian\.(org|net)",
        r"\barchive\.ubuntu\." r"com", r"\bdl\.fedora" r"project\.org", r"\bmirrors?\.[a-z0-9-]+\.[a-z]{2,}/",
        r"\bpypi\." r"org", r"(?<![\w./-])/" r"work/", r"/tmp/" r"w/", r"/root/\." r"pyenv",
    ]))  # fmt: skip
    found = [f"{path.relative_to(PROJECT)}:{number}: {line.strip()}"
             for path in project_files()
             for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
             if words.search(line)]  # fmt: skip
    assert not found, "\n".join(found)


def uses_shell(call: ast.Call) -> bool:
    """Return whether a call runs a string in a shell."""
    name = ast.unparse(call.func)
    if name in ("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"):
        return True
    runs = name.rpartition(".")[2] in ("run", "Popen", "call", "check_call", "check_output")
    return runs and any(word.arg == "shell" and ast.unparse(word.value) != "False" for word in call.keywords)


def test_no_shell_strings() -> None:
    """Programs are run from argv lists (preroot.run), so that no name of a file is ever read as a command."""
    found = []
    for path in python_files("src", "tests", "bench", "scripts", "examples"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and uses_shell(node):
                found.append(f"{path.relative_to(PROJECT)}:{node.lineno}")
    assert not found, f"a shell string: {', '.join(found)}"


def test_files_stay_short() -> None:
    sources = [*python_files("src", "tests", "bench", "scripts", "examples"), *shell_files()]
    long = {f"{path.relative_to(PROJECT)} ({lines})" for path in sources
            if (lines := len(path.read_text().splitlines())) > LONGEST_FILE}  # fmt: skip
    assert not long, f"longer than {LONGEST_FILE} lines: {', '.join(sorted(long))}"


def test_shell_is_clean() -> None:
    """`make lint` runs shellcheck too; this finds the scripts by other means, so that none escapes both."""
    shellcheck = shutil.which("shellcheck")
    assert shellcheck, "shellcheck is needed: scripts/setup test"
    scripts = shell_files()
    assert {path.name for path in scripts} >= {"setup", "lint", "run"}
    done = subprocess.run([shellcheck, *map(str, scripts)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
