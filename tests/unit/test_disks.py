# SPDX-License-Identifier: LGPL-2.1-or-later
"""Disk images: what is in them is read back by each file system's own tools, never by the code that wrote them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from other_user import run_as_other
from preroot.boot import disks, stage
from preroot.boot.disks import DiskRecipe, Volume, make_disk, part_uuid, volume_uuid
from preroot.boot.filesystems import MIB
from preroot.boot.stage import DiskEntry
from preroot.errors import BuildError, RecipeError
from preroot.run import run

ROOT = (
    DiskEntry("usr/bin/tool", "file", 0o4755, data=b"#!/bin/sh\n"),
    DiskEntry("usr/bin/crontab", "file", 0o2755, gid=101, data=b"x" * 70000),
    DiskEntry("etc/shadow", "file", 0o640, gid=42, data=b"root:*:::::::\n"),
    DiskEntry("bin", "symlink", 0o777, target="usr/bin"),
    DiskEntry("tmp", "directory", 0o1777),
    DiskEntry("var/mail", "directory", 0o2775, gid=8),
    DiskEntry("home/big uid", "directory", 0o700, uid=100000, gid=100000),
    DiskEntry('odd "quoted"', "file", 0o600, data=b"q"),
    DiskEntry("dev/console", "node", 0o600, device=("c", 5, 1)),
    DiskEntry("dev/sda", "node", 0o660, gid=6, device=("b", 8, 0)),
)
ROOT_OWNED = tuple(
    DiskEntry(entry.path, entry.type, entry.mode, data=entry.data, target=entry.target)
    for entry in ROOT
    if entry.type != "node"
)
XFS = tuple(entry for entry in ROOT if " " not in entry.path)


def one(fstype: str, entries: Iterable[DiskEntry], **values: object) -> tuple[DiskRecipe, dict[str, disks.Content]]:
    entries = tuple(entries)
    name = stage.digest(entries)
    volume = Volume(fstype=fstype, content=name, **values)  # type: ignore[arg-type]
    return DiskRecipe(volumes=(volume,)), {name: lambda: entries}


def ext4_stat(image: Path, path: str) -> tuple[int, int, int, str]:
    said = run(["debugfs", "-R", f'stat "{path}"', image], purpose="to read it back").decode()
    kind = re.search(r"Type: (.+?) {2,}Mode: +(\d+)", said)
    owner = re.search(r"User: +(\d+) +Group: +(\d+)", said)
    assert kind and owner, said
    return int(kind[2], 8), int(owner[1]), int(owner[2]), kind[1]


TYPES = {"file": "regular", "directory": "directory", "symlink": "symlink"}


def check_ext4(image: Path, entries: Iterable[DiskEntry]) -> None:
    for entry in entries:
        mode, uid, gid, kind = ext4_stat(image, "/" + entry.path.replace('"', '""'))
        assert (mode, uid, gid) == (entry.mode, entry.uid, entry.gid), entry.path
        device = entry.device
        expected = TYPES.get(entry.type) or ("character special" if device and device[0] == "c" else "block special")
        assert kind == expected, entry.path
    run(["e2fsck", "-fn", image], purpose="to check it")


def test_ext4_owners_modes_nodes(tmp_path: Path) -> None:
    recipe, contents = one("ext4", ROOT, label="a label with sp")
    image = make_disk(recipe, contents, tmp_path / "cache")
    check_ext4(image, ROOT)
    assert ext4_stat(image, "/")[:3] == (0o755, 0, 0)
    said = run(["blkid", "-p", "-o", "export", image], purpose="to read it back").decode()
    assert f"UUID={volume_uuid(recipe)}" in said
    assert "LABEL=a label with sp" in said.replace("\\ ", " ")
    assert run(["debugfs", "-R", "cat /etc/shadow", image], purpose="to read it") == b"root:*:::::::\n"
    assert b"Device major/minor number: 08:00" in run(["debugfs", "-R", "stat /dev/sda", image], purpose="to read it")


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "squashfs"])
def test_owners_do_not_need_root(tmp_path: Path, fstype: str) -> None:
    """As an ordinary user, if we are none."""
    entries = ROOT if fstype != "xfs" else XFS
    tmp_path.chmod(0o777)
    for directory in tmp_path.parents:
        if directory.stat().st_uid == os.getuid() and os.getuid() == 0 and len(directory.parts) > 2:
            directory.chmod(directory.stat().st_mode | 0o011)
    program = f"""
