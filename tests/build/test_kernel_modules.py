# SPDX-License-Identifier: LGPL-2.1-or-later
"""Selecting and indexing the modules of a real kernel package."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path

import pytest
from kernel_package import module_bytes, modules_directory, unpacked_kernel

from preroot.engine import Engine, Overrides
from preroot.errors import BuildError
from preroot.facts.kernel import compressors, module_name, parse_builtin, parse_config
from preroot.facts.options import known_modules
from preroot.packages.model import ModuleInfo
from preroot.progress import Silent
from preroot.run import need_tool, tool_version
from preroot.tree.depmod import BuiltinLists, ModuleFile, depmod_key, run_depmod
from preroot.tree.kernel import KernelFiles, choose_kernel, find_kernels
from preroot.tree.modules import ModuleRequest, ModuleWorld, make_world, select_modules


@pytest.fixture(scope="module")
def root() -> Path:
    return unpacked_kernel()


@pytest.fixture(scope="module")
def kernel(root: Path) -> KernelFiles:
    paths = (os.path.relpath(Path(base) / name, root) for base, _, names in os.walk(root) for name in names)
    return choose_kernel(find_kernels(paths), "", "the package")


def facts(data: bytes) -> ModuleInfo:
    """Read .modinfo by its strings alone: these modules are known to be sound."""
    values: dict[bytes, list[str]] = {}
    for key, value in re.findall(rb"\0(alias|depends|softdep|firmware|name)=([^\0]*)(?=\0)", data):
        values.setdefault(key, []).append(value.decode())
    pre = [word for line in values.get(b"softdep", []) for word in line.split() if line.startswith("pre:")]
    return ModuleInfo(
        values[b"name"][0], tuple(filter(None, values[b"depends"][0].split(","))), tuple(pre[1:]), (), (),
        tuple(values.get(b"alias", [])), tuple(values.get(b"firmware", [])), "", sha256(data).hexdigest(), len(data),
    )  # fmt: skip


@pytest.fixture(scope="module")
def world(root: Path, kernel: KernelFiles) -> ModuleWorld:
    wanted = ("/virtio", "/btrfs/", "/xfs/", "/crypto/", "/lib/", "/md/", "/net/core/", "/nls", "/usb/", "/scsi/")
    modules = [
        (path, facts(module_bytes(root / path))) for path in kernel.modules if any(part in path for part in wanted)
    ]
    builtin = (root / kernel.builtin).read_text() if kernel.builtin else ""
    modinfo = (root / kernel.builtin_modinfo).read_bytes() if kernel.builtin_modinfo else b""
    return make_world(kernel.version, modules, builtin, modinfo)


def test_the_kernel_is_found(root: Path, kernel: KernelFiles) -> None:
    assert kernel.modules_directory == str(modules_directory(root).relative_to(root))
    assert kernel.image == f"boot/vmlinuz-{kernel.version}"
    assert len(kernel.modules) > 500
    config = parse_config((root / kernel.config).read_text())
    assert {"zstd", "gzip", "none"} <= compressors(config)


def test_selection(world: ModuleWorld) -> None:
    wishes = [ModuleRequest(spec, "required", "f") for spec in ("btrfs", "ext4", "alias:virtio:d00000002v00001AF4")]
    chosen = select_modules(world, wishes)
    assert not chosen.missing
    assert {"btrfs", "raid6_pq", "virtio_blk"} <= set(chosen.modules)
    assert "blake2b_generic" in chosen.modules, "a softdep by its crypto alias"
    assert "ext4" in chosen.builtin


def files(world: ModuleWorld, root: Path, into: Path, names: list[str]) -> list[ModuleFile]:
    made = []
    for name in names:
        path = world.paths[name]
        data = module_bytes(root / path)
        source = into / sha256(data).hexdigest()
        source.write_bytes(data)
        made.append(ModuleFile(re.sub(r"\.ko\..*$", ".ko", path), source, source.name))
    return made


def test_indexes_are_right_and_always_the_same(
    world: ModuleWorld, kernel: KernelFiles, root: Path, tmp_path: Path
) -> None:
    chosen = select_modules(
        world, [ModuleRequest("btrfs", "required", "f"), ModuleRequest("virtio_blk", "required", "f")]
    )
    modules = files(world, root, tmp_path, list(chosen.modules))
    order, builtin, modinfo = (
        (root / path).read_bytes() if path else b"" for path in (kernel.order, kernel.builtin, kernel.builtin_modinfo)
    )
    lists = BuiltinLists(order, builtin, modinfo)
    reporter = Silent()
    made = run_depmod(world.version, modules, lists, text=True, reporter=reporter)
    assert run_depmod(world.version, modules[::-1], lists, text=True) == made
    assert not reporter.warnings
    assert not list(tmp_path.glob("preroot-depmod-*"))
    base = f"usr/lib/modules/{world.version}"
    dependencies = dict(line.split(":") for line in made[f"{base}/modules.dep"].decode().splitlines())
    assert set(dependencies) == {module.path.removeprefix(f"{base}/") for module in modules}
    assert "raid6_pq.ko" in dependencies["kernel/fs/btrfs/btrfs.ko"]
    small = run_depmod(world.version, modules, lists, text=False)
    assert set(made) - set(small) == {f"{base}/modules.{name}" for name in ("dep", "alias", "symbols", "builtin")}
    assert all(made[path] == data for path, data in small.items())

    # kmod itself, without text indexes, in a root of its own
    top = tmp_path / "top"
    for path, data in small.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(data)
    (top / "lib").symlink_to("usr/lib")
    for alias, last in (("virtio:d00000002v00001AF4", "virtio_blk.ko"), ("fs-btrfs", "btrfs.ko")):
        done = subprocess.run([need_tool("modprobe", "to test"), "-d", str(top), "-C", "/dev/null", "-S", world.version,
                               "--show-depends", alias], capture_output=True, text=True, check=False)  # fmt: skip
        lines = [line for line in done.stdout.splitlines() if line]
        assert lines, done.stderr
        assert lines[-1].split()[1].endswith(last)


def test_modules_of_another_kernel_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="for another kernel"):
        run_depmod("6.1", [ModuleFile("usr/lib/modules/6.2/a.ko", tmp_path, "")], BuiltinLists(), text=False)


def test_a_file_that_is_no_module(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"no ELF")
    reporter = Silent()
    modules = [ModuleFile("usr/lib/modules/6.2/kernel/a.ko", tmp_path / "a", "0")]
    try:
        run_depmod("6.2", modules, BuiltinLists(), text=False, reporter=reporter)
    except BuildError as error:
        assert "depmod failed" in error.message
    else:
        assert reporter.warnings
        assert all(str(tmp_path) not in warning for warning in reporter.warnings)


def test_the_key_names_all_that_decides() -> None:
    module = ModuleFile("usr/lib/modules/6.2/a.ko", Path("/x"), "d1")
    tool = tool_version("depmod")
    assert re.match(r"\d", tool)
    base = depmod_key("6.2", [module], BuiltinLists(), text=True, tool=tool)
    moved = ModuleFile(module.path, Path("/elsewhere"), "d1")
    assert base == depmod_key("6.2", [moved], BuiltinLists(), text=True, tool=tool)
    others = {
        depmod_key("6.3", [module], BuiltinLists(), text=True, tool=tool),
        depmod_key("6.2", [ModuleFile(module.path, Path("/x"), "d2")], BuiltinLists(), text=True, tool=tool),
        depmod_key("6.2", [], BuiltinLists(), text=True, tool=tool),
        depmod_key("6.2", [module], BuiltinLists(order=b"x"), text=True, tool=tool),
        depmod_key("6.2", [module], BuiltinLists(builtin=b"x"), text=True, tool=tool),
        depmod_key("6.2", [module], BuiltinLists(), text=False, tool=tool),
        depmod_key("6.2", [module], BuiltinLists(), text=True, tool="0"),
    }
    assert len(others | {base}) == 8


def disagreements(config: Mapping[str, str], modules: Collection[str], builtin: Collection[str]) -> list[str]:
    """Return the options of which a kernel's files say something else than the table of options and modules."""
    found = []
    for option, module in known_modules().items():
        is_so = {"m": module in modules, "y": module in builtin, "n": module not in {*modules, *builtin}}
        if not is_so[config.get(option, "n")]:
            found.append(f"{option} is {config.get(option)}, module {module}")
    return found


