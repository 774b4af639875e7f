# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's command line, what is probed, consoles over pipes, and machines that are programs of this test."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from preroot.boot import host
from preroot.boot.machine import (
    DiskSpec,
    Machine,
    MachineSpec,
    NicSpec,
    full_cmdline,
    image_format,
    join_initrds,
    qemu_argv,
    with_formats,
)
from preroot.boot.platforms import PLATFORMS, Bus, Emulator
from preroot.boot.rootfs import proof
from preroot.boot.scenario import Expect, Scenario, Within, explain, judge, prove, run_scenario, stop_when
from preroot.boot.serial import Console, ConsoleEnded
from preroot.errors import BuildError, RecipeError

QEMU = Emulator("/bin/qemu", (10, 0, 2))


def pairs(argv: list[str], option: str) -> list[str]:
    return [value for key, value in itertools.pairwise(argv) if key == option]


def spec(**values: object) -> MachineSpec:
    return MachineSpec(kernel="/k", **values)  # type: ignore[arg-type]


def raw(bus: Bus, image: str = "/d", **values: object) -> DiskSpec:
    return DiskSpec(image, bus=bus, format="raw", **values)  # type: ignore[arg-type]


def test_amd64() -> None:
    argv = qemu_argv(spec(initrds=("/i",), cmdline="root=/dev/vda quiet", memory=512, cpus=3), QEMU)
    assert argv == [
        "/bin/qemu", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "3", "-m", "512",
        "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
        "-kernel", "/k", "-append", "console=ttyS0 panic=-1 root=/dev/vda quiet", "-initrd", "/i",
    ]  # fmt: skip


@pytest.mark.parametrize("arch", PLATFORMS)
def test_every_platform(arch: str) -> None:
    argv = qemu_argv(spec(arch=arch, disks=(raw("virtio"),), nics=(NicSpec(),)), QEMU)
    assert f"console={PLATFORMS[arch].console}" in pairs(argv, "-append")[0]
    assert ("virtio-blk-ccw" if arch == "s390x" else "virtio-blk-pci") + ",drive=disk0" in pairs(argv, "-device")
    assert ("virtio-net-ccw" if arch == "s390x" else "virtio-net-pci") + ",netdev=net0" in pairs(argv, "-device")


def test_memory_comes_in_pieces() -> None:
    """pseries takes multiples of 256 MiB (spapr_machine_init() of QEMU 10)."""
    memory = {(arch, size): pairs(qemu_argv(spec(arch=arch, memory=size), QEMU), "-m")
              for arch in ("amd64", "ppc64el") for size in (300, 512)}  # fmt: skip
    assert memory == {("amd64", 300): ["300"], ("amd64", 512): ["512"], ("ppc64el", 300): ["512"],
                      ("ppc64el", 512): ["512"]}  # fmt: skip


def test_arm64_does_not_emulate_pointer_authentication() -> None:
    assert pairs(qemu_argv(spec(arch="arm64"), QEMU), "-cpu") == ["cortex-a57"]


@pytest.mark.parametrize(
    ("version", "cpu"), [((7, 2, 19), "max,cx16=off"), ((9, 2, 4), "max,cx16=off"), ((10, 0, 0), "max")]
)
def test_old_qemu_gets_its_quirk(version: tuple[int, int, int], cpu: str) -> None:
    assert pairs(qemu_argv(spec(), Emulator("q", version)), "-cpu") == [cpu]
    assert pairs(qemu_argv(spec(cpu="Nehalem"), Emulator("q", version)), "-cpu") == ["Nehalem"]


def test_accelerators() -> None:
    kvm = Emulator("q", (7, 2, 0), kvm=True)
    argv = qemu_argv(spec(), kvm)
    assert (pairs(argv, "-accel"), pairs(argv, "-cpu")) == (["kvm", "tcg,thread=multi"], ["max"])
    assert pairs(qemu_argv(spec(accel="tcg"), kvm), "-accel") == ["tcg,thread=multi"]
    with pytest.raises(BuildError, match="KVM was asked for"):
        qemu_argv(spec(accel="kvm"), QEMU)


def test_disks() -> None:
    argv = qemu_argv(
        spec(disks=(raw("virtio", "/a,b"), raw("sata"), raw("sata", serial="S,1"), raw("nvme"), raw("usb"), raw("scsi"),
                    raw("mmc"), DiskSpec("/q", format="qcow2", snapshot=False, readonly=True))), QEMU)  # fmt: skip
    assert pairs(argv, "-drive")[0] == "if=none,id=disk0,file=/a,,b,format=raw,cache=unsafe,snapshot=on"
    assert pairs(argv, "-drive")[7] == "if=none,id=disk7,file=/q,format=qcow2,cache=unsafe,readonly=on"
    assert pairs(argv, "-device") == [
        "virtio-blk-pci,drive=disk0", "ich9-ahci,id=ahci", "ide-hd,bus=ahci.0,drive=disk1",
        "ide-hd,bus=ahci.1,drive=disk2,serial=S,,1", "nvme,drive=disk3,serial=disk3", "qemu-xhci,id=xhci",
        "usb-storage,bus=xhci.0,drive=disk4", "virtio-scsi-pci,id=scsi", "scsi-hd,bus=scsi.0,drive=disk5",
        "sdhci-pci,id=sdhci6", "sd-card,drive=disk6", "virtio-blk-pci,drive=disk7",
    ]  # fmt: skip


