# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the store learns of kernel modules, when a build first asks for a package's."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from preroot.errors import BuildError, nearest
from preroot.packages.codec import CodecError
from preroot.packages.learn.modinfo import (
    decompress_module,
    glance_modinfo,
    is_module,
    module_codec,
    read_modinfo,
    same_facts,
)
from preroot.packages.model import FileInfo, ModuleInfo, PackageIndex
from preroot.packages.store import Store, StoreCorrupt, in_parallel

if TYPE_CHECKING:
    from preroot.progress import Reporter


def _damaged(index: PackageIndex, path: str, reason: str) -> BuildError:
    return BuildError(f"kernel module {path} of {index.name}={index.version}: {reason}",
                      "the package is broken; choose another version of it")  # fmt: skip


def _modules(index: PackageIndex) -> list[FileInfo]:
    return [info for info in index.files if info.type in {"file", "hardlink"} and is_module(info.path)]


def modules(store: Store, index: PackageIndex, reporter: Reporter) -> dict[str, ModuleInfo]:
    """Return what is known of each module of a package; see `Store.modules`."""
    files = _modules(index)
    if not files:
        return {}
    known = store.load_record(index.sha256, "modules", dict[str, ModuleInfo])
    if known is None:
        known = _learn(store, index, files, reporter, whole=False)
    return known


def _learn(
    store: Store, index: PackageIndex, files: list[FileInfo], reporter: Reporter, whole: bool
) -> dict[str, ModuleInfo]:
    """Read all modules and keep the record; `whole` decompresses them to the end."""

    def read(info: FileInfo) -> tuple[str, ModuleInfo | None]:
        data = store.read(index.sha256, info)
        try:
            if whole:
                return info.path, read_modinfo(decompress_module(info.path, data), info.path)
            return info.path, glance_modinfo(data, info.path)
        except CodecError as error:
            raise _damaged(index, info.path, str(error)) from error

    found = in_parallel(read, files, "reading kernel modules", reporter)
    for path, module in found:
        if module is None:
            raise _damaged(index, path, "is no kernel module, it has no .modinfo section")
    record = {path: module for path, module in found if module is not None}
    store.save_record(index.sha256, "modules", record)
    return record


def decompress_modules(
    store: Store, index: PackageIndex, paths: Collection[str], reporter: Reporter
) -> dict[str, ModuleInfo]:
    """Return modules with their digests, decompressed into the objects; see `Store.decompress_modules`."""
    known = modules(store, index, reporter)
    files = {info.path: info for info in _modules(index)}
    unknown = sorted(set(paths) - files.keys())
    if unknown:
        raise BuildError(f"{index.name}={index.version} has no kernel module {unknown[0]}", nearest(unknown[0], files))
    done = store.load_record(index.sha256, "decompressed", dict[str, ModuleInfo]) or {}
    todo = [
        path for path in sorted(set(paths))
        if module_codec(path) and not (path in done and store.has_object(done[path].sha256, done[path].size))
    ]  # fmt: skip

    def decompress(path: str) -> tuple[str, ModuleInfo]:
        try:
            data = decompress_module(path, store.read(index.sha256, files[path]))
        except CodecError as error:
            raise _damaged(index, path, str(error)) from error
        module = read_modinfo(data, path)
        if module is None:
            raise _damaged(index, path, "is no kernel module, it has no .modinfo section")
        store.put_object(data)
        return path, module

    if todo:
        made = dict(in_parallel(decompress, todo, "decompressing kernel modules", reporter))
        for path, module in made.items():
            if not same_facts(module, known[path]):
                # What a glance took for .modinfo was not all of it, or more: read every module of this kernel whole.
                _learn(store, index, _modules(index), reporter, whole=True)
                raise StoreCorrupt(f"the store misread kernel module {path} of {index.name}={index.version}",
                                   "it was read again in full: run the same command again")  # fmt: skip
        done = {**done, **made}
        store.save_record(index.sha256, "decompressed", done)
    return {path: done[path] if module_codec(path) else known[path] for path in paths}
