# SPDX-License-Identifier: LGPL-2.1-or-later
"""The roots that images are booted into: plain ext4, LUKS with a key file, and LUKS on LVM."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from preroot.boot.scenariofile import DiskSet
from preroot.engine import Engine, Workspace
from preroot.engine.preparing import Preparer
from preroot.image.cpio import archive_chunks
from preroot.recipe.schema import Distribution
from preroot.tree.model import Entry

LABEL = "bench-root"
_LUKS = "4b1d0c5e-77a5-4a4e-9c25-6f7c3d2f0b11"
_VOLUME = "9a0f4f0e-4c0b-4b74-8d7e-0f6f5a3d6c22"
_KEY = b"the key of a disk that is thrown away\n"
#: where the key lies in the image: it comes in an archive of its own behind each generator's, the same for all
_KEY_PATH = "etc/bench.key"

_FORMAT = f"""
printf '%s' '{_KEY.decode()}' > /tmp/key
cryptsetup luksFormat -q --type luks2 --uuid {{uuid}} --pbkdf pbkdf2 --pbkdf-force-iterations 1000 {{device}} /tmp/key
cryptsetup open --key-file /tmp/key {{device}} root
fill /dev/mapper/root ext4 {LABEL}
cryptsetup close root
"""


class Root(Struct, frozen=True):
    """One kind of root: its disk, the command line that all generators understand, and what an image needs for it.

    `bar` is the largest share of dracut's time that the design allows.
    """

    key: str
    title: str
    disks: DiskSet
    cmdline: str
    needs: tuple[str, ...]
    bar: float


ROOTS = (
    Root("ext4", "ext4", DiskSet({"data": 64}, f"fill $data ext4 {LABEL}", "tiny"), f"root=LABEL={LABEL}", (), 2 / 3),
    Root(
        "luks", "ext4 in LUKS2, key file",
        DiskSet({"data": 96}, _FORMAT.format(uuid=_LUKS, device="$data"), "tiny"),
        f"root=LABEL={LABEL} rd.luks.uuid={_LUKS} rd.luks.key={_LUKS}=/{_KEY_PATH}", ("LUKS",), 3 / 4,
    ),
    Root(
        "luks-lvm", "ext4 in LUKS2 on LVM, key file",
        DiskSet({"data": 128}, f"""
vgcreate -qq bench $data
lvcreate -qq -Wn -Zn -n root -L 96M bench
{_FORMAT.format(uuid=_VOLUME, device="/dev/bench/root")}
vgchange -qq -an bench
""", "tiny"),
        f"root=LABEL={LABEL} rd.lvm.lv=bench/root rd.luks.uuid={_VOLUME} rd.luks.key={_VOLUME}=/{_KEY_PATH}",
        ("LUKS", "LVM"), 3 / 4,
    ),
)  # fmt: skip


class MadeRoot(Struct, frozen=True):
    """A root with its disk, and the archives that are loaded behind an image."""

    root: Root
    disk: Path
    archives: tuple[Path, ...]


def make_roots(roots: Iterable[Root], suite: str, cache: Path, logs: Path) -> tuple[MadeRoot, ...]:
    """Return the roots with their disks, from preroot's cache or made now.

    Arguments: the roots, the suite that the tiny root's busybox is from, the bench's cache directory, and the logs'.
    """
    key = cache / "key.cpio"
    entries = [Entry("etc", "directory", 0o755, 0, 0, "recipe", ()),
               Entry(_KEY_PATH, "file", 0o400, 0, 0, "recipe", (), size=len(_KEY))]  # fmt: skip
    key.write_bytes(b"".join(archive_chunks(entries, lambda _: _KEY)))
    with Engine(Workspace(cache / "roots")) as engine:
        preparer = Preparer(engine, logs / "roots")
        return tuple(
            MadeRoot(root, preparer.prepare(root.disks, Distribution(release=suite)).disks["data"], (key,))
            for root in roots
        )
