# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a virtual machine is made of, the QEMU command line that makes it (pure), and the machine when it runs.

Sources: qemu(1), the "System emulation" manual (machine types, `-device X,help`), and the kernel's
Documentation/admin-guide/kernel-parameters.txt. What was measured or met is said where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.structs import replace

from preroot.boot.diskoptions import disk_options
from preroot.boot.platforms import Bus, Emulator, platform
from preroot.errors import BuildError
from preroot.run import find_tool

if TYPE_CHECKING:
    from subprocess import Popen

    from preroot.boot.qmp import Monitor
    from preroot.boot.serial import Console, Prompt
    from preroot.boot.tpm import Tpm

ImageFormat = Literal["raw", "qcow2"]
Keyboard = Literal["", "usb", "virtio"]
Screen = Literal["", "vga", "virtio"]


class DiskSpec(Struct, frozen=True):
    """One disk of a machine.

    `image` is the file; `format` empty means: by the file's own magic (`image_format`). With `snapshot` (the
    default) what the guest writes is discarded; `readonly` shows the guest a disk that cannot be written.
    `serial` is what udev makes /dev/disk/by-id links from (at most 20 characters).
    An `mmc` disk must be a power of two in size, as SD cards are in QEMU. `paths`: in how many ways the guest sees the
    disk, each with the same serial number; more than one on the bus `scsi` alone, and without `snapshot`.
    """

    image: str
    bus: Bus = "virtio"
    paths: int = 1
    format: ImageFormat | Literal[""] = ""
    readonly: bool = False
    snapshot: bool = True
    serial: str = ""


class NicSpec(Struct, frozen=True):
    """One network card: QEMU's `-netdev` backend with its options (`user,hostfwd=…`), the model, the MAC address."""

    backend: str = "user"
    model: str = "virtio-net-pci"
    mac: str = ""


class MachineSpec(Struct, frozen=True):
    """One virtual machine that starts a kernel directly.

    `memory` is in MiB. `cmdline` is the kernel's command line; `full_cmdline` adds the console and what ends a run
    after a crash. `accel`: `auto` takes KVM where a probe guest has run, `tcg` and `kvm` insist.
    """

    kernel: str
    arch: str = "amd64"
    initrds: tuple[str, ...] = ()
    cmdline: str = ""
    memory: int = 1024
    cpus: int = 2
    disks: tuple[DiskSpec, ...] = ()
    nics: tuple[NicSpec, ...] = ()
    accel: Literal["auto", "tcg", "kvm"] = "auto"
    #: CPU model; empty: the platform's
    cpu: str = ""
    #: the only keyboard, for `Machine.press`; empty: what the platform has anyway
    keyboard: Keyboard = ""
    #: directory with the state of its TPM 2.0 (`tpm.Tpm`), made when it is not there; empty: it has no TPM
    tpm: str = ""
    #: keys are going to be pressed, on that keyboard or what the platform has anyway
    keys: bool = False
    #: graphics card; empty: there is no screen at all
    screen: Screen = ""


def full_cmdline(spec: MachineSpec) -> str:
    """Return the command line with `console=` and `panic=-1` put before the user's own, which so win.

    `panic=-1` restarts at once, and QEMU is run with -no-reboot, so a crash ends the run instead of the timeout.
    """
    words = spec.cmdline.split()
    before = []
    if not any(word.startswith("console=") for word in words):
        before.append(f"console={platform(spec.arch).console}")
    if not any(word.startswith("panic=") for word in words):
        before.append("panic=-1")
    return " ".join([*before, spec.cmdline.strip()]).strip()


def image_format(head: bytes) -> ImageFormat:
    """Return the format of a disk image by its first bytes, never by its name.

    Source: docs/interop/qcow2.txt of QEMU (magic "QFI\\xfb").
    """
    return "qcow2" if head[:4] == b"QFI\xfb" else "raw"


