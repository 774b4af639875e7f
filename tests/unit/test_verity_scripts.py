# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an image runs for dm-verity: each script by the shell, the image being a directory."""

from __future__ import annotations

import hashlib
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RUNTIME = Path(__file__).parents[2] / "src/preroot/runtime"
BLOCK = 4096
SALT = bytes(range(8))
MISFIT = "does not fit the hash tree"
POLICY = {"required": "yes", "of": "root", "signed": "no", "on-corruption": "restart", "roothash": "", "cmdline": ""}


class Image:
    """An image's directory, as far as the scripts see it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        for name in ("etc/preroot", "run", "proc/self", "dev", "bin", "sysroot", "units"):
            (top / name).mkdir(parents=True, exist_ok=True)
        (top / "proc/mounts").touch()
        self.policy()

    def policy(self, **given: str) -> None:
        lines = POLICY | {key.replace("_", "-"): value for key, value in given.items()}
        (self.top / "etc/preroot/verity").write_text("".join(f"{key}={value}\n" for key, value in lines.items()))

    def program(self, path: str, text: str) -> None:
        (self.top / path).parent.mkdir(parents=True, exist_ok=True)
        (self.top / path).write_text(f"#!/bin/sh\n{text}\n")
        (self.top / path).chmod(0o755)

    def script(self, name: str) -> str:
        text = (RUNTIME / name).read_text()
        for path in ("/etc/preroot", "/run/preroot", "/proc/", "/dev/kmsg", "/sysroot", "/usr/lib/", "/sys/fs/"):
            text = text.replace(path, f"{self.top}{path}")
        return text.replace("PATH=/usr/sbin:/usr/bin", f"PATH={self.top}/bin:/usr/sbin:/usr/bin")

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(["dash", "-c", self.script(name), name, *arguments], capture_output=True, text=True,
                              timeout=60, check=False)  # fmt: skip
        assert done.stderr == ""  # a shell that stumbles says so here
        return done

    @property
    def reasons(self) -> str:
        path = self.top / "run/preroot/reasons"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def image(tmp_path: Path) -> Image:
    made = Image(tmp_path)
    made.program("usr/lib/systemd/systemd-veritysetup", 'echo "$@"')
    return made


def verity(data: bytes, salt: bytes = SALT) -> tuple[bytes, str]:
    """Return superblock and tree of at most 128 blocks, and the root hash; what veritysetup(8) makes by default."""
    digests = b"".join(
        hashlib.sha256(salt + data[at : at + BLOCK]).digest() for at in range(0, len(data), BLOCK)
    ).ljust(BLOCK, b"\0")  # fmt: skip
    superblock = struct.pack(
        "<8sII16s32sIIQH6x256s168x", b"verity", 1, 1, b"u" * 16, b"sha256", BLOCK, BLOCK, len(data) // BLOCK, len(salt),
        salt,
    )  # fmt: skip
    return superblock.ljust(BLOCK, b"\0") + digests, hashlib.sha256(salt + digests).hexdigest()


def ext4(blocks: int) -> bytes:
    data = bytearray(blocks * BLOCK)
    struct.pack_into("<I", data, 1028, blocks)
    struct.pack_into("<I", data, 1048, 2)
    struct.pack_into("<H", data, 1080, 0xEF53)
    return bytes(data)


def file_system(kind: str, blocks: int = 16) -> bytes:
    data = bytearray(ext4(blocks) if kind == "ext4" else blocks * BLOCK)
    if kind == "squashfs":
        struct.pack_into("<I", data, 0, 0x73717368)
        struct.pack_into("<Q", data, 40, len(data) - 100)
    elif kind == "erofs":
        struct.pack_into("<IIIB", data, 1024, 0xE0F5E1E2, 0, 0, 12)
        struct.pack_into("<I", data, 1060, blocks)
    elif kind == "xfs":
        struct.pack_into(">4sIQ", data, 0, b"XFSB", BLOCK, blocks)
    elif kind == "btrfs":
        data[65600:65608] = b"_BHRfS_M"
        struct.pack_into("<Q", data, 65745, len(data))
    return bytes(data)


def attach(image: Image, roothash: str, data: Path, hashes: Path, options: str = "") -> str:
    """Return what systemd-veritysetup gets, or '' where it is not called."""
    done = image.run("systemd/verity-attach", "attach", "usr", str(data), str(hashes), roothash, options)
    assert (done.returncode == 0) == bool(done.stdout)
    return done.stdout.strip()


def test_what_fits_is_attached_with_the_recipes_policy(image: Image) -> None:
    data, hashes = image.top / "data", image.top / "hashes"
    data.write_bytes(ext4(16))
    tree, root = verity(ext4(16))
    hashes.write_bytes(tree)
    assert attach(image, root, data, hashes) == f"attach usr {data} {hashes} {root} restart-on-corruption"
    assert attach(image, root.upper(), data, hashes).endswith(f"{root.upper()} restart-on-corruption")
    weak = "ignore-corruption,ignore-zero-blocks"
    assert attach(image, root, data, hashes, weak).endswith("ignore-zero-blocks,restart-on-corruption")
    image.policy(required="no")
    assert attach(image, root, data, hashes, weak).endswith(weak)
    image.policy(on_corruption="eio")
    assert attach(image, root, data, hashes, weak).endswith("ignore-zero-blocks")


@pytest.mark.parametrize("kind", ["ext4", "squashfs", "erofs", "xfs", "btrfs"])
def test_the_tree_behind_a_file_system_is_found(image: Image, kind: str) -> None:
    content = file_system(kind, 32)
    tree, root = verity(content)
    disk = image.top / "disk"
    disk.write_bytes(content + tree)
    assert f"hash-offset={len(content)},restart" in attach(image, root, disk, disk)


def test_no_tree_behind_a_file_system_and_no_file_system(image: Image) -> None:
    disk = image.top / "disk"
    disk.write_bytes(ext4(16) + b"x" * BLOCK)
    assert not attach(image, "ab" * 32, disk, disk)
    assert f"no hash tree lies behind the file system of {disk} (it would begin at byte 65536)" in image.reasons
    disk.write_bytes(b"\0" * BLOCK)
    assert not attach(image, "ab" * 32, disk, disk)


@pytest.mark.parametrize(
    ("at", "reason"),
    [(0, "no verity superblock"), (88, MISFIT), (95, MISFIT), (BLOCK, MISFIT), (2 * BLOCK - 1, MISFIT), (16, "")],
)
def test_a_bit_of_superblock_or_tree(image: Image, at: int, reason: str) -> None:
    """The UUID at byte 16 protects nothing, and is protected by nothing."""
    data, hashes = image.top / "data", image.top / "hashes"
    data.write_bytes(ext4(16))
    tree, root = verity(ext4(16))
    changed = bytearray(tree)
    changed[at] ^= 1
    hashes.write_bytes(changed)
    assert bool(attach(image, root, data, hashes)) == (not reason)
    assert reason in image.reasons


@pytest.mark.parametrize("given", ["", "xyz", "ab" * 15, "a" * 63, "ab" * 31 + "g0", "ab 34", "$(reboot)", "ab\n" * 20])
def test_what_is_no_root_hash(image: Image, given: str) -> None:
    assert not attach(image, given, image.top / "data", image.top / "data")
    assert "is no root hash" in image.reasons


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=600), st.sampled_from([b"", b"verity\0\0"]))
def test_any_superblock_is_survived(image: Image, content: bytes, magic: bytes) -> None:
    """Whatever lies there: it is passed on or refused with a reason, and the shell never stumbles (Image.run)."""
    disk = image.top / "fuzz"
    disk.write_bytes((magic + content).ljust(2 * BLOCK, b"\0"))
    if not attach(image, "ab" * 32, image.top / "data", disk):
        assert image.reasons.endswith("\n")


MOUNT = "30 1 254:0 / /sysroot ro,relatime shared:1 - ext4 /dev/mapper/root ro"
TABLE = f"0 64 verity 1 254:16 254:32 4096 4096 8 1 sha256 {'ab' * 32} 0011 1 restart_on_corruption"


@pytest.mark.parametrize(
    ("mounts", "table", "policy", "reason"),
    [
        (MOUNT, TABLE, {}, ""),
        (MOUNT, TABLE, {"roothash": f"{'cd' * 32} {'ab' * 32}"}, ""),
        (MOUNT, TABLE, {"roothash": "cd" * 32}, "is none that the image is for"),
        (MOUNT, TABLE.replace("verity", "linear"), {}, "no verity device"),
        (MOUNT, "", {}, "no verity device"),
        (MOUNT, f"{TABLE}\n{TABLE.replace('0 64', '64 64')}", {}, "no verity device"),
        (MOUNT, TABLE.replace("1 restart_on_corruption", ""), {}, "would not restart"),
        (MOUNT, TABLE.replace("1 restart_on_corruption", ""), {"on_corruption": "eio"}, ""),
        (MOUNT, TABLE, {"on_corruption": "panic"}, "would not panic"),
        (MOUNT, TABLE.replace("restart_on", "ignore"), {"on_corruption": "eio"}, "does not check every block"),
        (MOUNT, TABLE.replace("1 rest", "2 check_at_most_once rest"), {}, "does not check every block"),
        (MOUNT, TABLE, {"signed": "yes"}, "no signature"),
        (MOUNT, TABLE.replace("1 rest", "3 root_hash_sig_key_desc x rest"), {"signed": "yes"}, ""),
        (MOUNT.replace(" / /sysroot", " /etc /sysroot"), TABLE, {}, "its directory /etc"),
        (MOUNT.replace("254:0", "0:25").replace("ext4", "btrfs"), TABLE, {}, "the devices are not known"),
        (MOUNT.replace("254:0", "0:25").replace("ext4", "overlay"), "", {}, "no verity device"),
        ("30 1 0:5 / / rw - rootfs rootfs rw", TABLE, {}, "nothing is mounted on /sysroot"),
        (MOUNT, TABLE, {"of": "usr"}, "nothing is mounted on /sysroot/usr"),
        (MOUNT.replace("/sysroot", "/sysroot/usr"), TABLE, {"of": "usr"}, ""),
        (MOUNT.replace("/sysroot", "/sysroot/usr"), TABLE, {}, "nothing is mounted on /sysroot"),
        (MOUNT, TABLE, {"of": "neither"}, "is not readable"),
        (MOUNT, TABLE, {"required": "no"}, "is not readable"),
    ],
)  # fmt: skip
def test_guard(image: Image, mounts: str, table: str, policy: dict[str, str], reason: str) -> None:
    image.policy(**policy)
    image.program("bin/dmsetup", f"[ \"$*\" = 'table -j 254 -m 0' ] && printf '%s\\n' '{table}'")
    (image.top / "proc/self/mountinfo").write_text(
        "\n".join(line.replace("/sysroot", f"{image.top}/sysroot") for line in mounts.split("\n")) + "\n"
    )
    done = image.run("systemd/verity-guard")
    assert (done.returncode == 0) == (not reason), image.reasons
    assert reason in image.reasons.replace(str(image.top), "")


@pytest.mark.parametrize("place", ["/sysroot/usr", "/sysroot/usr/lib", "/sysroot"])
def test_the_guard_looks_at_every_mount_that_covers_another(image: Image, place: str) -> None:
    image.program("bin/dmsetup", f"[ \"$*\" = 'table -j 254 -m 0' ] && printf '%s\\n' '{TABLE}'")
    lines = f"{MOUNT}\n31 30 254:48 / {place} rw - ext4 /dev/vdd rw\n"
    (image.top / "proc/self/mountinfo").write_text(lines.replace("/sysroot", f"{image.top}/sysroot"))
    assert image.run("systemd/verity-guard").returncode == 1
    assert "is mounted from /dev/vdd, which is no verity device" in image.reasons


def early(image: Image, cmdline: str) -> tuple[list[str], str]:
    """Return what /init would execute, and what was refused."""
    (image.top / "proc/cmdline").write_text(f"{cmdline}\n")
    text = f"mount() {{ :; }}\nset -- systemd\n{image.script('systemd/verity-early.sh')}\nprintf '%s\\n' \"$@\""
    (image.top / "run/preroot/reasons").unlink(missing_ok=True)
    done = subprocess.run(["dash", "-c", text], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines(), image.reasons


HARMLESS = [
    "quiet",
    "root=/dev/mapper/root",
    "console=ttyS0",
    "rd.luks.uuid=x",
    "systemd.log_level=debug",
    "rw",
    "systemd.verity_root_data=/dev/vda",
    "systemd.show-status=no",
    "rd.systemd.journald.max_level_console=6",
]
REFUSED = [
    "systemd.verity=no",
    "init=/bin/sh",
    "rd.systemd.unit=x.target",
    "systemd.setenv=A=b",
    "systemd.mask=x",
    "sysctl.kernel.modprobe=/x",
    "systemd.debug_shell",
    "systemd.volatile",
]


def test_the_command_line_is_looked_at_before_systemd(image: Image) -> None:
    run, reasons = early(image, " ".join(HARMLESS))
    assert run[:3] == ["busybox", "env", "-i"]
    assert run[-1].endswith("systemd/systemd")
    assert reasons == ""
    for word in REFUSED:
        run, reasons = early(image, f"quiet {word} rw")
        assert run[-1] == "--unit=emergency.target"
        assert f"Refused on the command line: {word} " in reasons
    image.policy(cmdline="rw init=/sbin/other quiet")
    assert early(image, "init=/sbin/other")[1] == ""
    assert "init=/sbin/others" in early(image, "init=/sbin/others")[1]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(REFUSED), st.data())
def test_no_spelling_gets_past(image: Image, word: str, data: st.DataObject) -> None:
    """systemd takes quotes and backslashes out wherever they are, - for _, and white space for a word's end."""
    spelt = ""
    for character in word:
        spelt += data.draw(st.sampled_from(["", "", "", '"', "'", "\\"]))
        spelt += data.draw(st.sampled_from("-_")) if character in "-_" else character
    ends = data.draw(st.tuples(*[st.sampled_from([" ", "\t", "\n", " \r ", '"', "* "])] * 2))
    assert early(image, f"quiet{ends[0]} {spelt}{ends[1]} * rw")[0][-1] == "--unit=emergency.target"


