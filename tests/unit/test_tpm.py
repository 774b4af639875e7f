# SPDX-License-Identifier: LGPL-2.1-or-later
"""A machine's TPM: swtpm is started for it, talks to it, and is gone with it. Both programs are ones of this test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from preroot.boot import host, tpm
from preroot.boot.machine import Machine, MachineResult, MachineSpec
from preroot.boot.platforms import PLATFORMS, Emulator
from preroot.errors import BuildError

#: Says something to swtpm by the descriptor that its options name, and shows the answer on the console.
QEMU = """
options = sys.argv[sys.argv.index('-chardev') + 1]
channel = socket.socket(fileno=int(options.rpartition('fd=')[2]))
channel.sendall(b'hello')
print(channel.recv(99).decode(), '-tpmdev' in sys.argv, sys.argv[-1], flush=True)
"""
SWTPM = """
print('a complaint', flush=True)
channel = socket.socket(fileno=int(sys.argv[-1].rpartition('clientfd=')[2]))
while heard := channel.recv(99):
    channel.sendall(f'{os.getpid()} heard {heard.decode()}'.encode())
"""


def program(path: Path, script: str) -> str:
    path.write_text(f"#!{sys.executable}\nimport os, socket, sys, time\n{script}\n")
    path.chmod(0o755)
    return str(path)


def boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swtpm: str, qemu: str = QEMU) -> MachineResult:
    emulator = Emulator(program(tmp_path / "qemu", qemu), (10, 0, 0))
    monkeypatch.setattr(host, "find_emulator", lambda *_, **__: emulator)
    monkeypatch.setattr(tpm, "need_tool", lambda *_: program(tmp_path / "swtpm", swtpm))
    kernel = tmp_path / "kernel"
    kernel.touch()
    spec = MachineSpec(kernel=str(kernel), tpm=str(tmp_path / "state" / "of-it"))
    with Machine(spec, tmp_path, timeout=30, cache=tmp_path, name="m") as machine:
        machine.wait()
    return machine.end()


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_qemu_and_swtpm_talk_and_end_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid, *said = boot(tmp_path, monkeypatch, SWTPM).lines[0].split()
    assert said == ["heard", "hello", "True", "tpm-tis,tpmdev=tpm0"]
    assert not alive(int(pid))
    assert (tmp_path / "m.tpm.log").read_text() == "a complaint\n"
    assert (tmp_path / "state" / "of-it").stat().st_mode & 0o777 == 0o700


def test_swtpm_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpm, "_SECONDS", 0.1)
    lines = boot(tmp_path, monkeypatch, f"{SWTPM}\ntime.sleep(600)").lines
    assert not alive(int(lines[0].split()[0]))


def test_what_stands_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = next(arch for arch in PLATFORMS if not PLATFORMS[arch].tpm)
    with pytest.raises(BuildError, match=f"QEMU has no TPM for {lacking} machines"):
        tpm.Tpm(tmp_path, tmp_path / "log", lacking)
    (tmp_path / "file").touch()
    monkeypatch.setattr(tpm, "need_tool", lambda *_: "/bin/false")
    with pytest.raises(BuildError, match=r"state cannot be kept in .*/file/x: Not a directory"):
        tpm.Tpm(tmp_path / "file" / "x", tmp_path / "log", "amd64")
    monkeypatch.undo()
    monkeypatch.setattr("preroot.run.find_tool", lambda _: None)
    with pytest.raises(BuildError, match="the program swtpm is needed to give a machine a TPM") as error:
        tpm.Tpm(tmp_path, tmp_path / "log", "amd64")
    assert error.value.hint == "apt-get install swtpm"
