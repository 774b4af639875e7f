# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real kernel package for tests: downloaded through a private apt configuration and unpacked, once a machine.

The host's apt state is not touched: of its configuration only the mirror's address and the `Acquire::` settings
(proxies) are read.
"""

from __future__ import annotations

import functools
import lzma
import os
import re
import shutil
import subprocess
from pathlib import Path

from preroot.run import need_tool

RELEASE = "trixie"
PACKAGE = "linux-image-cloud-amd64"


def _output(*argv: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}, cwd=cwd, capture_output=True,
                          text=True, check=False, stdin=subprocess.DEVNULL)  # fmt: skip
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout


def _mirror() -> str:
    """Return the address of the host's own main archive: the one that has the plain release, not its security suite."""
    targets = _output(need_tool("apt-get", "to find the mirror"), "indextargets", "--format",
                      "$(REPO_URI) $(ORIGIN) $(LABEL)", "Created-By: Packages")  # fmt: skip
    mirrors = [line.split()[0] for line in targets.splitlines() if line.endswith(" Debian Debian")]
    assert mirrors, "no Debian mirror in this machine's apt configuration"
    return mirrors[0]


def _private_apt(top: Path) -> dict[str, str]:
    """Make a private apt below `top` and return the environment that selects it."""
    for each in ("etc/empty", "lists/partial", "cache/archives/partial"):
        (top / each).mkdir(parents=True, exist_ok=True)
    (top / "status").touch()
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (top / "etc/sources.list").write_text(f"deb [arch=amd64 signed-by={keyring}] {_mirror()} {RELEASE} main\n")
    acquire = [
        line
        for line in _output("apt-config", "dump", "--format", "%F %v;%n").splitlines()
        if re.match(r"Acquire::(http|https|Retries)\b", line)
    ]
    acquire = [re.sub(r"^(\S+) (.*);$", r'\1 "\2";', line) for line in acquire if not line.endswith(" ;")]
    settings = {
        "Dir::Etc::sourcelist": f"{top}/etc/sources.list", "Dir::Etc::sourceparts": f"{top}/etc/empty",
        "Dir::Etc::parts": f"{top}/etc/empty", "Dir::Etc::main": "/dev/null",
        "Dir::Etc::preferencesparts": f"{top}/etc/empty", "Dir::Etc::preferences": "/dev/null",
        "Dir::State::lists": f"{top}/lists", "Dir::State::status": f"{top}/status", "Dir::Cache": f"{top}/cache",
        "APT::Architecture": "amd64", "Acquire::Languages": "none", "APT::Sandbox::User": "root",
    }  # fmt: skip
    lines = [f'{key} "{value}";' for key, value in settings.items()]
    (top / "apt.conf").write_text("\n".join([*lines, *acquire]) + "\n")
    return {"APT_CONFIG": str(top / "apt.conf")}


def cache_directory() -> Path:
    """Return the directory in which test inputs are kept from one run to the next."""
    base = os.environ.get("PREROOT_TEST_CACHE") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "preroot-tests" / "kernel"


@functools.cache
def unpacked_kernel() -> Path:
    """Return the directory of the unpacked kernel package (with boot/ and usr/lib/modules or lib/modules)."""
    import fcntl

    cache = cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pytest-xdist: one worker downloads, the others wait
        done = cache / "root"
        if not done.exists():
            apt = cache / "apt"
            env = _private_apt(apt)
            _output("apt-get", "-q", "update", env=env)
            depends = _output("apt-cache", "depends", "--important", PACKAGE, env=env)
            image = re.search(r"Depends: (linux-image-\S+)", depends)
            assert image, depends
            _output("apt-get", "-q", "download", image[1], env=env, cwd=cache)
            archive = next(iter(cache.glob("linux-image-*.deb")))
            shutil.rmtree(cache / "root.part", ignore_errors=True)
            _output("dpkg-deb", "-x", str(archive), str(cache / "root.part"))
            archive.unlink()
            shutil.rmtree(apt)
            (cache / "root.part").rename(done)
    return done


def modules_directory(root: Path) -> Path:
    """Return the modules directory (…/lib/modules/VERSION) of an unpacked kernel package."""
    for base in ("usr/lib/modules", "lib/modules"):
        found = sorted((root / base).glob("*")) if (root / base).is_dir() else []
        if found:
            return found[0]
    raise AssertionError(f"no modules in {root}")


def module_bytes(path: Path) -> bytes:
    """Return a module's content, decompressed."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data
