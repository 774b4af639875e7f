# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who uses the cache: builds tell that they are there, and `store gc` takes nothing away from them.

Two directories are locked (flock(2)), so that no file has to be made and the kernel lets go of what a killed process
held. `use` is shared by all that run. `gate` is held by gc while it removes, and passed by who begins: so gc never
waits for a build, a build waits for a gc that is under way, and nobody waits for somebody who waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path


class Presence:
    """The presence of one store's user. `directory` is the store's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._use = -1
        self._tried = False
        self._cleaning: bool | None = None
        self._lock = threading.Lock()

    def enter(self, *, make: bool) -> None:
        """Tell that the store is used from now on, once; this waits for a gc that is under way.

        A store that is not there is made if `make`, else there is nothing to use. Where nothing can be locked (a store
        of another user, a file system without locks) it is used without.
        """
        if self._tried:
            return
        with self._lock:
            if self._tried:
                return
            gate = _open(self._directory, make=make)
            if gate < 0:
                return
            self._tried = True
            try:
                self._use = _open(self._directory / "in-use", make=True)
                with contextlib.suppress(OSError):
                    fcntl.flock(gate, fcntl.LOCK_SH)
                    if self._use >= 0:
                        fcntl.flock(self._use, fcntl.LOCK_SH)
            finally:
                os.close(gate)

    def leave(self) -> None:
        """Tell that the store is not used any more."""
        with self._lock:
            if self._use >= 0:
                os.close(self._use)
            self._use = -1
            self._tried = False

    @contextlib.contextmanager
    def cleaning(self) -> Iterator[bool]:
        """Let nobody begin for the time of the context; give whether nobody but this user is there.

        It may be nested.
        """
        if self._cleaning is not None:
            yield self._cleaning
            return
        self.enter(make=False)
        gate = _open(self._directory, make=False)
        try:
            with contextlib.suppress(OSError):
                if gate >= 0:
                    fcntl.flock(gate, fcntl.LOCK_EX)
            self._cleaning = self._alone()
            yield self._cleaning
        finally:
            self._cleaning = None
            with contextlib.suppress(OSError):
                if self._use >= 0:
                    fcntl.flock(self._use, fcntl.LOCK_SH)
            if gate >= 0:
                os.close(gate)

    def _alone(self) -> bool:
        if self._use < 0:
            return False
        try:
            fcntl.flock(self._use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with contextlib.suppress(OSError):  # flock(2): a lock that can't be converted may be lost
                fcntl.flock(self._use, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        return True


def _open(directory: Path, *, make: bool) -> int:
    """Open a directory, which is made if it is not there and `make`; -1 where that can't be done."""
    with contextlib.suppress(OSError):
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if not make:
        return -1
    with contextlib.suppress(OSError):
        directory.mkdir(parents=True, exist_ok=True)
    return _open(directory, make=False)
