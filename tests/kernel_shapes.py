# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel package's files laid out as other things lay them out: a distribution, or `make` of a self-built kernel."""

from __future__ import annotations

import lzma
import os
import shutil
from pathlib import Path

#: directories of a cloud kernel that most of its modules are in, and none that a small image has
_NOT_NEEDED = ("fs", "net", "sound", "security", "virt")


def _tree(root: Path) -> Path:
    """Return the modules directory of an unpacked kernel package."""
    return next(path for base in ("usr/lib/modules", "lib/modules") for path in (root / base).glob("*"))


def release(root: Path) -> str:
    """Return the kernel's release."""
    return _tree(root).name


def boot_file(root: Path, name: str) -> Path:
    """Return boot/NAME-RELEASE of the unpacked package."""
    return root / "boot" / f"{name}-{release(root)}"


def copy_modules(root: Path, target: Path) -> None:
    """Put most of the package's modules, and its lists, at `target`."""
    source = _tree(root)
    for directory, below, names in os.walk(source):
        if Path(directory) == source / "kernel":
            below[:] = [name for name in below if name not in _NOT_NEEDED]
        place = target / os.path.relpath(directory, source)
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copyfile(Path(directory) / name, place / name)


def made(root: Path, target: Path) -> Path:
    """Lay the kernel out in `target` as `make install modules_install` with both paths set to it would.

    With what that has in real life: links to the sources, depmod's indexes (of another world here), vmlinuz without a
    version, some modules not compressed. Returns `target`.
    """
    modules = target / "lib/modules" / release(root)
    copy_modules(root, modules)
    shutil.copyfile(boot_file(root, "vmlinuz"), target / "vmlinuz")
    shutil.copyfile(boot_file(root, "config"), target / "config")
    (target / "vmlinuz.old").write_bytes(b"the kernel before")
    for name in ("build", "source"):
        (modules / name).symlink_to("/nowhere/linux")
    for name in ("modules.dep", "modules.dep.bin", "modules.alias", "modules.alias.bin", "modules.symbols.bin"):
        (modules / name).write_bytes(b"kernel/lies.ko: kernel/more-lies.ko\n")
    for path in sorted(modules.glob("kernel/drivers/virtio/*.ko.xz")):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()
    return target


def staged(root: Path, target: Path) -> Path:
    """Lay it out as a root file system has it: boot/vmlinuz-VERSION, lib a link to usr/lib, modules below that."""
    copy_modules(root, target / "usr/lib/modules" / release(root))
    (target / "lib").symlink_to("usr/lib")
    (target / "boot").mkdir()
    for name in ("vmlinuz", "config"):
        shutil.copyfile(boot_file(root, name), target / "boot" / f"{name}-{release(root)}")
    (target / "vmlinuz").symlink_to(f"boot/vmlinuz-{release(root)}")
    (target / "vmlinuz.old").symlink_to("boot/vmlinuz-1.0")
    return target


def all_in_modules(root: Path, target: Path) -> Path:
    """Lay it out as Fedora does: image and configuration in the modules directory."""
    modules = target / "lib/modules" / release(root)
    copy_modules(root, modules)
    for name in ("vmlinuz", "config"):
        shutil.copyfile(boot_file(root, name), modules / name)
    return target


_MAGIC = b"~Module signature appended~\n"


def module(root: Path, name: str) -> bytes:
    """Return a module of the unpacked package, decompressed."""
    found = next(_tree(root).glob(f"kernel/**/{name}.ko*"))
    data = found.read_bytes()
    return lzma.decompress(data) if found.suffix == ".xz" else data


def out_of_tree(data: bytes) -> bytes:
    """Return a module as one that was built apart from its kernel: without signature, and not marked `intree`.

    The kernel says so when it loads it, which its own module can't make it say. The signature ends with its length
    (struct module_signature, include/linux/module_signature.h).
    """
    assert data.endswith(_MAGIC) and data.count(b"\0intree=Y\0") == 1
    length = int.from_bytes(data[-len(_MAGIC) - 4 : -len(_MAGIC)], "big")
    return data[: -len(_MAGIC) - 12 - length].replace(b"\0intree=Y\0", b"\0author=Y\0")
