# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disks that a script makes in a machine of its own, kept in the cache by script, sizes and tree.

RAID, LVM, LUKS with data in it and file systems of several devices can't be made on a host without device-mapper, md
and root. The preparation machine is an image like any other (recipes/preparation.toml): it runs the script that lies
on one of its disks and powers off. Nothing of it runs on this host.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from preroot.boot.disks import copy_sparse
from preroot.boot.filesystems import MIB
from preroot.boot.machine import DiskSpec, Machine, MachineSpec
from preroot.errors import BuildError
from preroot.scratch import own_directory, sweep

#: counted up when the same script would give other disks: its functions have changed, for example
_FORMAT = 1
_MAKING = ".preparing-"
_ENDED = re.compile(r"preroot: preparation ended: (\d+)")
_VALUE = re.compile(r"^preroot-value ([a-z][a-z0-9_]*) (.*?)\s*$")
#: lines of the console that an error shows
_LAST_LINES = 12


class PreparationMachine(Struct, frozen=True):
    """The image of the machine: kernel and initrd, built from recipes/preparation.toml."""

    kernel: Path
    initrd: Path


class Prepared(Struct, frozen=True):
    """Disks by name, what the script has handed out, and the state of the TPM that it had, if it had one."""

    disks: dict[str, Path]
    values: dict[str, str]
    tpm: Path | None = None


def preparation_digest(script: str, sizes: Mapping[str, int], tree: str, *, tpm: bool = False) -> str:
    """Return what the disks are called in the cache; `tree` names what is on the root's tree (a digest)."""
    made_by = (_FORMAT, script, list(sizes.items()), tree, *(["tpm"] if tpm else []))
    return hashlib.sha256(repr(made_by).encode()).hexdigest()


def prepare(
    script: str, sizes: Mapping[str, int], machine: PreparationMachine, *, tree: Path | None, tree_name: str,
    cache: Path, logs: Path, boot_cache: Path, tpm: bool = False,
) -> Prepared:  # fmt: skip
    """Return the disks that `script` makes (sizes in MiB), from the directory `cache` or made now.

    `tree` is a disk with the tree that `fill` copies, `tree_name` names its content. With `tpm` the machine has a TPM,
    fresh from the factory. Logs go to `logs`; `boot_cache` keeps what was found out about this host. Raises BuildError
    with the script's last lines when it fails.
    """
    digest = preparation_digest(script, sizes, tree_name, tpm=tpm)
    directory = cache / digest
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f"{digest}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # whoever wants the same disks waits for the first
            if not directory.exists():
                sweep(str(cache), _MAKING)
                with own_directory(f"{cache}/{_MAKING}") as work:
                    made = work / "made"
                    made.mkdir()
                    disks = {name: _blank(made / f"{name}.img", size) for name, size in sizes.items()}
                    values = run_script(script, disks, machine, tree=tree, workdir=logs, boot_cache=boot_cache,
                                        tpm=made / "tpm" if tpm else None, name=f"prepare-{digest[:8]}")  # fmt: skip
                    (made / "values.json").write_bytes(msgspec.json.encode(values))
                    made.rename(directory)
    except OSError as error:
        raise BuildError(f"the disks in {directory} can't be made: {error.strerror or error}") from error
    values = msgspec.json.decode((directory / "values.json").read_bytes(), type=dict[str, str])
    return Prepared({name: directory / f"{name}.img" for name in sizes}, values, directory / "tpm" if tpm else None)


def _blank(path: Path, size: int) -> Path:
    with path.open("xb") as file:
        file.truncate(size * MIB)
    return path


def run_script(
    script: str, disks: Mapping[str, Path], machine: PreparationMachine, *, tree: Path | None = None, workdir: Path,
    boot_cache: Path, tpm: Path | None = None, name: str = "preparation", timeout: float = 300,
) -> dict[str, str]:  # fmt: skip
    """Run `script` in the preparation machine on `disks`, which it may write to; return the values that it hands out.

    `tpm` is the state of the machine's TPM; None: it has none. Logs go to `workdir`. Raises BuildError with the
    script's last lines when it fails or does not end in `timeout` seconds.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    source = workdir / f"{name}.script"
    text = "\n".join([
        ". /usr/lib/preroot/preparation.sh", *(f'{disk}=$(disk "{disk}")' for disk in disks), "set -x", script, "",
    ])  # fmt: skip
    # padded with line breaks: the shell reads to the end of the disk
    source.write_bytes(text.encode() + b"\n" * (-len(text.encode()) % 4096))
    attached = [DiskSpec(str(source), format="raw", readonly=True, serial="script")]
    if tree is not None:
        attached.append(DiskSpec(str(tree), readonly=True, serial="tree"))
    attached += [DiskSpec(str(path), snapshot=False, serial=disk) for disk, path in disks.items()]
    spec = MachineSpec(str(machine.kernel), initrds=(str(machine.initrd),), cmdline="root=none quiet",
                       disks=tuple(attached), tpm=str(tpm or ""))  # fmt: skip
    with Machine(spec, workdir, timeout=timeout, cache=boot_cache, name=name) as running:
        running.wait()
        lines = running.end().lines
    status = next((found[1] for line in reversed(lines) if (found := _ENDED.search(line))), None)
    if status != "0":
        how = "did not end" if status is None else f"ended with status {status}"
        last = "\n".join(line for line in lines[-_LAST_LINES:] if line.strip())
        raise BuildError(f"the script of the preparation machine {how}:\n{last}", f"all of it is in {running.log}")
    return {found[1]: found[2] for line in lines if (found := _VALUE.match(line))}


def flip_bit(disk: Path, offset: int) -> None:
    """Turn over the lowest bit of the byte at `offset`. Raises BuildError where the disk has no such byte."""
    with disk.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        if not byte:
            raise BuildError(f"{disk} has no byte {offset} to flip")
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def copies(disks: Mapping[str, Path], directory: Path) -> dict[str, Path]:
    """Copy disks, without their holes, into `directory`, over those of an earlier run; return the copies by name."""
    directory.mkdir(parents=True, exist_ok=True)
    copied = {}
    for name, path in disks.items():
        copied[name] = directory / path.name
        with copied[name].open("wb") as file:
            file.truncate(path.stat().st_size)
        copy_sparse(path, copied[name], 0)
    return copied
