# SPDX-License-Identifier: LGPL-2.1-or-later
"""preroot as it is installed: the wheel has everything, and works without the checkout."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from fixture_types import Command

from preroot.engine import Workspace

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src/preroot"


def run(*argv: str | Path, **env: str) -> str:
    """Run a program, away from the checkout, and return its output."""
    environment = {**{key: value for key, value in os.environ.items() if key != "PYTHONPATH"}, **env}
    done = subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    argv = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(directory)]
    subprocess.run(argv, cwd=ROOT, capture_output=True, check=True)
    (found,) = directory.iterdir()
    return found


def test_the_wheel_has_every_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist()}
    files = {f"preroot/{path.relative_to(SOURCE)}": path.read_bytes() for path in SOURCE.rglob("*")
             if path.is_file() and "__pycache__" not in path.parts}  # fmt: skip
    assert {name: data for name, data in packed.items() if ".dist-info/" not in name} == files
    assert {"preroot/py.typed", "preroot/recipes/default.toml", "preroot/runtime/busybox/init"} <= files.keys()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = next(data for name, data in packed.items() if name.endswith(".dist-info/METADATA"))
    needed = [line for line in email.message_from_bytes(about).get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(needed) == sorted(project["dependencies"])
    assert any(name.endswith("/LICENSE") for name in packed)


def test_what_is_installed_builds_as_the_checkout_does(
    wheel: Path, preroot: Command, workspace: Workspace, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel)
    recipe = tmp_path / "appliance.toml"
    recipe.write_bytes((ROOT / "examples/appliance.toml").read_bytes())
    env = {"PYTHONPATH": str(site), "PREROOT_CACHE": str(workspace.cache)}
    where = run(sys.executable, "-c", "import preroot; print(preroot.__file__)", **env)
    assert where.startswith(f"{site}/")
    run(site / "bin/preroot", "build", recipe, "--output", tmp_path / "installed", **env)
    done = preroot("build", recipe, "--output", tmp_path / "checkout", "--locked")
    assert done.returncode == 0, done.stderr
    for name in ("appliance.initrd", "appliance.manifest.json"):
        assert (tmp_path / "installed" / name).read_bytes() == (tmp_path / "checkout" / name).read_bytes()


@pytest.mark.matrix
def test_a_fresh_environment_has_all_that_it_needs(wheel: Path, workspace: Workspace, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    run(tmp_path / "venv/bin/python", "-m", "pip", "install", "--quiet", wheel)
    preroot = tmp_path / "venv/bin/preroot"
    assert "virtio" in run(preroot, "features")
    recipe = tmp_path / "appliance.toml"
    recipe.write_bytes((ROOT / "examples/appliance.toml").read_bytes())
    said = run(preroot, "build", recipe, "--output", tmp_path / "out", PREROOT_CACHE=str(workspace.cache))
    assert said.startswith(f"{tmp_path}/out/appliance.initrd: ")
