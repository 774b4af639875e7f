# SPDX-License-Identifier: LGPL-2.1-or-later
"""A TPM 2.0 for a machine: swtpm beside QEMU, with its state in a directory, which outlives the machine.

Sources: swtpm(8) (`--ctrl …,clientfd=`, `--tpmstate`), docs/specs/tpm.rst of QEMU ("The QEMU TPM emulator device").
"""

from __future__ import annotations

import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from preroot.boot.platforms import platform
from preroot.errors import BuildError
from preroot.run import need_tool

#: seconds that swtpm may take to end once QEMU has gone
_SECONDS = 10.0


class Tpm:
    """A running swtpm, and the end of a pair of connected sockets by which QEMU talks to it.

    `state` is the directory of its state, made if it is not there; an empty one is a TPM fresh from the factory. What a
    TPM keeps over a power cycle (seeds, keys made permanent, counters) is written there at once; PCRs start anew with
    each machine. Two machines cannot have the same state at a time. `log` receives what swtpm complains of.
    Raises BuildError when swtpm is missing, the directory cannot be made, or QEMU has no TPM for the architecture.
    """

    def __init__(self, state: Path, log: Path, arch: str) -> None:
        self._device = platform(arch).tpm
        if not self._device:
            raise BuildError(f"QEMU has no TPM for {arch} machines", "boot it without one")
        program = need_tool("swtpm", "to give a machine a TPM")
        try:
            state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise BuildError(f"the TPM's state cannot be kept in {state}: {error.strerror}") from error
        self.theirs, swtpm = socket.socketpair()
        argv = [
            program, "socket", "--tpm2", "--terminate", "--tpmstate", f"dir={state},mode=0600",
            "--ctrl", f"type=unixio,clientfd={swtpm.fileno()}",
        ]  # fmt: skip
        with swtpm, log.open("wb") as complaints:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=complaints, stderr=complaints, pass_fds=(swtpm.fileno(),),
                start_new_session=True,
            )  # fmt: skip

    def options(self) -> list[str]:
        """Return QEMU's options; `theirs` has to be passed on to it under its number."""
        return [
            "-chardev", f"socket,id=tpm,fd={self.theirs.fileno()}", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
            "-device", f"{self._device},tpmdev=tpm0",
        ]  # fmt: skip

    def close(self) -> None:
        """Close our end and wait for swtpm, which ends by itself when QEMU's end is closed too. Idempotent."""
        with suppress(OSError):
            self.theirs.close()
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:  # QEMU never took its end over, or swtpm hangs
            self._process.kill()
            self._process.wait()
