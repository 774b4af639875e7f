# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the apt source does besides resolving: reading the host's addresses, and downloading by apt's own helper."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from preroot.errors import BuildError
from preroot.packages import apt_errors
from preroot.packages.apt_config import Setup
from preroot.packages.apt_host import (
    HostApt,
    HostEntry,
    is_false,
    network_settings,
    parse_deb822,
    parse_dump,
    parse_sources_list,
)
from preroot.packages.model import Package
from preroot.progress import Reporter
from preroot.run import ProgramError, run
from preroot.scratch import own_directory, sweep

if TYPE_CHECKING:
    from subprocess import Popen

#: not a program for users, so not in PATH; knows every transport, proxy and credential that apt knows
_HELPER = "/usr/lib/apt/apt-helper"
#: one call of the helper takes packages of about so many bytes, so that progress is seen and two calls overlap
_BATCH = 8 << 20
_PARALLEL = 2
#: files that are being downloaded lie in directories that are named so, below that of the archives
_PARTIAL = ".partial-"


def read_host() -> HostApt:
    """Return the host's apt configuration, as far as it concerns mirrors; files that cannot be read are passed over."""
    purpose = "to find the host's mirrors"
    dump = parse_dump(run(["apt-config", "dump"], purpose=purpose).decode("utf-8", "replace"))
    keys = {
        "list": "Dir::Etc::sourcelist/f", "parts": "Dir::Etc::sourceparts/d",
        "auth": "Dir::Etc::netrc/f", "authparts": "Dir::Etc::netrcparts/d",
    }  # fmt: skip
    import shlex

    shell = run(["apt-config", "shell", *(word for pair in keys.items() for word in pair)], purpose=purpose).decode()
    paths = dict(word.partition("=")[::2] for word in shlex.split(shell))
    entries: list[HostEntry] = list(parse_sources_list(_read(Path(paths.get("list", "")))))
    parts = Path(paths.get("parts", "/nonexistent"))
    for path in sorted(parts.iterdir()) if parts.is_dir() else ():
        if path.suffix == ".list":
            entries += parse_sources_list(_read(path))
        elif path.suffix == ".sources":
            entries += parse_deb822(_read(path))
    proxies, tls = network_settings(dump)
    netrc, netrc_parts = paths.get("auth", ""), paths.get("authparts", "")
    # apt fails on credentials that it may not read, even when it does not need them
    return HostApt(
        tuple(entries), proxies, tls,
        netrc if os.access(netrc, os.R_OK) else "",
        netrc_parts if _all_readable(Path(netrc_parts)) else "",
        not is_false(dump.get("Acquire::Check-Valid-Until", "")),
    )  # fmt: skip


def _all_readable(directory: Path) -> bool:
    try:
        return all(os.access(path, os.R_OK) for path in directory.iterdir())
    except OSError:
        return False


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def download(
    packages: Sequence[Package], setup: Setup, archives: Path, environment: Mapping[str, str], reporter: Reporter
) -> None:
    """Download `packages` into `archives`, each under its SHA-256, checked and renamed when whole.

    Raises BuildError naming the package that cannot be had or is not what its digest says; the files that arrived
    before stay.
    """
    from concurrent.futures import ThreadPoolExecutor, as_completed

    if not Path(_HELPER).exists():
        raise BuildError(f"{_HELPER} is needed to download packages and is not installed", "apt-get install apt")
    archives.mkdir(parents=True, exist_ok=True)
    sweep(str(archives), _PARTIAL)
    total = sum(package.size for package in packages)
    with (
        own_directory(f"{archives}/{_PARTIAL}") as aside,
        reporter.step("downloading", total) as step,
        ThreadPoolExecutor(_PARALLEL) as pool,
    ):
        running: set[Popen[bytes]] = set()
        calls = [
            pool.submit(_download_batch, batch, setup, archives, aside, environment, running=running)
            for batch in _batches(packages)
        ]
        try:
            for call in as_completed(calls):
                step.advance(call.result())
        finally:
            for call in calls:
                call.cancel()
            for process in tuple(running):  # after an interrupt or a failure nobody waits for the rest
                process.terminate()


def _batches(packages: Sequence[Package]) -> Iterator[list[Package]]:
    batch: list[Package] = []
    for package in sorted(packages, key=lambda each: (-each.size, each.sha256)):
        batch.append(package)
        if sum(each.size for each in batch) >= _BATCH or len(batch) >= 32:
            yield batch
            batch = []
    if batch:
        yield batch


def _download_batch(
    batch: Sequence[Package],
    setup: Setup,
    archives: Path,
    aside: Path,
    environment: Mapping[str, str],
    *,
    running: set[Popen[bytes]],
) -> int:
    """Download a batch; return its size in bytes."""
    import shutil

    argv = [_HELPER, "download-file"]
    owners = {}
    for package in batch:
        uri = package_uri(package, setup)
        owners[uri] = package.owner
        argv += [uri, str(aside / package.sha256), f"SHA256:{package.sha256}"]
    try:
        run(argv, purpose="to download packages", env=environment, running=running)
    except ProgramError as error:
        output = (error.stderr + b"\n" + error.stdout).decode("utf-8", "replace")
        raise apt_errors.explain_download(output, owners, str(archives)) from None
    for package in batch:
        path = aside / package.sha256
        if path.is_symlink():  # all that apt makes of file: addresses; a cache must outlive the mirror
            target = path.resolve()
            path.unlink()
            shutil.copyfile(target, path)
        _verify(path, package)
        path.chmod(0o644)
        path.replace(archives / package.sha256)
    return sum(package.size for package in batch)


def package_uri(package: Package, setup: Setup) -> str:
    """Return the address of `package` on the mirrors of `setup`.

    A lock from a machine that knew more mirrors (security) than this one names a repository that is not here; the
    main mirror is tried for it, and the digest decides. Raises BuildError for a path that leaves the mirror.
    """
    from urllib.parse import quote

    if {"", ".", ".."} & set(package.filename.split("/")) or not package.filename.isprintable():
        raise BuildError(f"{package.owner}: {package.filename!r} is not a path on a mirror", "is the lock damaged?")
    base = setup.bases[package.repository] if 0 <= package.repository < len(setup.bases) else setup.bases[0]
    return f"{base}/{quote(package.filename, safe='/~')}"


def _verify(path: Path, package: Package) -> None:
    import hashlib

    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    size = path.stat().st_size
    if size != package.size or digest != package.sha256:
        raise BuildError(
            f"{package.owner}: downloaded {size} bytes with SHA-256 {digest}, not {package.size} with {package.sha256}",
            "`preroot lock --update`",
        )
