# SPDX-License-Identifier: LGPL-2.1-or-later
"""The #! line, as the kernel reads it (execve(2); fs/binfmt_script.c of Linux 6.12)."""

from __future__ import annotations

from preroot.packages.model import Script

#: BINPRM_BUF_SIZE of include/uapi/linux/binfmts.h since Linux 5.1: the kernel looks no further.
_BUFFER = 256


def read_script(data: bytes) -> Script | None:
    """Read the interpreter and its one optional argument.

    Argument: the file, of which the first 256 bytes matter. Returns None when it doesn't start with #!, names no
    interpreter, or the interpreter's name is cut off by the kernel's buffer (execve would fail with ENOEXEC). An
    argument that is cut off stays cut, as the program would see it. Never raises.
    """
    if data[:2] != b"#!":
        return None
    line, newline, _ = data[2:_BUFFER].partition(b"\n")
    line, nul, _ = line.partition(b"\0")
    # Not bytes.split(): it also breaks at \r, \v and \f, which the kernel takes as part of the name.
    text = line.lstrip(b" \t")
    end = min((at for at in (text.find(b" "), text.find(b"\t")) if at >= 0), default=len(text))
    if not text or (end == len(text) and not newline and not nul and len(data) >= _BUFFER):
        return None
    if not newline and not nul:
        # The kernel ends the string in the last byte of its buffer.
        text = text[: _BUFFER - 1 - 2 - (len(line) - len(text))]
    return Script(text[:end].decode("utf-8", "replace"), text[end:].strip(b" \t").decode("utf-8", "replace"))
