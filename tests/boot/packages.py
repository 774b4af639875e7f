# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real packages for boot tests, of any architecture: downloaded once through a private apt configuration.

Of the host's apt configuration only the mirror's address and how the network is reached are read; its state is not
touched.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from preroot.boot.rootfs import busybox_from_deb
from preroot.run import need_tool

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_ACQUIRE = re.compile(r'Acquire::(?:https?\b.*|Retries|Check-Valid-Until|Check-Date) ".+";$')


def cache_directory() -> Path:
    """Return the directory in which test inputs are kept from one run to the next."""
    base = os.environ.get("PREROOT_TEST_CACHE") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "preroot-tests"


def _output(*argv: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    argv = (need_tool(argv[0], "to fetch packages for tests"), *argv[1:])
    done = subprocess.run(argv, env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}, cwd=cwd, capture_output=True,
                          text=True, check=False, stdin=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout


def _mirror() -> str:
    """Return the address of the host's own main archive: the one of a plain release, not of its security suite."""
    targets = _output(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"
    )
    for line in targets.splitlines():
        uri, release, component = line.split()
        if component == "main" and re.fullmatch(r"bookworm|trixie|forky|sid|stable|testing|unstable", release):
            return uri
    raise AssertionError("no Debian mirror in this machine's apt configuration")


def _private_apt(top: Path, release: str, arch: str) -> dict[str, str]:
    """Make a private apt below `top`, with its lists, and return the environment that selects it."""
    for each in ("empty", "lists/partial", "cache/archives/partial"):
        (top / each).mkdir(parents=True, exist_ok=True)
    (top / "status").touch()
    (top / "sources.list").write_text(f"deb [arch={arch} signed-by={_KEYRING}] {_mirror()} {release} main\n")
    settings = {
        "Dir::Etc::sourcelist": top / "sources.list", "Dir::Etc::sourceparts": top / "empty",
        "Dir::Etc::parts": top / "empty", "Dir::Etc::main": "/dev/null", "Dir::Etc::preferences": "/dev/null",
        "Dir::Etc::preferencesparts": top / "empty", "Dir::State::lists": top / "lists",
        "Dir::State::status": top / "status", "Dir::Cache": top / "cache", "APT::Architecture": arch,
        "APT::Architectures": arch, "Acquire::Languages": "none", "APT::Sandbox::User": "",
    }  # fmt: skip
    lines = [f'{key} "{value}";' for key, value in settings.items()]
    lines += [line for line in _output("apt-config", "dump").splitlines() if _ACQUIRE.match(line)]
    (top / "apt.conf").write_text("\n".join(lines) + "\n")
    env = {"APT_CONFIG": str(top / "apt.conf")}
    if not any((top / "lists").glob("*Packages*")):
        _output("apt-get", "-q", "update", env=env)
    return env


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pytest-xdist: one worker downloads, the others wait
        yield


def package(name: str, *, release: str = "trixie", arch: str = "amd64") -> Path:
    """Return the package file of `name`, or for a package without content (linux-image-ARCH) of what it stands for."""
    top = cache_directory() / f"{release}-{arch}"
    with _locked(top):
        chosen = top / f"{name}.deb"
        if not chosen.exists():
            env = _private_apt(top / "apt", release, arch)
            depends = _output("apt-cache", "depends", "--important", name, env=env)
            real = re.search(r"Depends: (linux-image-\d\S+)", depends)
            work = top / "download"
            work.mkdir(exist_ok=True)
            for old in work.glob("*.deb"):
                old.unlink()
            _output("apt-get", "-q", "download", real[1] if real else name, env=env, cwd=work)
            next(work.glob("*.deb")).rename(chosen)
        return chosen


def busybox(*, release: str = "trixie", arch: str = "amd64") -> bytes:
    """Return a static busybox program."""
    file = package("busybox-static", release=release, arch=arch)
    with file.open("rb") as opened:
        return busybox_from_deb(opened, file.name)


class KernelFiles:
    """An unpacked kernel package."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.image = next((root / "boot").glob("vmlinuz-*"))
        self.modules = next(path for path in root.glob("**/lib/modules/*") if path.is_dir())

    def module(self, name: str) -> bytes:
        """Return a module's content, decompressed."""
        import lzma

        found = next(self.modules.glob(f"**/{name}.ko*"))
        data = found.read_bytes()
        return lzma.decompress(data) if found.suffix == ".xz" else data

    def with_dependencies(self, *names: str) -> list[str]:
        """Return modules with what they depend on, each after what it needs; those built in are left out."""
        ordered: list[str] = []
        builtin = {Path(line).stem.replace("-", "_") for line in (self.modules / "modules.builtin").open()}

        def add(name: str) -> None:
            if name in ordered or name.replace("-", "_") in builtin:
                return
            paths = list(self.modules.glob(f"**/{name}.ko*"))
            assert paths, f"no module {name} in {self.modules}"
            depends = _output("modinfo", "-F", "depends", str(paths[0])).strip()
            for needed in filter(None, depends.split(",")):
                add(needed)
            ordered.append(name)

        for name in names:
            add(name)
        return ordered


def kernel(name: str = "linux-image-cloud-amd64", *, release: str = "trixie", arch: str = "amd64") -> KernelFiles:
    """Return the files of a kernel package, unpacked once."""
    file = package(name, release=release, arch=arch)
    top = file.parent
    with _locked(top / "unpack"):
        root = top / f"{name}.root"
        if not root.exists():
            part = top / f"{name}.part"
            _output("rm", "-rf", str(part))
            _output("dpkg-deb", "-x", str(file), str(part))
            part.rename(root)
    return KernelFiles(root)
