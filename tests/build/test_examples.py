# SPDX-License-Identifier: LGPL-2.1-or-later
"""The programs of examples/ work as they are."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from preroot.engine import BuildError, Engine, Silent, Workspace
from preroot.engine.checks import checked
from preroot.inspect.archive import read_file
from preroot.packages.lock import read_lock
from preroot.packages.model import ModuleInfo
from preroot.tree.model import KernelPlan, Plan

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run_example(workspace: Workspace, name: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """Run an example as a user does, over the kept cache."""
    argv = [sys.executable, "-W", "error", str(EXAMPLES / name), *map(str, arguments)]
    env = {**os.environ, "PREROOT_CACHE": str(workspace.cache)}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def example(name: str) -> ModuleType:
    """Import an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def built(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the images of the first example, with their locks, into a directory."""
    output = tmp_path_factory.mktemp("built")
    done = run_example(workspace, "build_images.py", output)
    assert (done.returncode, done.stderr) == (0, "")
    (output / "said").write_text(done.stdout)
    return output


@pytest.fixture
def recipe(built: Path, tmp_path: Path) -> Path:
    """A copy of the examples' recipe with the lock beside it that the first example has made."""
    shutil.copy(EXAMPLES / "appliance.toml", tmp_path / "appliance.toml")
    shutil.copy(built / "appliance.lock", tmp_path / "appliance.lock")
    return tmp_path / "appliance.toml"


def test_a_build_in_a_script(built: Path) -> None:
    said = (built / "said").read_text()
    for name in ("appliance", "rescue"):
        manifest = json.loads((built / f"{name}.manifest.json").read_bytes())
        assert f"{name}.initrd: {(built / f'{name}.initrd').stat().st_size} bytes\n" in said
        assert f"  tree digest {manifest['tree-digest']}\n" in said
        assert (
            f"  for kernel {manifest['kernel']['version']}, with {len(manifest['kernel']['modules'])} modules" in said
        )
        for part in manifest["parts"]:
            assert f"  part {part['name']}: {part['size']} bytes, {part['uncompressed']} uncompressed\n" in said
    archive = read_file(built / "rescue.initrd")
    assert archive.read(archive.effective()["etc/motd"]) == b"In trouble? Ask the operator on duty.\n"


def test_what_a_user_can_mend_is_said_in_a_line(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run_example(workspace, "build_images.py", tmp_path / "file")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: cannot make the directory {tmp_path}/file: ")
    assert "hint:  choose another --output" in done.stderr


@pytest.fixture
def packages(built: Path, workspace: Workspace, tmp_path: Path) -> Path:
    """A directory with the package files of the lock."""
    directory = tmp_path / "packages"
    directory.mkdir()
    for package in read_lock(built / "appliance.lock").packages:
        (directory / f"{package.name}_{package.arch}.deb").symlink_to(workspace.cache / "archives" / package.sha256)
    return directory


def test_packages_from_a_directory_make_the_same_image(
    workspace: Workspace, built: Path, recipe: Path, packages: Path, tmp_path: Path
) -> None:
    (tmp_path / "appliance.lock").unlink()
    done = run_example(workspace, "directory_source.py", packages, recipe, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/appliance.initrd").read_bytes() == (built / "appliance.initrd").read_bytes()
    lock = read_lock(tmp_path / "out/directory.lock")
    assert lock.trust == {"directory": str(packages)}
    assert {package.filename for package in lock.packages} <= {path.name for path in packages.iterdir()}


@pytest.mark.parametrize(
    "case",
    [
        ("busybox", "{packages} has no package busybox for amd64"),
        ("libc6", "the library libc.so.6, asked for by /usr/bin/"),
    ],
)
def test_a_package_that_is_not_in_the_directory(
    workspace: Workspace, recipe: Path, packages: Path, tmp_path: Path, case: tuple[str, str]
) -> None:
    lacking, says = case
    (packages / f"{lacking}_amd64.deb").unlink()
    done = run_example(workspace, "directory_source.py", packages, recipe, tmp_path / "out")
    assert done.returncode == 1
    assert says.format(packages=packages) in done.stderr
    assert not list((tmp_path / "out").glob("*.initrd"))


def test_a_directory_with_a_package_twice(packages: Path) -> None:
    shutil.copy(packages / "busybox_amd64.deb", packages / "again.deb")
    source = example("directory_source").DirectorySource(packages, "amd64")
    with pytest.raises(BuildError, match=f"{packages} has busybox twice"):
        source.resolve(["busybox"], Silent())


def test_own_checks(workspace: Workspace, recipe: Path, tmp_path: Path) -> None:
    done = run_example(workspace, "own_checks.py", recipe, tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "all checks passed" in done.stdout
    with recipe.open("a") as file:
        file.write('[[file]]\npath = "usr/bin/su"\ncontent = "#!/bin/sh\\n"\nmode = "4755"\n')
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    done = run_example(workspace, "own_checks.py", recipe, tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: usr/bin/su of recipe is set-id (4755)\nhint:  leave it out by `exclude`\n"
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}


@pytest.fixture
def plan(workspace: Workspace, recipe: Path) -> Plan:
    with Engine(workspace) as engine:
        loaded = engine.load(recipe)
        return engine.plan(loaded, engine.lock(loaded, recipe.with_suffix(".lock"), frozen=True))


def test_a_check_of_licences_and_one_of_packages(plan: Plan) -> None:
    checks = example("own_checks")
    assert plan.kernel is not None and plan.kernel.info
    assert {info.license for info in plan.kernel.info.values()} <= checks.GPL_COMPATIBLE
    assert list(checks.only_free_modules(plan)) == []
    blob = ModuleInfo("blob", (), (), (), (), (), (), "", "", 0, license="Proprietary")
    kernel = KernelPlan(plan.kernel.version, (), {}, {"blob": blob}, (), {}, None)
    (found,) = checks.only_free_modules(Plan("p", "initrd", (), kernel, plan.lock))
    assert str(found) == "module blob has the licence 'Proprietary' (leave-out-modules = ['blob'])"
    with pytest.raises(BuildError, match=r"usr/.* is from kmod=\S+, which is not wanted .* asks for it \("):
        checked(plan, [checks.nothing_from("kmod*")])


def test_a_plan_is_looked_at_and_then_written(workspace: Workspace, plan: Plan, built: Path, tmp_path: Path) -> None:
    with Engine(workspace) as engine:
        init = next(part.tree.entries["init"] for part in plan.parts if "init" in part.tree.entries)
        assert engine.read(init).startswith(b"#!")
        result = engine.write(plan, tmp_path / "out", name="other")
    assert result.image == tmp_path / "out/other.initrd"
    assert result.image.read_bytes() == (built / "appliance.initrd").read_bytes()
    assert not result.consulted


def test_one_engine_in_several_threads(workspace: Workspace, built: Path, tmp_path: Path) -> None:
    names = ("appliance", "rescue") * 2
    data = {"rescue": example("build_images").rescue("the operator on duty"), "appliance": EXAMPLES / "appliance.toml"}
    with Engine(workspace) as engine:

        def build(number: int) -> bytes:
            name = names[number]
            output = tmp_path / str(number)
            result = engine.build(engine.load(data[name]), output, lock=built / f"{name}.lock", frozen=True)
            return result.image.read_bytes()

        with ThreadPoolExecutor(len(names)) as threads:
            images = list(threads.map(build, range(len(names))))
    assert images == [(built / f"{name}.initrd").read_bytes() for name in names]
