# SPDX-License-Identifier: LGPL-2.1-or-later
"""The store: packages unpacked once, content-addressed, with what was learnt about each of their files.

A package is one *blob* (the contents of all its files, one after the other) and one *index* (MessagePack of a
PackageIndex), both named by the SHA-256 of the package file; thousands of small files would cost more to write and
read, and could not be made atomically. Nothing is ever changed in place, and whatever is read is checked against a
digest, so parallel builds, kill -9 and bit rot lead at worst to work done again.

Layout below the directory: `v<FORMAT>/packages/<sha256>.{blob,index,modules,decompressed}`,
`v<FORMAT>/objects/<sha256>`, `v<FORMAT>/memo/<sha256 of the key>`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import msgspec
from msgspec import Struct

from preroot.errors import BuildError
from preroot.packages.aside import FORMAT, PREFIX, new_file, read_sealed, store_error, write_sealed
from preroot.packages.model import FileInfo, ModuleInfo, Package, PackageIndex
from preroot.packages.presence import Presence

if TYPE_CHECKING:
    from preroot.progress import Reporter

#: An entry counts as used at most this long after its time stamp was last set; not setting it each time saves writes.
_TOUCH_SECONDS = 6 * 3600

_T = TypeVar("_T")
_R = TypeVar("_R")


class StoreCorrupt(BuildError):
    """Something in the store did not match its digest. It was removed: the same command run again makes it anew."""


class Store:
    """The store in one directory, which is made when something is first written.

    A context manager; files that were read stay open until `close()`. Every method may be called from several threads.
    All raise BuildError, with the way out, when the directory cannot be read or written; reading needs no right to
    write.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        top = directory / f"v{FORMAT}"
        self._packages = top / "packages"
        self._objects = top / "objects"
        self._memo = top / "memo"
        self.presence = Presence(directory)
        self._lock = threading.Lock()
        self._blobs: dict[str, int] = {}
        self._most_open = _most_open()
        self._indexes: dict[str, PackageIndex] = {}
        self._decoder = msgspec.msgpack.Decoder(PackageIndex)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files that were kept open."""
        with self._lock:
            for descriptor in self._blobs.values():
                os.close(descriptor)
            self._blobs.clear()
        self.presence.leave()

    # Packages

    def index(self, package: Package) -> PackageIndex | None:
        """Return the index of a package; None when it is to be unpacked: not there, damaged, or of another format."""
        found = self._indexes.get(package.sha256)
        if found is not None:
            return found
        with self._accessing():
            found = self._load_index(package.sha256)
            if found is not None:
                self._indexes[package.sha256] = found
                _touch(self._package(package.sha256, "index"))
        return found

    def _load_index(self, sha256: str) -> PackageIndex | None:
        payload = read_sealed(self._package(sha256, "index"))
        if payload is None:
            return None
        try:
            index = self._decoder.decode(payload)
            size = self._package(sha256, "blob").stat().st_size
        except (msgspec.DecodeError, FileNotFoundError):
            return None
        return index if (index.format, index.sha256, index.blob_size) == (FORMAT, sha256, size) else None

    def unpack(self, package: Package, file: Path) -> PackageIndex:
        """Unpack a package file into the store and return its index, whether or not it is there already.

        Raises BuildError when the file's digest is not the package's (it is checked while reading) or it isn't sound.
        """
        from preroot.packages.unpack import unpack

        with self._accessing(write=True):
            try:
                source = file.open("rb", buffering=0)
            except OSError as error:
                raise BuildError(f"package {package.owner}: cannot read {file}: {error.strerror}",
                                 "let it be fetched again") from error  # fmt: skip
            with source, new_file(self._package(package.sha256, "blob")) as blob:
                index = unpack(package, source, file.name, blob)
            # The index last: it is what says that the package is there.
            write_sealed(self._package(package.sha256, "index"), msgspec.msgpack.encode(index))
        self._forget(package.sha256)
        return index

    def adopt(self, write: Callable[[BinaryIO], PackageIndex]) -> PackageIndex:
        """Keep a package that comes from no package file: `write` fills its blob and returns its index.

        What `write` raises is passed on, and nothing is kept then.
        """
        # its digest, and with it its name, is only known when all is read
        temporary = self._packages / f"{PREFIX}adopted-{os.getpid()}-{threading.get_ident()}"
        with self._accessing():
            with new_file(temporary) as blob:
                index = write(blob)
            temporary.replace(self._package(index.sha256, "blob"))
            write_sealed(self._package(index.sha256, "index"), msgspec.msgpack.encode(index))
        self._forget(index.sha256)
        return index

    def unpack_all(
        self, packages: Collection[Package], files: Mapping[str, Path], reporter: Reporter
    ) -> dict[str, PackageIndex]:
        """Return the index of each package by its SHA-256, in the order given; unpack what is not in the store.

        `files` maps the SHA-256 of each package that is not there to its file. Unpacking runs in parallel. Raises
        BuildError as `unpack` does.
        """
        found = {package.sha256: self.index(package) for package in packages}
        missing = {package.sha256: package for package in packages if found[package.sha256] is None}
        for package in missing.values():
            if package.sha256 not in files:
                raise BuildError(
                    f"package {package.owner} is neither in the store nor downloaded", "build with network"
                )
        if missing:
            # The largest first, so that none of them is left alone at the end.
            todo = sorted(missing.values(), key=lambda package: -package.size)
            found |= dict(
                in_parallel(
                    lambda each: (each.sha256, self.unpack(each, files[each.sha256])), todo, "unpacking", reporter
                )
            )
        return {sha256: index for sha256, index in found.items() if index is not None}

    def read(self, package_sha: str, info: FileInfo) -> bytes:
        """Return the content of a package's file; arguments and errors as of `read_at`."""
        return self.read_at(package_sha, info.offset, info.size, info.sha256, info.path)

    def read_at(self, package_sha: str, offset: int, size: int, sha256: str, path: str = "a file") -> bytes:
        """Return `size` bytes at `offset` of a package's blob, checked against their SHA-256.

        Raises StoreCorrupt, having removed the entry, when they are not there or do not match.
        """
        with self._accessing():
            try:
                data = self._read_blob(package_sha, size, offset)
            except FileNotFoundError:
                data = None
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            raise self._corrupt(package_sha, path)
        return data

    def _read_blob(self, sha256: str, size: int, offset: int) -> bytes:
        """Read from a package's blob, which stays open unless too many are."""
        with self._lock:
            descriptor = self._blobs.get(sha256, -1)
            keep = descriptor >= 0 or len(self._blobs) < self._most_open
            if descriptor < 0:
                descriptor = os.open(self._package(sha256, "blob"), os.O_RDONLY | os.O_CLOEXEC)
                if keep:
                    self._blobs[sha256] = descriptor
        try:
            return _read_range(descriptor, size, offset)
        finally:
            if not keep:
                os.close(descriptor)

    # Kernel modules

    def modules(self, index: PackageIndex, reporter: Reporter) -> dict[str, ModuleInfo]:
        """Return what is known of each kernel module of a package, by its path in the package.

        Made when first asked for, and kept. `sha256` is "" and `size` 0 for compressed modules, which are read only as
        far as needed. Raises BuildError for a module that is damaged.
        """
        from preroot.packages.store_modules import modules

        return modules(self, index, reporter)

    def decompress_modules(
        self, index: PackageIndex, paths: Collection[str], reporter: Reporter
    ) -> dict[str, ModuleInfo]:
        """Return the modules at `paths` with digest and size of their decompressed contents.

        Those that are compressed in the package are then among the objects: `get_object(info.sha256)`. Made in parallel
        when first asked for, and kept. Raises BuildError for a module that is damaged, or that `modules` does not know.
        """
        from preroot.packages.store_modules import decompress_modules

        return decompress_modules(self, index, paths, reporter)

    def load_record(self, package_sha: str, kind: str, type_: type[_T]) -> _T | None:
        """Return a record kept beside a package, None when it is not there or damaged."""
        with self._accessing():
            payload = read_sealed(self._package(package_sha, kind))
        if payload is None:
            return None
        try:
            return msgspec.msgpack.decode(payload, type=type_)
        except msgspec.DecodeError:
            return None

    def save_record(self, package_sha: str, kind: str, value: object) -> None:
        """Keep a record (anything that msgspec encodes) beside a package; it goes when the package goes."""
        with self._accessing(write=True):
            write_sealed(self._package(package_sha, kind), msgspec.msgpack.encode(value))

    # Objects and results

    def put_object(self, data: bytes) -> str:
        """Keep `data` and return its SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        with self._accessing(write=True):
            if not self.has_object(sha256, len(data)):
                with new_file(self.object_path(sha256)) as file:
                    file.write(data)
        return sha256

    def has_object(self, sha256: str, size: int) -> bool:
        """Return whether an object is there with its size, and mark it as used; it is checked when it is read."""
        path = self.object_path(sha256)
        try:
            there = path.stat().st_size == size
        except OSError:
            return False
        if there:
            _touch(path)
        return there

    def get_object(self, sha256: str) -> bytes | None:
        """Return an object, None when it is not there or damaged (it is then removed, to be made again)."""
        path = self.object_path(sha256)
        with self._accessing():
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                return None
        if hashlib.sha256(data).hexdigest() != sha256:
            remove(path)
            return None
        _touch(path)
        return data

    def drop_object(self, sha256: str) -> None:
        """Remove an object that nothing names any more; who wants it after all makes it anew."""
        remove(self.object_path(sha256))

    def object_path(self, sha256: str) -> Path:
        """Return where an object is or would be; who reads it there checks it."""
        return self._objects / sha256

    def recall(self, key: str) -> bytes | None:
        """Return what was remembered under `key`, None when there is nothing or it is damaged."""
        path = self._memo_path(key)
        with self._accessing():
            value = read_sealed(path)
        if value is not None:
            _touch(path)
        return value

    def remember(self, key: str, value: bytes) -> None:
        """Keep a result; `key` must come from everything that the result depends on, preroot's version included."""
        with self._accessing(write=True):
            write_sealed(self._memo_path(key), value)

    # Upkeep

    def gc(self, keep: Collection[str], older_than_seconds: float) -> GcResult:
        """Remove what was not used for that long, and what killed processes left behind.

        While others use the store, what was used within the last day stays. `keep` has the SHA-256 of packages and
        objects, and the keys of results, that stay whatever their age.
        """
        from preroot.packages.store_upkeep import gc

        with self._accessing(), self.presence.cleaning() as alone:
            names = {*keep, *(self._memo_path(key).name for key in keep)}
            return gc(self.directory, names, older_than_seconds, alone=alone)

    def verify(self) -> list[str]:
        """Check every digest in the store; remove what is damaged, and return its names (kind and digest), sorted."""
        from preroot.packages.store_upkeep import verify

        with self._accessing():
            damaged = verify(self.directory / f"v{FORMAT}", self._load_index)
        self._indexes.clear()
        self.close()
        return damaged

    # Within

    def _package(self, sha256: str, kind: str) -> Path:
        return self._packages / f"{sha256}.{kind}"

    def _memo_path(self, key: str) -> Path:
        return self._memo / hashlib.sha256(key.encode()).hexdigest()

    def _forget(self, sha256: str) -> None:
        """Let go of what is in memory of a package that was unpacked anew or removed."""
        with self._lock:
            self._indexes.pop(sha256, None)
            descriptor = self._blobs.pop(sha256, None)
        if descriptor is not None:
            os.close(descriptor)

    def _corrupt(self, sha256: str, path: str) -> StoreCorrupt:
        index = self._indexes.get(sha256)
        owner = f"{index.name}={index.version}" if index else sha256
        self._forget(sha256)
        for kind in ("index", "blob", "modules", "decompressed"):
            remove(self._package(sha256, kind))
        return StoreCorrupt(f"the store's copy of {path} of package {owner} is damaged",
                            "it was removed: run the same command again")  # fmt: skip

    @contextlib.contextmanager
    def _accessing(self, *, write: bool = False) -> Iterator[None]:
        self.presence.enter(make=write)
        try:
            yield
        except OSError as error:
            raise store_error(error, self.directory) from error


