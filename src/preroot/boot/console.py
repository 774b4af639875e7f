# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a serial console says: milestones, failed units and the likely cause of a failure. Pure.

Sources: printk's time stamps (Documentation/admin-guide/kernel-parameters.txt, printk.time and CONFIG_PRINTK_CALLER),
init/main.c, init/do_mounts.c, init/initramfs.c and kernel/exit.c for what the kernel says; the status and log lines
of systemd (src/core/job.c, src/core/unit.c), in the formats of `systemd.status_unit_format=` (description, name,
combined), on the console and in kmsg. ECMA-48 for escape sequences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal

from msgspec import Struct

from preroot.boot.rootfs import REACHED

#: CSI, then strings (OSC, DCS, SOS, PM, APC) up to BEL or ST, then two- and three-byte sequences
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-~]"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]+")
#: with or without CONFIG_PRINTK_CALLER ([T1], [C0]); anywhere in a line, since a program's unfinished line may come
#: before it
_STAMP = re.compile(r"\[ *(\d+\.\d{6})\](?:\[ *[TC]\d+\])? ")
_STATUS = re.compile(r"^\[ *(OK|FAILED|DEPEND|TIME|WARN|INFO|SKIP|!!+)? *\] (.*)")
_LOGGER = re.compile(r"^(?:<\d+>)?systemd\[1\]: ")


class Line(Struct, frozen=True):
    """One message: guest seconds (of the message itself, or None), systemd's status tag, and the text without them."""

    seconds: float | None
    tag: str
    text: str


class Milestone(Struct, frozen=True):
    """How far a boot came.

    `seconds` is the guest's monotonic time; without a stamp on the line itself (`exact` false) it is the last one
    seen before, so the event was not earlier. None: no stamp had been seen.
    """

    name: str
    seconds: float | None
    exact: bool
    line: str


class FailedUnit(Struct, frozen=True):
    """A unit that failed: its name (or description, where only that is printed; `…` where systemd shortened it)."""

    name: str
    why: Literal["failed", "timeout", "dependency"]


def sanitise(raw: bytes | str) -> str:
    """Return a console line as text without escape sequences, control characters (a tab stays) and trailing space."""
    return clean(raw).rstrip()


def clean(raw: bytes | str) -> str:
    """Return text as `sanitise` does, its trailing space kept: what a prompt without a newline is looked for in."""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else raw
    return _CONTROLS.sub(" ", _ESCAPES.sub("", text).strip("\r"))


def parse(lines: Iterable[str]) -> Iterator[Line]:
    """Yield the messages of the sanitised console `lines`."""
    for line in lines:
        at = 0
        seconds: float | None = None
        for stamp in _STAMP.finditer(line):
            if before := line[at : stamp.start()].strip():
                yield _message(seconds, before)
            seconds, at = float(stamp[1]), stamp.end()
        if rest := line[at:].strip():
            yield _message(seconds, rest)


def _message(seconds: float | None, text: str) -> Line:
    text = _LOGGER.sub("", text)
    if found := _STATUS.match(text):
        return Line(seconds, found[1] or "", found[2])
    return Line(seconds, "", text)


#: milestone → what its line starts with. A pattern is matched at the start of a message, so the kernel's echo of
#: its command line, which may have any word in it, matches none.
MILESTONES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("kernel", r"Linux version \d"),
        ("initrd-unpacked", r"Freeing initrd memory:"),
        ("init-started", r"Run /\S+ as init process"),
        ("systemd", r"systemd \d\S* running in |Running in initrd\.|Welcome to "),
        ("udev", r"Started (?:systemd-udevd\.service|Rule-based Manager for Device)"),
        ("root-device", r"Reached target (?:initrd-root-device\.target|Initrd Root Device)"),
        ("sysroot-mounted", r"Mounted (?:sysroot\.mount|/sysroot)"),
        ("switch-root", r"Switching root\.|Starting (?:initrd-switch-root\.service|Switch Root)"),
        ("root-reached", rf"{REACHED} [0-9a-f]{{64}} "),
        ("multi-user", r"Reached target (?:multi-user\.target|Multi-User System)"),
        ("power-off", r"reboot: Power(?:ing)? (?:down|off)"),
        ("halt", r"reboot: System halted"),
        ("restart", r"reboot: Restarting system"),
    )
)
#: How preroot's own runtime tells a step, in the flavours without systemd; a detail may follow the name.
_OURS = re.compile(r"preroot: milestone (\S+)")


