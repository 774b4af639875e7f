# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module indexes of an image, made by kmod's depmod from exactly the modules that are in it.

Sources: depmod(8), modules.dep(5); libkmod opens modules.{dep,alias,symbols,builtin.alias,builtin}.bin and reads
modules.softdep (kmod 30 to 34, libkmod/libkmod.c); `kmod static-nodes` reads modules.devname.
modules.builtin.modinfo is left out: only modinfo(8) reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from preroot.errors import BuildError
from preroot.progress import Reporter, Silent
from preroot.run import run
from preroot.scratch import scratch

_PURPOSE = "to make the indexes of kernel modules"

#: what libkmod, udev and kmod's own tools read
_BINARY = (
    "modules.dep.bin", "modules.alias.bin", "modules.symbols.bin", "modules.builtin.bin", "modules.builtin.alias.bin",
    "modules.softdep", "modules.weakdep", "modules.devname",
)  # fmt: skip
#: what a modprobe without libkmod reads (busybox modutils/modprobe.c)
_TEXT = ("modules.dep", "modules.alias", "modules.symbols", "modules.builtin")


class ModuleFile(Struct, frozen=True):
    """A module of the image: its canonical path there (…/NAME.ko, decompressed) and where the bytes are."""

    path: str
    #: decompressed content on disk
    source: Path
    sha256: str


class BuiltinLists(Struct, frozen=True):
    """The lists that a kernel package has beside its modules; empty where it has none."""

    order: bytes = b""
    builtin: bytes = b""
    builtin_modinfo: bytes = b""


def depmod_key(version: str, modules: Iterable[ModuleFile], lists: BuiltinLists, *, text: bool, tool: str) -> str:
    """Return a digest of everything that decides what run_depmod returns; `tool` is run.tool_version("depmod").

    Pure, so that a caller can look for a kept result before it runs anything.
    """
    from hashlib import sha256

    digest = sha256(f"depmod 1\0{tool}\0{version}\0{int(text)}\0".encode())
    for part in (lists.order, lists.builtin, lists.builtin_modinfo):
        digest.update(sha256(part).digest())
    for path, content in sorted((module.path, module.sha256) for module in modules):
        digest.update(f"{path}\0{content}\0".encode())
    return digest.hexdigest()


def run_depmod(
    version: str,
    modules: Sequence[ModuleFile],
    lists: BuiltinLists,
    *,
    text: bool,
    reporter: Reporter | None = None,
) -> dict[str, bytes]:
    """Run depmod over the modules and return the index files: canonical path → content, sorted.

    `text` adds the text indexes (busybox's modprobe needs them; libkmod does not). depmod's warnings go to the
    reporter, each once.
    The modules are linked, not copied, into a directory of the kernel's shape; the order of files in directories must
    not matter, so modules.order is completed with what it lacks, sorted (depmod numbers the rest as readdir(3) has it).
    Raises BuildError when depmod is missing or fails.
    """
    reporter = reporter or Silent()
    base = f"usr/lib/modules/{version}"
    warned: dict[str, None] = {}
    with scratch("depmod") as top:
        where = top / base
        where.mkdir(parents=True)
        (top / "lib").symlink_to("usr/lib")
        (top / "empty.d").mkdir()
        below = _link_modules(top, base, modules)
        (where / "modules.order").write_bytes(_whole_order(lists.order, below))
        (where / "modules.builtin").write_bytes(lists.builtin)
        (where / "modules.builtin.modinfo").write_bytes(lists.builtin_modinfo)
        run(["depmod", "-b", top, "-C", top / "empty.d", version], purpose=_PURPOSE,
            warn=lambda line: warned.setdefault(line.replace(f"{top}/", "")))  # fmt: skip
        wanted = sorted(_BINARY + _TEXT if text else _BINARY)
        made = {f"{base}/{file}": (where / file).read_bytes() for file in wanted if (where / file).is_file()}
    for line in warned:
        reporter.warn(line)
    return made


def _link_modules(top: Path, base: str, modules: Sequence[ModuleFile]) -> list[str]:
    """Link each module to its place below `top`; return their paths below the modules directory, sorted."""
    below = []
    directories: set[Path] = set()
    for module in sorted(modules, key=lambda module: module.path):
        if not module.path.startswith(f"{base}/"):
            raise BuildError(f"module {module.path} is not below {base}: it is for another kernel")
        target = top / module.path
        if target.parent not in directories:
            target.parent.mkdir(parents=True, exist_ok=True)
            directories.add(target.parent)
        # a link by name: it works across file systems and touches neither owner nor link count of the store's file
        target.symlink_to(module.source.absolute())
        below.append(module.path[len(base) + 1 :])
    return below


def _whole_order(order: bytes, below: Sequence[str]) -> bytes:
    """Return modules.order with what is in the image: in the kernel's order, then the rest by path."""
    wanted = set(below)
    listed = dict.fromkeys(line for line in order.decode("utf-8", "replace").splitlines() if line in wanted)
    return "".join(f"{path}\n" for path in [*listed, *(path for path in below if path not in listed)]).encode()