class GcResult(Struct, frozen=True):
    """What `Store.gc` did: entries removed and kept, bytes freed."""

    removed: int
    kept: int
    freed: int


def _most_open() -> int:
    """Return how many blobs may be open at once: a quarter of what this process may open (getrlimit(2))."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 512 if limit == resource.RLIM_INFINITY else min(512, limit // 4)


def _read_range(descriptor: int, size: int, offset: int) -> bytes:
    """Read up to `size` bytes; one pread(2) gives at most 2 GiB."""
    data = os.pread(descriptor, size, offset)
    if len(data) == size:
        return data
    parts = [data]
    while parts[-1] and (have := sum(map(len, parts))) < size:
        parts.append(os.pread(descriptor, size - have, offset + have))
    return b"".join(parts)


def remove(path: Path) -> None:
    """Remove a file of the store if possible: in a read-only store, a damaged entry stays and is passed over."""
    with contextlib.suppress(OSError):
        path.unlink()


def _touch(path: Path) -> None:
    """Mark an entry as used; a store that is read-only keeps its time stamps."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > _TOUCH_SECONDS:
            os.utime(path)


def in_parallel(function: Callable[[_T], _R], items: Iterable[_T], name: str, reporter: Reporter) -> list[_R]:
    """Return function(item) of each item, in their order, computed in as many threads as there are processors.

    Threads and not processes: decompression, digests and writing run without the interpreter's lock, and nothing need
    be started or copied. `name` is the step that `reporter` shows. The first failure ends the rest and is raised.
    """
    todo = list(items)
    workers = min(len(os.sched_getaffinity(0)), len(todo))
    with reporter.step(name, len(todo)) as step:
        if workers <= 1:
            results = []
            for item in todo:
                results.append(function(item))
                step.advance()
            return results
        from concurrent.futures import ThreadPoolExecutor, as_completed

        with ThreadPoolExecutor(workers) as pool:
            futures = [pool.submit(function, item) for item in todo]
            try:
                for future in as_completed(futures):
                    future.result()
                    step.advance()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
            return [future.result() for future in futures]