def test_screens() -> None:
    assert not any("VGA" in each or "gpu" in each for each in qemu_argv(spec(), QEMU))
    assert "VGA" in pairs(qemu_argv(spec(screen="vga"), QEMU), "-device")
    assert "virtio-gpu-ccw" in pairs(qemu_argv(spec(screen="virtio", arch="s390x"), QEMU), "-device")


def test_a_bus_that_the_machine_lacks() -> None:
    with pytest.raises(BuildError, match="an s390x machine has no sata bus for /d"):
        qemu_argv(spec(arch="s390x", disks=(raw("sata"),)), QEMU)


def test_nics() -> None:
    argv = qemu_argv(
        spec(nics=(NicSpec("user,hostfwd=tcp::1-:2", mac="02:00:00:00:00:01"), NicSpec(model="e1000"))), QEMU
    )
    assert pairs(argv, "-netdev") == ["user,id=net0,hostfwd=tcp::1-:2", "user,id=net1"]
    assert pairs(argv, "-device") == ["virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01", "e1000,netdev=net1"]


def test_unknown_architecture() -> None:
    with pytest.raises(RecipeError, match=r"amd65.*did you mean 'amd64'"):
        qemu_argv(spec(arch="amd65"), QEMU)


def test_command_line_of_the_user_wins() -> None:
    assert full_cmdline(spec(cmdline="console=hvc0 panic=0")) == "console=hvc0 panic=0"
    assert full_cmdline(spec(arch="arm64")) == "console=ttyAMA0 panic=-1"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), min_size=1))
def test_any_image_path_stays_one_option(path: str) -> None:
    drive = pairs(qemu_argv(spec(disks=(raw("virtio", "/" + path),)), QEMU), "-drive")[0]
    value = drive.removeprefix("if=none,id=disk0,file=").removesuffix(",format=raw,cache=unsafe,snapshot=on")
    assert value.replace(",,", "").count(",") == 0
    assert value.replace(",,", ",") == "/" + path


def test_formats_are_found_by_magic(tmp_path: Path) -> None:
    assert image_format(b"QFI\xfb\0\0\0\3") == "qcow2"
    assert image_format(b"") == "raw"
    misnamed = tmp_path / "disk.raw"
    misnamed.write_bytes(b"QFI\xfb" + bytes(600))
    kernel = tmp_path / "k"
    kernel.touch()
    found = with_formats(MachineSpec(kernel=str(kernel), disks=(DiskSpec(str(misnamed)),)))
    assert found.disks[0].format == "qcow2"
    with pytest.raises(BuildError, match="the disk image /nowhere/d cannot be read: No such file"):
        with_formats(MachineSpec(kernel=str(kernel), disks=(DiskSpec("/nowhere/d"),)))
    with pytest.raises(BuildError, match=r"the initrd .* cannot be read: Is a directory"):
        with_formats(MachineSpec(kernel=str(kernel), initrds=(str(tmp_path),)))


def test_initrds_are_joined_at_four_bytes(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(b"abcde")
    two.write_bytes(b"fg")
    assert join_initrds((), tmp_path / "j") == ""
    assert join_initrds((str(one),), tmp_path / "j") == str(one)
    assert Path(join_initrds((str(one), str(two)), tmp_path / "j")).read_bytes() == b"abcde\0\0\0fg\0\0"
    with pytest.raises(ValueError, match="joined"):
        qemu_argv(spec(initrds=("a", "b")), QEMU)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds)\nCopyright", (10, 0, 2)),
        ("QEMU emulator version 9.2", (9, 2, 0)),
    ],
)
def test_qemu_version(text: str, version: tuple[int, int, int]) -> None:
    assert host.parse_version(text) == version


def test_no_qemu_version() -> None:
    with pytest.raises(BuildError, match="cannot read QEMU's version"):
        host.parse_version("usage: …")