def qemu_argv(spec: MachineSpec, emulator: Emulator, initrd: str = "") -> list[str]:
    """Return the command line that runs `spec` with the serial console on standard input and output.

    `initrd` is the one file that QEMU loads; a spec with several has them joined first (`join_initrds`). Disks must
    have their format filled in. Raises RecipeError for an unknown architecture, BuildError for a disk on a bus that
    the machine lacks and for `accel="kvm"` where KVM guests do not run.
    """
    if not initrd and spec.initrds:
        if len(spec.initrds) > 1:
            raise ValueError("several initrds must be joined before QEMU can load them")
        initrd = spec.initrds[0]
    kind = platform(spec.arch)
    kvm = _wants_kvm(spec, emulator)
    # Keys go to the last keyboard that QEMU has made, and a PS/2 one needs no driver that an image could lack.
    machine = f"{kind.machine},i8042=off" if spec.keyboard and spec.arch == "amd64" else kind.machine
    argv = [emulator.program, "-M", machine]
    argv += ["-accel", "kvm"] if kvm else []
    argv += ["-accel", "tcg,thread=multi", "-cpu", _cpu(spec, emulator, kvm)]
    argv += ["-smp", str(spec.cpus), "-m", str(-(-spec.memory // kind.memory_step) * kind.memory_step)]
    argv += ["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"]
    argv += ["-kernel", spec.kernel, "-append", full_cmdline(spec)]
    argv += ["-initrd", initrd] if initrd else []
    argv += disk_options(spec, kind)
    argv += [option.format(virtio=kind.virtio) for option in (*_KEYBOARDS[spec.keyboard], *_SCREENS[spec.screen])]
    for number, nic in enumerate(spec.nics):
        name, options = nic.backend.partition(",")[::2]
        argv += ["-netdev", f"{name},id=net{number}" + (f",{options}" if options else "")]
        model = nic.model.replace("-pci", f"-{kind.virtio}") if nic.model.startswith("virtio-") else nic.model
        argv += ["-device", f"{model},netdev=net{number}" + (f",mac={nic.mac}" if nic.mac else "")]
    return argv


def _wants_kvm(spec: MachineSpec, emulator: Emulator) -> bool:
    if spec.accel == "kvm" and not emulator.kvm:
        raise BuildError(f"KVM was asked for, and no {spec.arch} guest runs under it on this host",
                         "leave the accelerator to preroot, or check /dev/kvm")  # fmt: skip
    return emulator.kvm and spec.accel != "tcg"


def _cpu(spec: MachineSpec, emulator: Emulator, kvm: bool) -> str:
    """Return the CPU model, with the quirk that QEMU before 10 needs.

    QEMU 7.2 (bookworm) corrupts memory of 6.12 kernels under TCG unless cmpxchg16b is hidden; 10.0 booted 9 times
    out of 9 with it.
    """
    if spec.cpu:
        return spec.cpu
    if kvm:
        return "host" if spec.arch != "amd64" else "max"
    quirk = ",cx16=off" if spec.arch == "amd64" and emulator.version < (10, 0, 0) else ""
    return platform(spec.arch).cpu + quirk


_KEYBOARDS: dict[Keyboard, tuple[str, ...]] = {
    "": (),
    "usb": ("-device", "qemu-xhci,id=keys", "-device", "usb-kbd,bus=keys.0"),
    "virtio": ("-device", "virtio-keyboard-{virtio}"),
}


_SCREENS: dict[Screen, tuple[str, ...]] = {
    "": (),
    # the card of `-vga std`: text mode without a driver, and the kernel's bochs
    "vga": ("-device", "VGA"),
    "virtio": ("-device", "virtio-gpu-{virtio}"),
}


class MachineResult(Struct, frozen=True):
    """How a machine's run ended: QEMU's exit status (None: it was stopped), whether the time was up, and the logs."""

    status: int | None
    timed_out: bool
    #: seconds of this host
    seconds: float
    #: cleaned lines of the serial console
    lines: tuple[str, ...]
    #: the serial console as it came
    log: str
    #: what QEMU itself said
    complaints: str


class Machine:
    """A running machine; use it as a context manager, which ends QEMU and all it started in every case.

    `workdir` receives NAME.serial.log, NAME.qemu.log, NAME.argv, and where needed NAME.initrd (several, joined) and
    NAME.tpm.log. `timeout` is in seconds of this host and covers the whole run. `cache` keeps the result of the KVM
    probe.
    """

    console: Console

    def __init__(self, spec: MachineSpec, workdir: Path, *, timeout: float, cache: Path, name: str = "machine") -> None:
        self.spec = spec
        self.name = name
        self.log = workdir / f"{name}.serial.log"
        self._workdir = workdir
        self._timeout = timeout
        self._cache = cache
        self._process: Popen[bytes] | None = None
        self._monitor: Monitor | None = None
        self._tpm: Tpm | None = None
        self._began = 0.0
        self._timed_out = False

    def __enter__(self) -> Machine:
        """Start QEMU and what stands beside it. Raises BuildError for what it lacks: a program, a file, KVM, a TPM."""
        import shlex
        import subprocess
        import time

        from preroot.boot.host import find_emulator
        from preroot.boot.serial import Console

        emulator = find_emulator(self.spec.arch, self._cache, accel=self.spec.accel)
        self._workdir.mkdir(parents=True, exist_ok=True)
        spec = with_formats(self.spec)
        argv = qemu_argv(spec, emulator, join_initrds(spec.initrds, self._workdir / f"{self.name}.initrd"))
        argv += self._beside()
        # setpriv (util-linux, essential in Debian) ends QEMU also when this process is killed by SIGKILL.
        guard = find_tool("setpriv")
        argv = [guard, "--pdeathsig", "KILL", *argv] if guard else argv
        (self._workdir / f"{self.name}.argv").write_text(shlex.join(argv) + "\n")
        self._began = time.monotonic()
        sockets = [each.theirs.fileno() for each in (self._monitor, self._tpm) if each]
        with (self._workdir / f"{self.name}.qemu.log").open("wb") as complaints:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints,
                start_new_session=True, bufsize=0, pass_fds=sockets,
            )  # fmt: skip
        assert self._process.stdout is not None
        self.console = Console(self._process.stdout, self._process.stdin, self.log, self._began + self._timeout)
        return self

    def _beside(self) -> list[str]:
        """Start what the machine talks to by a socket; return QEMU's options for it."""
        options = []
        if self.spec.tpm:
            from preroot.boot.tpm import Tpm

            self._tpm = Tpm(Path(self.spec.tpm), self._workdir / f"{self.name}.tpm.log", self.spec.arch)
            options += self._tpm.options()
        if self.spec.keyboard or self.spec.keys:
            from preroot.boot.qmp import Monitor

            self._monitor = Monitor()
            options += self._monitor.options()
        return options

    def wait(self, stop: Callable[[str], bool] | None = None, answers: Sequence[Prompt] = ()) -> bool:
        """Wait until the machine ends or `stop` says so of a console line; return False when the time was up first.

        `answers`: see Console.drain.
        """
        in_time = self.console.drain(stop, answers=answers)
        self._timed_out = self._timed_out or not in_time
        return in_time

    def press(self, text: str) -> None:
        """Press keys on the machine's keyboard; the spec must have one. Errors: Monitor.press."""
        assert self._monitor is not None, "a machine with keys to press has a keyboard"
        self._monitor.press(text)

    def chord(self, keys: str) -> None:
        """Press keys of the machine's keyboard together; the spec must have one. Errors: Monitor.chord."""
        assert self._monitor is not None, "a machine with keys to press has a keyboard"
        self._monitor.chord(keys)

    def linger(self, seconds: float) -> bool:
        """Go on reading for so long at most (of this host); return whether the machine has ended."""
        return self.console.drain(timeout=seconds)

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> MachineResult:
        """Stop what still runs, close the log and return how it went. Does nothing the second time."""
        import os
        import signal
        import time

        assert self._process is not None, "the machine was never started"
        process = self._process
        stopped = False
        if process.returncode is None:
            if self.console.ended:  # its console is closed: QEMU is about to exit
                _exited(process.pid, seconds=5)
            stopped = not _exited(process.pid, seconds=0)
            # Of the whole group: helpers that QEMU started die with it. It is a session of its own, and its number
            # cannot be another's while the leader has not been waited for.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self.console.close()
            for each in (self._monitor, self._tpm):
                if each is not None:
                    each.close()
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()
            if process.stdout is not None:
                process.stdout.close()
            self._seconds = time.monotonic() - self._began
            self._stopped = stopped
        complaints = (self._workdir / f"{self.name}.qemu.log").read_text("utf-8", "replace").strip()
        return MachineResult(
            status=None if self._stopped else process.returncode, timed_out=self._timed_out, seconds=self._seconds,
            lines=tuple(self.console.lines), log=str(self.log), complaints=complaints,
        )  # fmt: skip


def _exited(pid: int, seconds: float) -> bool:
    """Return whether the child has exited within `seconds`, without reaping it (waitid(2), WNOWAIT)."""
    import os
    import time

    until = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() >= until:
            return False
        time.sleep(0.01)
    return True


def with_formats(spec: MachineSpec) -> MachineSpec:
    """Return `spec` with every disk's format filled in by its magic; checks that all its files can be read.

    Raises BuildError naming a file that cannot be read.
    """
    disks = []
    for disk in spec.disks:
        head = _head(disk.image, "disk image")
        disks.append(replace(disk, format=disk.format or image_format(head)))
    _head(spec.kernel, "kernel")
    for initrd in spec.initrds:
        _head(initrd, "initrd")
    return replace(spec, disks=tuple(disks))


def _head(path: str, what: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise BuildError(f"the {what} {path} cannot be read: {error.strerror}") from error


def join_initrds(initrds: tuple[str, ...], joined: Path) -> str:
    """Return one file with all `initrds`, in order: the only one, or `joined`, which is written.

    QEMU loads a single initrd. Archives are padded to 4 bytes, where the kernel looks for the next one
    (Documentation/driver-api/early-userspace/buffer-format.rst).
    """
    if len(initrds) < 2:
        return initrds[0] if initrds else ""
    joined.touch(mode=0o600)  # there may be a secret in one of them
    with joined.open("wb") as out:
        for initrd in initrds:
            out.write(Path(initrd).read_bytes())
            out.write(b"\0" * (-out.tell() % 4))
    return str(joined)