def test_options_and_modules_go_together(root: Path, kernel: KernelFiles) -> None:
    config = parse_config((root / kernel.config).read_text())
    modules = {module_name(path) for path in kernel.modules}
    builtin = parse_builtin((root / kernel.builtin).read_text())
    assert sum(config.get(option) == "m" for option in known_modules()) > 50
    assert disagreements(config, modules, builtin) == []


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("release", "arch", "package"),
    [
        ("bookworm", "amd64", ""),
        ("trixie", "amd64", "linux-image-amd64"),
        ("trixie", "arm64", ""),
        ("sid", "amd64", ""),
    ],
)
def test_what_features_say_of_options_holds_for_other_kernels(
    engine: Engine, release: str, arch: str, package: str
) -> None:
    """No warning, and no disagreement: else the data is wrong, for these kernels are good ones."""
    sets = (f"distribution.release={release}", f"distribution.arch={arch}", f"kernel.package={package}")
    loaded = engine.load(None, Overrides(set=sets, features=("emergency-shell", "sysctl", "tmpfiles", "keymap")))
    plan = engine.plan(loaded, engine.lock(loaded, Path("/nowhere/x.lock"), write=False))
    assert plan.kernel is not None and plan.kernel.config
    assert not [warning for warning in plan.warnings if "CONFIG_" in warning]
    for option, module in known_modules().items():
        state = plan.kernel.config.get(option, "n")
        assert (module in plan.kernel.builtin) == (state == "y"), f"{option} is {state}"
        assert module not in plan.kernel.modules or state == "m", f"{option} is {state}"
