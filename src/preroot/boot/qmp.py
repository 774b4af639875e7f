# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's machine protocol, as far as boots need it: pressing keys.

Source: docs/interop/qmp-spec.rst and qapi/ui.json of QEMU (greeting, qmp_capabilities, send-key, QKeyCode).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from contextlib import suppress

from preroot.errors import BuildError

#: characters whose key has another name; what is not here is named like itself
_KEYS = {"\n": "ret", " ": "spc", "-": "minus", ".": "dot", "/": "slash", "=": "equal"}
_SECONDS = 30.0


class Monitor:
    """One end of a pair of connected sockets; QEMU has the other."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._ours.settimeout(_SECONDS)
        self._lines = self._ours.makefile("rb")
        self._ready = False

    def options(self) -> list[str]:
        """Return QEMU's options; `theirs` has to be passed on to it under its number."""
        return ["-chardev", f"socket,id=qmp,fd={self.theirs.fileno()}", "-mon", "chardev=qmp,mode=control"]

    def press(self, text: str) -> None:
        """Press the keys for `text` (lower case letters, digits, a few signs, line break) on an American keyboard.

        Raises BuildError when the machine does not answer or refuses, ValueError for a character without a key here.
        """
        for character in text:
            if not (character in _KEYS or (character.isascii() and (character.islower() or character.isdigit()))):
                raise ValueError(f"no key is known for {character!r}")
        for character in text:
            key = {"type": "qcode", "data": _KEYS.get(character, character)}
            self.execute("send-key", {"keys": [key]})

    def chord(self, keys: str) -> None:
        """Press keys together: names of QEMU (QKeyCode in its qapi/ui.json) with - between, `alt-sysrq-e`.

        Raises BuildError when the machine does not answer or knows no such key.
        """
        self.execute("send-key", {"keys": [{"type": "qcode", "data": key} for key in keys.split("-")]})

    def execute(self, command: str, arguments: Mapping[str, object]) -> object:
        """Run a command and return what it answers. Raises BuildError as above."""
        if not self._ready:
            self._ready = True
            self.execute("qmp_capabilities", {})
        try:
            self._ours.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            while line := self._lines.readline():
                answer = json.loads(line)
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise BuildError(f"QEMU refuses {command}: {answer['error'].get('desc', answer['error'])}")
        except (OSError, ValueError) as error:
            raise BuildError(f"QEMU does not answer {command}: {error}", "the machine's log tells more") from error
        raise BuildError(f"QEMU ended before it answered {command}", "the machine's log tells more")

    def close(self) -> None:
        """Close both ends."""
        for each in (self._lines, self._ours, self.theirs):
            with suppress(OSError):
                each.close()