import sys; sys.path[:0] = {sys.path!r}
import os; os.umask(0o077); assert os.getuid() != 0
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_disks; from pathlib import Path
recipe, contents = test_disks.one({fstype!r}, test_disks.{"XFS" if fstype == "xfs" else "ROOT"})
print(test_disks.make_disk(recipe, contents, Path({str(tmp_path / "a cache")!r})))
"""
    user = run_as_other(f"open({str(Path(__file__))!r}).close()") if os.getuid() == 0 else []
    done = subprocess.run([*user, sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    image = Path(done.stdout.strip())
    {"ext4": check_ext4, "xfs": check_xfs, "squashfs": check_squashfs}[fstype](image, entries)


def check_xfs(image: Path, entries: Iterable[DiskEntry]) -> None:
    for entry in entries:
        if entry.type == "symlink":  # xfs_db follows no path through a link, and stops at one
            continue
        said = run(["xfs_db", "-r", "-c", f"path /{entry.path}", "-c", "print core.mode core.uid core.gid", image],
                   purpose="to read it back").decode()  # fmt: skip
        mode, uid, gid = (found[1] for found in re.finditer(r"core\.\w+ = (\w+)", said))
        assert (int(mode, 8) & 0o7777, int(uid), int(gid)) == (entry.mode, entry.uid, entry.gid), entry.path
    run(["xfs_repair", "-n", image], purpose="to check it")


def check_squashfs(image: Path, entries: Iterable[DiskEntry]) -> None:
    said = run(["unsquashfs", "-lln", "-d", "", image], purpose="to read it back").decode()
    lines = said.splitlines()
    for entry in entries:
        line = next((line for line in lines if line.endswith(f"/{entry.path}") or f"/{entry.path} ->" in line), None)
        assert line is not None, (entry.path, said)
        assert line.split()[1] == f"{entry.uid}/{entry.gid}", line
        if entry.mode & 0o4000:
            assert line[3] == "s", line
        if entry.mode & 0o1000:
            assert line[9] == "t", line
        assert line[0] == {"file": "-", "directory": "d", "symlink": "l"}.get(entry.type, (entry.device or "?")[0])


def test_xfs(tmp_path: Path) -> None:
    recipe, contents = one("xfs", XFS, label="root")
    image = make_disk(recipe, contents, tmp_path)
    check_xfs(image, XFS)
    assert f"UUID={volume_uuid(recipe)}" in run(["blkid", "-p", "-o", "export", image], purpose="to read it").decode()
    assert image.stat().st_blocks * 512 < 100 * MIB  # sparse


def test_xfs_refuses_spaces(tmp_path: Path) -> None:
    recipe, contents = one("xfs", [DiskEntry("a b", "file", 0o644)])
    with pytest.raises(BuildError, match="space in a name: a b"):
        make_disk(recipe, contents, tmp_path)
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_btrfs(tmp_path: Path) -> None:
    recipe, contents = one("btrfs", ROOT_OWNED, label="two words")
    image = make_disk(recipe, contents, tmp_path)
    said = run(["blkid", "-p", "-o", "export", image], purpose="to read it").decode()
    assert f"UUID={volume_uuid(recipe)}" in said
    run(["btrfs", "check", "--readonly", image], purpose="to check it")
    dump = run(["btrfs", "inspect-internal", "dump-tree", "-t", "5", image], purpose="to read it").decode()
    assert "mode 104755" in dump and "name: tool" in dump
    assert set(re.findall(r"uid (\d+) gid (\d+)", dump)) == {("0", "0")}


def test_erofs_and_vfat(tmp_path: Path) -> None:
    recipe, contents = one("erofs", ROOT_OWNED)
    before = os.umask(0o077)  # which must not become the root directory's mode
    try:
        image = make_disk(recipe, contents, tmp_path)
    finally:
        os.umask(before)
    assert "Access: 0755" in run(["dump.erofs", "--path=/", image], purpose="to read it").decode()
    run(["fsck.erofs", image], purpose="to check it")
    said = run(["dump.erofs", "--path=/usr/bin/tool", image], purpose="to read it").decode()
    assert "Uid: 0   Gid: 0" in said
    # erofs-utils 1.5 shows and extracts nine bits of the mode only; the inode has them all (erofs_fs.h).
    number = re.search(r"NID: (\d+)", said)
    assert number
    data = image.read_bytes()
    inode = int.from_bytes(data[1024 + 40 : 1024 + 44], "little") * 4096 + int(number[1]) * 32
    assert int.from_bytes(data[inode + 4 : inode + 6], "little") == 0o104755
    files = [DiskEntry("EFI/BOOT/BOOTX64.EFI", "file", 0o644, data=b"MZ"), DiskEntry("loader.conf", "file", 0o644)]
    recipe, contents = one("vfat", files, label="ESP")
    image = make_disk(recipe, contents, tmp_path)
    run(["fsck.vfat", "-n", image], purpose="to check it")
    assert run(["mtype", "-i", image, "::EFI/BOOT/BOOTX64.EFI"], purpose="to read it") == b"MZ"
    said = run(["blkid", "-p", "-o", "export", image], purpose="to read it").decode()
    assert f"UUID={volume_uuid(recipe)}" in said and re.fullmatch("[0-9A-F]{4}-[0-9A-F]{4}", volume_uuid(recipe))


def test_gpt(tmp_path: Path) -> None:
    files = (DiskEntry("hello", "file", 0o644, data=b"hello"),)
    name = stage.digest(files)
    recipe = DiskRecipe(
        volumes=(
            Volume("blank", size=3),
            Volume("ext4", content=name, part_label="the root", label="r"),
            Volume("squashfs", content=name, part_label="usr"),
        ),
        table="gpt",
    )
    image = make_disk(recipe, {name: lambda: files}, tmp_path)
    run(["sfdisk", "--verify", image], purpose="to check it")
    said = run(["sfdisk", "--dump", image], purpose="to read it").decode().upper()
    assert part_uuid(recipe, 1).upper() in said
    assert 'NAME="THE ROOT"' in said
    starts = [int(start) for start in re.findall(r"START= *(\d+)", said)]
    with image.open("rb") as whole, (tmp_path / "part").open("wb") as part:
        whole.seek(starts[1] * 512)
        shutil.copyfileobj(whole, part)
    assert run(["debugfs", "-R", "cat /hello", tmp_path / "part"], purpose="to read it") == b"hello"
    found = run(["blkid", "-p", "-O", str(starts[2] * 512), "-o", "export", image], purpose="to read it").decode()
    assert "TYPE=squashfs" in found


def test_made_once_and_the_same_twice(tmp_path: Path) -> None:
    files = (DiskEntry("hello", "file", 0o644, data=b"hello"),)
    recipe, contents = one("squashfs", files)
    calls: list[str] = []

    def counted(inner: Callable[[], Iterable[DiskEntry]]) -> disks.Content:
        def entries() -> Iterable[DiskEntry]:
            calls.append("made")
            return inner()

        return entries

    contents = {name: counted(content) for name, content in contents.items()}
    first = make_disk(recipe, contents, tmp_path / "one")
    assert make_disk(recipe, contents, tmp_path / "one") == first
    assert calls == ["made"]
    second = make_disk(recipe, contents, tmp_path / "two")
    assert first.read_bytes() == second.read_bytes()
    assert [path.name for path in (tmp_path / "one").iterdir()] == [first.name]


def test_recipes_tell_content_apart() -> None:
    one_, two = (DiskEntry("a", "file", 0o644, data=b"1"),), (DiskEntry("a", "file", 0o644, data=b"2"),)
    assert stage.digest(one_) != stage.digest(two)
    assert stage.digest(one_ + two) == stage.digest(two + one_)
    assert stage.digest([DiskEntry("a", "file", 0o644)]) != stage.digest([DiskEntry("a", "file", 0o600)])
    recipe = DiskRecipe(volumes=(Volume("ext4"),))
    assert volume_uuid(recipe) != part_uuid(recipe)
    assert volume_uuid(recipe) != volume_uuid(DiskRecipe(volumes=(Volume("ext4", label="x"),)))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([DiskEntry("../out", "file", 0o644)], "cannot be put on a disk"),
        ([DiskEntry("/etc/passwd", "file", 0o644)], "cannot be put on a disk"),
        ([DiskEntry("a/./b", "file", 0o644)], "cannot be put on a disk"),
        ([DiskEntry("", "directory", 0o755)], "cannot be put on a disk"),
        ([DiskEntry("out", "symlink", 0o777, target="/"), DiskEntry("out/x", "file", 0o644)], "goes through out"),
        ([DiskEntry("a", "file", 0o644), DiskEntry("a", "file", 0o644)], "twice"),
        ([DiskEntry("a", "file", 0o644), DiskEntry("a/b", "file", 0o644)], "goes through a"),
    ],
)
def test_hostile_entries(tmp_path: Path, entries: list[DiskEntry], said: str) -> None:
    recipe, contents = one("ext4", entries)
    with pytest.raises(BuildError, match=said):
        make_disk(recipe, contents, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (DiskRecipe(volumes=()), "at least one"),
        (DiskRecipe(volumes=(Volume("ext4"), Volume("ext4"))), "has one volume"),
        (DiskRecipe(volumes=(Volume("ext4", label="seventeen letters"),)), "too long for ext4"),
        (DiskRecipe(volumes=(Volume("squashfs", label="x"),)), "squashfs has no labels"),
        (DiskRecipe(volumes=(Volume("ext5"),)), "ext5"),  # type: ignore[arg-type]
        (DiskRecipe(volumes=(Volume("blank"),)), "blank"),
        (DiskRecipe(volumes=(Volume("ext4", part_label='a"b'),), table="gpt"), "partition label"),
    ],
)
def test_impossible_recipes(tmp_path: Path, recipe: DiskRecipe, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        make_disk(recipe, {}, tmp_path)


def test_too_small_says_so(tmp_path: Path) -> None:
    recipe, contents = one("ext4", [DiskEntry("big", "file", 0o644, data=os.urandom(3 * MIB))], size=2)
    with pytest.raises(BuildError, match="mke2fs failed to make an ext4 image"):
        make_disk(recipe, contents, tmp_path)


def test_cache_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recipe, contents = one("squashfs", [])
    with pytest.raises(BuildError, match="cannot be made"):
        make_disk(recipe, contents, tmp_path / "file" / "cache")


def test_power_of_two(tmp_path: Path) -> None:
    recipe, contents = one("squashfs", [DiskEntry("a", "file", 0o644, data=os.urandom(5000))])
    image = make_disk(DiskRecipe(volumes=recipe.volumes, power_of_two=True), contents, tmp_path)
    assert image.stat().st_size & (image.stat().st_size - 1) == 0


def test_copy_sparse(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    with source.open("wb") as file:
        file.seek(8 * MIB)
        file.write(b"data" * 2000)
        file.truncate(32 * MIB)
    target.touch()
    os.truncate(target, 64 * MIB)
    disks.copy_sparse(source, target, MIB)
    data = target.read_bytes()
    assert data[MIB : 33 * MIB] == source.read_bytes()
    assert target.stat().st_blocks * 512 < 4 * MIB