@pytest.mark.parametrize("runs", [True, False])
def test_the_probe_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: bool) -> None:
    calls: list[str] = []

    def probe(arch: str, program: str, **_: object) -> bool:
        calls.append(program)
        return runs

    monkeypatch.setattr(host, "probe", probe)
    arch = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    device = tmp_path / "kvm"
    device.touch()
    for _ in range(3):
        assert host.kvm_runs(arch, "/bin/q", tmp_path / "cache", device=device) is runs
    assert calls == ["/bin/q"]
    assert host.kvm_runs(arch, "/bin/another", tmp_path / "cache", device=device) is runs
    assert calls == ["/bin/q", "/bin/another"]
    assert not host.kvm_runs(arch, "/bin/q", tmp_path / "cache", device=tmp_path / "absent")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_no_kvm_for_another_architecture(tmp_path: Path) -> None:
    other = "arm64" if os.uname().machine == "x86_64" else "amd64"
    device = tmp_path / "kvm"
    device.touch()
    assert not host.kvm_runs(other, "/bin/false", tmp_path, device=device)


# Consoles


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[tuple[int, Console]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as output:
        console = Console(output, None, tmp_path / "log", time.monotonic() + 30)
        yield writing, console
        console.close()


def test_waits_see_each_line_once(pipe: tuple[int, Console]) -> None:
    end, console = pipe
    os.write(end, b"one\r\ntwo\r\nlogin: ")
    assert console.wait_for("^two$")
    assert console.wait_for("login: $")
    with pytest.raises(ConsoleEnded, match="the time was up before /login/"):
        console.wait_for("login", timeout=0.05)
    os.write(end, b"root\r\nlogin: ")
    assert console.wait_for("^root$")
    assert console.wait_for("login")
    os.close(end)
    assert console.drain()
    console.close()
    assert console.lines == ["one", "two", "login: root", "login:"]


def test_the_log_is_raw(pipe: tuple[int, Console], tmp_path: Path) -> None:
    end, console = pipe
    os.write(end, b"\x1b[31mred\x1b[0m\r\nhalf")
    os.close(end)
    assert console.drain()
    console.close()
    assert (tmp_path / "log").read_bytes() == b"\x1b[31mred\x1b[0m\r\nhalf"
    assert console.lines == ["red", "half"]


def test_stop_ends_the_reading(pipe: tuple[int, Console]) -> None:
    end, console = pipe
    os.write(end, b"a\nb\nstop\nc\n")
    assert console.drain(lambda line: line == "stop")
    assert not console.drain(timeout=0.05)
    os.close(end)
    assert console.drain()


# Machines: QEMU is a program of the test here


def fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> MachineSpec:
    program = tmp_path / "qemu"
    program.write_text(f"#!{sys.executable}\nimport os, sys, time\n{script}\n")
    program.chmod(0o755)
    kernel = tmp_path / "kernel"
    kernel.touch()
    monkeypatch.setattr(host, "find_emulator", lambda *_, **__: Emulator(str(program), (10, 0, 0)))
    return MachineSpec(kernel=str(kernel))


def running(pid: int) -> bool:
    """Return whether a process lives; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_machine_that_hangs_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "child = os.fork()\nif child: print(os.getpid(), child, flush=True)\ntime.sleep(600)"
    fake = fake_qemu(tmp_path, monkeypatch, script)
    with Machine(fake, tmp_path, timeout=1.5, cache=tmp_path) as machine:
        pids = [int(pid) for pid in machine.console.wait_for(r"^\d+ \d+$")[0].split()]
        assert all(running(pid) for pid in pids)
        assert not machine.wait()
    ended = machine.end()
    assert (ended.status, ended.timed_out) == (None, True)
    until = time.monotonic() + 10
    while any(running(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.01)
    assert [pid for pid in pids if running(pid)] == []


def test_what_qemu_complains_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_qemu(tmp_path, monkeypatch, "sys.exit('qemu: no memory today')")
    with Machine(fake, tmp_path, timeout=20, cache=tmp_path) as machine:
        assert machine.wait()
    ended = machine.end()
    assert (ended.status, ended.complaints) == (1, "qemu: no memory today")
    result = judge(Scenario("s", kernel="/k"), ended, "0" * 64)
    assert result.cause == "QEMU says: qemu: no memory today"


ROOT = """
print('[    0.000000] Linux version 6.12.0', flush=True)
import hashlib
words = sys.argv[sys.argv.index('-append') + 1].split()
token = [word for word in words if 'preroot.token' in word][0].partition('=')[2]
proof = hashlib.sha256((token + '\\nroot\\n').encode()).hexdigest()
"""


def test_a_scenario_that_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_qemu(tmp_path, monkeypatch, ROOT + "print(f'preroot-root-reached {proof} uptime=4.20')")
    scenario = Scenario("it holds/really", kernel=fake.kernel, expect=Expect(within=(Within("root-reached", 5.0),)))
    result = prove(scenario, tmp_path, tmp_path)
    assert result.reached and result.problems == () and result.guest_seconds == 4.2
    assert Path(result.log).name == "it-holds-really.serial.log"
    late = Scenario("late", kernel=fake.kernel, expect=Expect(within=(Within("root-reached", 4.0),)))
    with pytest.raises(
        BuildError, match=r"kernel start to root-reached took 4.2 s of the guest's time, more than 4.0 s"
    ):
        prove(late, tmp_path, tmp_path)
    assert run_scenario(late, tmp_path, tmp_path, scale=2.0).problems == ()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("print(f'preroot-root-reached {token} uptime=4.20')", "the root was not reached, and the machine ended"),
        ("print('preroot-root-reached ' + '0' * 64 + ' uptime=4.20')", "its proof does not fit"),
        ("print(f'x preroot-root-reached {proof[:-1]} uptime=4.20')", "the root was not reached"),
        ("print('[FAILED] Failed to start a.service - A.', flush=True)", r"failed: a\.service"),
        ("print('You are in emergency mode.', flush=True); time.sleep(600)", "likely cause: the initrd gave up"),
    ],
)  # fmt: skip
def test_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str) -> None:
    monkeypatch.setattr("preroot.boot.scenario.GRACE", 0.05)
    fake = fake_qemu(tmp_path, monkeypatch, ROOT + script)
    with pytest.raises(BuildError, match=said):
        prove(Scenario("s", kernel=fake.kernel, timeout=30), tmp_path, tmp_path)


def test_a_wrong_token_is_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_qemu(tmp_path, monkeypatch, ROOT + "print(f'preroot-root-reached {proof} uptime=4.20')")
    with Machine(replace(fake, cmdline="preroot.token=one"), tmp_path, timeout=30, cache=tmp_path) as machine:
        machine.wait()
    ended = machine.end()
    scenario = Scenario("s", kernel="/k")
    assert judge(scenario, ended, proof("one", "root")).reached
    for wrong in (proof("two", "root"), proof("one", "another")):
        result = judge(scenario, ended, wrong)
        assert not result.reached
        assert result.problems == ("a root was reached that is not the one of this scenario: its proof does not fit",)


def test_a_root_that_must_not_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preroot.boot.scenario.GRACE", 0.05)
    fake = fake_qemu(tmp_path, monkeypatch, ROOT + "print('it is missing', flush=True); time.sleep(600)")
    expect = Expect(reached=False, must=("is missing$",))
    result = prove(Scenario("s", kernel=fake.kernel, expect=expect, timeout=30), tmp_path, tmp_path)
    assert not result.reached and not result.timed_out
    fake = fake_qemu(tmp_path, monkeypatch, ROOT + "print(f'preroot-root-reached {proof} uptime=4.20')")
    with pytest.raises(BuildError, match="should not have been; the console never said /is missing"):
        prove(Scenario("s", kernel=fake.kernel, expect=expect, timeout=30), tmp_path, tmp_path)


def test_must_not_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preroot.boot.scenario.GRACE", 0.05)
    fake = fake_qemu(tmp_path, monkeypatch, "print('Failed to execute x', flush=True); time.sleep(600)")
    result = run_scenario(
        Scenario("s", kernel=fake.kernel, expect=Expect(must_not=("Failed to execute",)), timeout=30),
        tmp_path,
        tmp_path,
    )
    assert "the console said what it must not: Failed to execute x" in result.problems
    assert "no milestone was seen" in explain(result)


def test_stop_when_all_is_seen_in_any_order() -> None:
    stop = stop_when(Expect(reached=False, must=("a", "b")))
    assert [stop(line) for line in ("b", "x", "a")] == [False, False, True]
    assert not stop_when(Expect(reached=None))("You are in emergency mode")


def test_the_order_of_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_qemu(tmp_path, monkeypatch, "print('one'); print('two'); print('one')")
    with Machine(fake, tmp_path, timeout=30, cache=tmp_path) as machine:
        machine.wait()
    ended = machine.end()

    def problems(*order: str) -> tuple[str, ...]:
        scenario = Scenario("s", kernel="/k", expect=Expect(reached=None, order=order))
        return judge(scenario, ended, "").problems

    assert problems("one", "two") == ()
    assert problems("two", "one") == ("the console said /one/ before /two/",)
    assert problems("one", "three") == ("the console never said /three/, whose place matters",)


def test_a_resumed_system_proves_itself_with_the_token_of_its_own_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fake_qemu(tmp_path, monkeypatch, ROOT + "print(f'preroot-root-reached {proof} uptime=4.20')")
    scenario = Scenario("s", kernel=fake.kernel, timeout=30)
    assert run_scenario(scenario, tmp_path, tmp_path, token="second").reached
    assert not run_scenario(scenario, tmp_path, tmp_path, token="second", resumed="first").reached