def generate(image: Image, cmdline: str) -> dict[str, str]:
    """Return what the generator writes: path below its directory → text."""
    (image.top / "proc/cmdline").write_text(f"{cmdline}\n")
    image.program("usr/lib/preroot/cmdline.sh", image.script("helpers/cmdline.sh"))
    unit = "[Service]\nExecStart=/x/systemd-veritysetup attach 'usr' '/dev/a%%b' '/dev/c' 'ab' ''\n"
    image.program(
        "usr/lib/systemd/system-generators/systemd-veritysetup-generator",
        'printf "%s\\n" "$SYSTEMD_PROC_CMDLINE" > "$1/seen"\n'
        f'printf "%s" "{unit}" > "$1/systemd-veritysetup@usr.service"',
    )
    assert image.run("systemd/verity-generator", str(image.top / "units"), "", "").returncode == 0
    return {str(path.relative_to(image.top / "units")): path.read_text()
            for path in (image.top / "units").rglob("*") if path.is_file() and not path.is_symlink()}  # fmt: skip


def test_generated_units_are_attached_by_our_script(image: Image) -> None:
    made = generate(image, "quiet usrhash=" + "ab" * 32)
    drop_in = made["systemd-veritysetup@usr.service.d/50-preroot.conf"]
    assert "\nExecStart=\nExecStart=" in drop_in
    assert "verity-attach attach 'usr' '/dev/a%%b' '/dev/c' 'ab' ''\n" in drop_in
    assert "OnFailure=emergency.target" in drop_in


def test_a_malformed_hash_becomes_a_unit_that_tells(image: Image) -> None:
    made = generate(image, 'rd.roothash="ab%n$x"')
    assert "seen" not in made
    assert "attach root - - 'ab?n?x' ''" in made["systemd-veritysetup@root.service.d/50-preroot.conf"]
    assert (image.top / "units/initrd.target.wants/systemd-veritysetup@root.service").is_symlink()


@pytest.mark.parametrize(
    ("pins", "of", "cmdline", "ends"),
    [
        ("ab" * 32, "root", "quiet", "quiet roothash=" + "ab" * 32),
        ("ab" * 32, "usr", "quiet", "quiet usrhash=" + "ab" * 32),
        ("ab" * 32, "root", "roothash=" + "cd" * 32, "roothash=" + "cd" * 32),
        (f"{'ab' * 32} {'cd' * 32}", "root", "quiet", "quiet"),
    ],
)  # fmt: skip
def test_one_pinned_hash_need_not_be_said(image: Image, pins: str, of: str, cmdline: str, ends: str) -> None:
    image.policy(roothash=pins, of=of)
    assert generate(image, cmdline)["seen"] == f"{ends}\n"
