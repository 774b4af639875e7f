# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that are written aside, synced, and then get their names together: all of a build's outputs, or none.

The file aside is `.NAME.XXXXXXXX.part`, in the directory of the file that it will be. Its writer holds an flock(2) on
it, which the kernel lets go of however the writer ends; so one that can be locked was left behind, and the next writer
of the same file removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, TypeVar

from preroot.errors import BuildError
from preroot.unchanged import Stamp, stamp, stamp_of

SUFFIX = ".part"

_T = TypeVar("_T")


class _Pending:
    """One file aside: its own path and the one it is for; its descriptor stays open, for the lock on it."""

    def __init__(self, aside: str, target: Path, what: str) -> None:
        self.aside = aside
        self.target = target
        self.what = what
        self.descriptor = -1

    def make(self) -> None:
        """Make the file and lock it. Raises OSError."""
        import fcntl

        while True:
            self.descriptor = os.open(self.aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with contextlib.suppress(OSError):  # a file system without locks: nothing there is ever taken for a stray
                fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            if os.fstat(self.descriptor).st_nlink:
                return
            self.close()  # another build took it for a stray before it was locked

    def has_its_name(self) -> bool:
        """Return whether the file is what lies at its target."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self.descriptor), self.target.lstat())
        return False

    def close(self) -> None:
        """Let go of the file, under whatever name it is."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Staging:
    """Collects new files. A context manager: what is not committed when it ends is removed.

    The order in which they were begun is the order in which they get their names.
    """

    def __init__(self) -> None:
        self._pending: list[_Pending] = []
        self._looked_at: set[Path] = set()
        #: of each file that was committed, or is the same already: its stamp, which nobody else's change has
        self.stamps: dict[Path, Stamp] = {}

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._discard()
        except BaseException:  # a signal, while removing: what was begun is ended first
            self._discard()
            raise

    def _discard(self) -> None:
        while self._pending:
            with contextlib.suppress(OSError):
                os.unlink(self._pending[-1].aside)  # noqa: PTH108 - as simple and quick as can be
            self._pending.pop().close()

    @contextlib.contextmanager
    def new(self, target: Path, *, secret: bool = False, what: str = "") -> Iterator[BinaryIO]:
        """Give an unbuffered file that will be `target`; when the context ends it is synced to the disk.

        It is then mode 0644, or 0600 if `secret`, whatever the umask. Directories that are missing are made. `what`
        says in errors what the file is ("the lock "). Raises BuildError when the disk is full, the directory can't be
        written, or `target` is there and no regular file.
        """
        try:
            check_target(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            self._remove_strays(target)
            pending = _Pending(f"{target.parent}/{_start(target)}{os.urandom(4).hex()}{SUFFIX}", target, what)
            self._pending.append(pending)  # first, so that a signal at any moment leaves none behind
            pending.make()
            with os.fdopen(pending.descriptor, "wb", buffering=0, closefd=False) as file:
                yield file
            os.fchmod(pending.descriptor, 0o600 if secret else 0o644)
            os.fsync(pending.descriptor)
        except OSError as error:
            raise write_error(target, error, what) from None

    def write(self, target: Path, data: bytes, *, secret: bool = False, what: str = "") -> None:
        """Add a whole file; one that is the same already is left alone. Raises BuildError as `new` does."""
        before = stamp(target)
        if not secret and is_same(target, data):
            self.stamps[target] = before
            return
        with self.new(target, secret=secret, what=what) as file:
            write_all(file, data)

    def commit(self) -> None:
        """Give all files their names, and see that these are on the disk.

        Two commits into one directory do not mix. Raises BuildError when a file can't be renamed.
        """
        self.commit_unless(lambda: None)

    def commit_unless(self, done: Callable[[], _T | None]) -> _T | None:
        """Commit, unless `done` returns something: what another process has done meanwhile; then return that.

        `done` is called while no other process commits into these directories. Raises BuildError as `commit` does.
        """
        with directories_alone({each.target.parent for each in self._pending}) as directories:
            found = done()
            if found is not None:
                return found
            for each in self._pending:
                check_target(each.target)
            try:
                self._name_all()
            except (KeyboardInterrupt, SystemExit):  # a signal: to end what was begun is the only way to whole outputs
                self._name_all()
                raise
            for descriptor in directories:
                with contextlib.suppress(OSError):  # some network file systems can't
                    os.fsync(descriptor)
        return None

    def _name_all(self) -> None:
        while self._pending:
            each = self._pending[0]
            try:
                os.replace(each.aside, each.target)  # noqa: PTH105 - see _discard
            except OSError as error:
                if not each.has_its_name():  # it has where a signal came just after it was given
                    raise write_error(each.target, error, each.what) from None
            self.stamps[each.target] = stamp_of(os.fstat(each.descriptor))
            self._pending.pop(0).close()

    def _remove_strays(self, target: Path) -> None:
        """Remove what killed writers of `target` left behind."""
        if target in self._looked_at:
            return
        self._looked_at.add(target)
        start = _start(target)
        for name in os.listdir(target.parent):  # noqa: PTH208 - Path objects for each name cost more than the listing
            if name.startswith(start) and name.endswith(SUFFIX):
                remove_abandoned(f"{target.parent}/{name}", os.unlink)


def _start(target: Path) -> str:
    """Return how the names of files aside for `target` start; with the rest of it they have at most 255 bytes."""
    return f".{os.fsdecode(os.fsencode(target.name)[:220])}."


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of `data` to an unbuffered file, which may take less than it is given at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def is_same(path: Path, data: bytes) -> bool:
    """Return whether a regular file, and no link to one, has exactly this content."""
    try:
        status = path.lstat()
        return stat.S_ISREG(status.st_mode) and status.st_size == len(data) and path.read_bytes() == data
    except OSError:
        return False


def check_target(target: Path) -> None:
    """Raise BuildError when something lies at `target` that no build may take the place of: anything but a regular
    file, or a symbolic link, which is replaced and never written through."""
    try:
        mode = target.lstat().st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        kind = "a directory" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
        raise BuildError(f"cannot write {target}: it is {kind}", "remove it, or choose another --output")


def write_error(target: Path, error: OSError, what: str = "") -> BuildError:
    """Return what to tell the user when `target` can't be written; `what` stands before its name."""
    hint = ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "the last image is still there; free some space, or choose another --output"
    elif error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR):
        hint = "choose another --output"
    return BuildError(f"cannot write {what}{target}: {error.strerror}", hint)


def remove_abandoned(path: str, remove: Callable[[str], object]) -> bool:
    """Call `remove` on a file or directory if nobody holds the lock on it, so that its owner has gone.

    It is called with the lock held, as an owner may be between making and locking. Returns whether it was removed.
    """
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(path)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


@contextlib.contextmanager
def directories_alone(directories: Iterable[Path]) -> Iterator[list[int]]:
    """Hold the locks of directories, and give their descriptors; other processes wait that long.

    Always in the same order, so that no two wait for each other; a lock that the file system does not have is done
    without. Raises BuildError when one can't be opened.
    """
    import fcntl

    opened: dict[tuple[int, int], int] = {}
    try:
        for directory in directories:
            try:
                descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise write_error(directory, error) from None
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) in opened:
                os.close(descriptor)  # the same one by another name: its lock would wait for ourselves
            else:
                opened[status.st_dev, status.st_ino] = descriptor
        for key in sorted(opened):
            with contextlib.suppress(OSError):
                fcntl.flock(opened[key], fcntl.LOCK_EX)
        yield list(opened.values())
    finally:
        for descriptor in opened.values():
            os.close(descriptor)
