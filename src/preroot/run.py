# SPDX-License-Identifier: LGPL-2.1-or-later
"""The one way in which preroot runs a program: an argv list, never a shell string."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from preroot.errors import BuildError

if TYPE_CHECKING:
    import subprocess

#: Directories that hold administrators' tools and are not on every user's PATH (Debian: mke2fs, depmod, apt-helper).
_EXTRA_PATH = ("/usr/sbin", "/sbin", "/usr/local/sbin")

#: The Debian package that has each tool which preroot may run; `doctor` and the error for a missing one read it.
TOOL_PACKAGES: Mapping[str, str] = {
    "apt-get": "apt",
    "apt-cache": "apt",
    "apt-config": "apt",
    "cpio": "cpio",
    "debugfs": "e2fsprogs",
    "depmod": "kmod",
    "gpgv": "gpgv",
    "lz4": "lz4",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.erofs": "erofs-utils",
    "mkfs.vfat": "dosfstools",
    "mkfs.xfs": "xfsprogs",
    "mksquashfs": "squashfs-tools",
    "qemu-img": "qemu-utils",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-ppc64": "qemu-system-ppc",
    "qemu-system-riscv64": "qemu-system-riscv",
    "qemu-system-s390x": "qemu-system-s390x",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "swtpm": "swtpm",
    "systemd-hwdb": "udev",
    "unshare": "util-linux",
    "xfs_db": "xfsprogs",
    "zstd": "zstd",
}


class ProgramError(BuildError):
    """A program ended with an exit status that its caller did not expect; it carries what the program wrote."""

    def __init__(self, message: str, hint: str, status: int, stdout: bytes, stderr: bytes) -> None:
        super().__init__(message, hint)
        self.status = status
        self.stdout = stdout
        self.stderr = stderr


def find_tool(name: str) -> str | None:
    """Return the path of the program `name`, looking in PATH and in the administrators' directories, or None."""
    import shutil

    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_EXTRA_PATH])
    return shutil.which(name, path=path)


def need_tool(name: str, purpose: str) -> str:
    """Return the path of the program `name`.

    Raises BuildError naming the purpose and the Debian package to install when it is missing.
    """
    found = find_tool(name)
    if found is None:
        package = TOOL_PACKAGES.get(name, name)
        raise BuildError(f"the program {name} is needed {purpose} and is not installed", f"apt-get install {package}")
    return found


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    purpose: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    ok: Sequence[int] = (0,),
    hint: str = "",
    warn: Callable[[str], None] | None = None,
    hold: Sequence[int] = (),
    running: set[subprocess.Popen[bytes]] | None = None,
) -> bytes:
    """Run a program to its end and return its standard output.

    `purpose` completes the sentence "NAME is needed …" or "… failed …" (for example "to resolve packages").
    `warn` is called with each line of standard error of a run that succeeded.
    `env` is added to a small fixed environment (LC_ALL=C.UTF-8, TZ=UTC), so that the user's locale decides nothing.
    `hold` are descriptors that the program keeps open, for the locks on them. While it runs it is in `running`, so that
    another thread can end it.
    Raises ProgramError, a BuildError, with the command and the end of its standard error when the exit status is not
    in `ok`.
    """
    import shlex
    import subprocess

    words = [os.fspath(word) for word in argv]
    words[0] = words[0] if "/" in words[0] else need_tool(words[0], purpose)
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_EXTRA_PATH])
    environment = {**os.environ, "PATH": path, "LC_ALL": "C.UTF-8", "LANGUAGE": "", "TZ": "UTC", **(env or {})}
    with subprocess.Popen(
        words, env=environment, cwd=cwd, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=hold,
    ) as process:  # fmt: skip
        if running is not None:
            running.add(process)
        try:
            output, told = process.communicate(stdin)
        except BaseException:  # an interrupt: it must not go on without us
            process.kill()
            raise
        finally:
            if running is not None:
                running.discard(process)
    if process.returncode not in ok:
        errors = told.decode("utf-8", "replace").strip().splitlines() or ["no error text"]
        tail = "; ".join(line.strip() for line in errors[-4:])
        raise ProgramError(f"{Path(words[0]).name} failed {purpose} (exit {process.returncode}): {tail}",
                           hint or f"run it again: {shlex.join(words)}",
                           process.returncode, output, told)  # fmt: skip
    if warn is not None:
        for line in told.decode("utf-8", "replace").splitlines():
            warn(line)
    return output


@functools.cache
def tool_version(name: str) -> str:
    """Return the version of a program that shapes bytes, as `NAME --version` has it in its first line.

    Raises BuildError when it is missing or fails.
    """
    lines = run([name, "--version"], purpose="to name its version").decode("utf-8", "replace").split("\n")
    return version_in(lines[0])


def version_in(text: str) -> str:
    """Return the first thing in `text` that looks like a version (`v1.9.4`, `10.0.2-1`, `version 30`), or ''."""
    import re

    found = re.search(r"(?<![\w.])v?(\d+(?:\.\d+)+[\w.+~-]*|(?<=version )\d+\b)", text)
    return found[1] if found else ""