def milestones(lines: Iterable[str]) -> tuple[Milestone, ...]:
    """Return each milestone where it was first seen, in the order of the console."""
    found: dict[str, Milestone] = {}
    last: float | None = None
    for line in parse(lines):
        last = line.seconds if line.seconds is not None else last
        if name := _milestone(line.text):
            exact = line.seconds is not None
            seconds = last
            # The root's init prints the uptime that it read first, which is what counts. printk's clock may have begun
            # earlier (0.8 s on arm64, kernel 6.12): the order of the console is kept then.
            if name == "root-reached" and (uptime := re.search(r" uptime=(\d+\.\d+)", line.text)):
                exact = last is None or float(uptime[1]) >= last
                seconds = float(uptime[1]) if exact else last
            known = found.setdefault(name, Milestone(name, seconds, exact, line.text))
            # Told twice, on the console and in the kernel's log: only the second has a stamp.
            if exact and not known.exact and known.line == line.text:
                found[name] = Milestone(name, seconds, exact, line.text)
    return tuple(found.values())


def _milestone(text: str) -> str:
    if ours := _OURS.match(text):
        return ours[1]
    return next((name for name, pattern in MILESTONES if pattern.match(text)), "")


#: what an initrd says when it will not reach the root any more
_GAVE_UP = re.compile(
    r"(?:You are in emergency mode|Entering emergency mode|Started (?:emergency\.service|Emergency Shell)"
    r"|Press Enter (?:for maintenance|to continue)"
    r"|.*Dropping to a shell!|(?:preroot: )?[Tt]he real root was not reached|Cannot open access to console, the root)"
)


def gave_up(line: str) -> bool:
    """Return whether a sanitised line says that the initrd has given up, so that nothing is worth waiting for."""
    return any(_GAVE_UP.match(message.text) for message in parse([line]))


def last_milestone(lines: Iterable[str]) -> Milestone | None:
    """Return the milestone that was reached last, or None."""
    return (milestones(lines) or (None,))[-1]


_FAILURES: tuple[tuple[re.Pattern[str], Literal["failed", "timeout", "dependency"]], ...] = (
    (re.compile(r"Timed out (?:waiting for device|starting|mounting) (.+)"), "timeout"),
    (re.compile(r"Dependency failed for (.+)"), "dependency"),
    (re.compile(r"Failed to (?:start|mount|listen on|activate|set up|reload) (.+)"), "failed"),
    (re.compile(r"([\w.@:\\-]+\.[a-z]+): Failed with result '(?!dependency)"), "failed"),
)
_UNIT = re.compile(r"[\w.@:\\-]+\.(?:service|mount|socket|target|device|automount|swap|path|timer|slice|scope)$")


def failed_units(lines: Iterable[str]) -> tuple[FailedUnit, ...]:
    """Return the units that failed, each once, in the order of the console."""
    found: list[FailedUnit] = []
    for line in parse(lines):
        for pattern, why in _FAILURES:
            if match := pattern.match(line.text):
                unit = FailedUnit(_unit_name(match[1]), why)
                if not any(_same(unit, other) for other in found):
                    found.append(unit)
                break
    return tuple(found)


def _unit_name(text: str) -> str:
    """Return `sysroot.mount` of `sysroot.mount - /sysroot.`; without a unit's name, the description."""
    name = re.split(r" - |, ignoring", text, maxsplit=1)[0].rstrip(".")
    before = name.partition(": ")[0]
    name = before if _UNIT.match(before) else name
    return unescape(name)


def _same(one: FailedUnit, other: FailedUnit) -> bool:
    if one.why != other.why and "dependency" in (one.why, other.why):
        return False
    head, shortened, tail = other.name.partition("…")
    if shortened and one.name.startswith(head) and one.name.endswith(tail):
        return True
    head, shortened, tail = one.name.partition("…")
    return one.name == other.name or bool(shortened and other.name.startswith(head) and other.name.endswith(tail))


def unescape(unit: str) -> str:
    r"""Return a unit's name for people: `dev-disk-by\x2duuid-1.device` → `/dev/disk/by-uuid/1` (systemd.unit(5)).

    Other units only have their \xNN resolved. Of a name that systemd shortened in the middle (`…`), the end is that
    of the description, which for a device is a path already.
    """
    if unit.endswith(".device") or unit.startswith("dev-"):
        head, shortened, tail = unit.removesuffix(".device").partition("…")
        unit = "/" + head.replace("-", "/") + shortened + tail
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), unit)
