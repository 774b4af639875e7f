# SPDX-License-Identifier: LGPL-2.1-or-later
"""Boot tests: an image, disks, a command line, and what must be seen.

    prove(Scenario(name="ext4 by label", kernel=…, initrds=(…,), disks=(DiskSpec(…),), cmdline="root=LABEL=r"), …)

Success is the line that only the real root's init can print (see `rootfs`), for a token made for this one run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from msgspec import Struct

from preroot.boot import causes, console, rootfs
from preroot.boot.console import FailedUnit, Milestone
from preroot.boot.machine import DiskSpec, Machine, MachineResult, MachineSpec, NicSpec, Screen
from preroot.errors import BuildError

#: Seconds of this host that an initrd which has given up may still use to tell why.
GRACE = 5.0


class Within(Struct, frozen=True):
    """At most `seconds` of the guest's time between two milestones; an empty `start` is the kernel's own start."""

    end: str
    seconds: float
    start: str = ""


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What is done when the console shows `at` (a regular expression, of a line or of an unfinished one).

    `type` is written to the serial console; `keys` are pressed on the keyboard of the machine (see Machine.press),
    those of `chord` together (`alt-sysrq-e`).
    `after` so many seconds (of this host): whoever types is slow.
    """

    at: str
    type: str = ""
    keys: str = ""
    after: float = 0
    chord: str = ""


class Expect(Struct, frozen=True):
    """What must be seen.

    `reached`: whether the real root (the one with `identity`, see `rootfs.tiny_root`) is to be reached; None: it is
    no matter. `must` and `must_not` are regular expressions, searched in each line of the console; the first line
    that matches one of `must_not` ends the run. A run in which the root is *not* to be reached ends when all of
    `must` were seen, or when the machine ends. `order`: expressions whose first lines must come in this order.
    """

    reached: bool | None = True
    identity: str = "root"
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    within: tuple[Within, ...] = ()


class Scenario(Struct, frozen=True):
    """One boot test. `timeout` is in seconds of this host for the whole run; `memory` is in MiB."""

    name: str
    kernel: str
    initrds: tuple[str, ...] = ()
    cmdline: str = ""
    disks: tuple[DiskSpec, ...] = ()
    nics: tuple[NicSpec, ...] = ()
    expect: Expect = Expect()
    #: in this order, each once
    answers: tuple[Answer, ...] = ()
    timeout: float = 180
    arch: str = "amd64"
    memory: int = 1024
    cpus: int = 2
    #: directory with the state of its TPM; empty: it has none
    tpm: str = ""
    screen: Screen = ""


class BootResult(Struct, frozen=True):
    """What a boot came to. `problems` has what was not as expected, one line each; empty: the scenario holds."""

    name: str
    #: the proof of the right root was seen
    reached: bool
    problems: tuple[str, ...]
    milestones: tuple[Milestone, ...]
    failed_units: tuple[FailedUnit, ...]
    #: likely cause of a root not reached, or empty
    cause: str
    #: serial console as it came
    log: str
    timed_out: bool
    #: guest's uptime when the root's init ran, else the last time seen; None: none seen
    guest_seconds: float | None
    #: of this host, for the whole run
    host_seconds: float
    #: KiB by the names of /proc/meminfo, when the root's init ran
    memory: dict[str, int]
    #: device, type and options of the root mount
    mount: tuple[str, str, str]

    @property
    def used_memory(self) -> int | None:
        """Return the KiB of memory in use when the root's init ran (MemTotal less MemAvailable)."""
        if "MemTotal" not in self.memory or "MemAvailable" not in self.memory:
            return None
        return self.memory["MemTotal"] - self.memory["MemAvailable"]


def run_scenario(
    scenario: Scenario, workdir: Path, cache: Path, *, token: str = "", resumed: str = "", scale: float = 1.0
) -> BootResult:  # fmt: skip
    """Boot the scenario's machine and return what came of it; the logs stay in `workdir`, named by the scenario.

    `cache` keeps what was found out about this host. `token`: instead of one made for this run.
    `resumed`: the token of the boot whose hibernated system must go on in this one; only its memory has it. `scale`
    stretches the bounds of `Expect.within` for a machine that is slower than the one they were written on.
    Raises BuildError when the machine cannot be started at all.
    """
    import secrets

    token = token or secrets.token_hex(16)
    spec = MachineSpec(
        kernel=scenario.kernel, arch=scenario.arch, initrds=scenario.initrds, disks=scenario.disks,
        nics=scenario.nics, memory=scenario.memory, cpus=scenario.cpus, tpm=scenario.tpm, screen=scenario.screen,
        keys=any(each.keys or each.chord for each in scenario.answers),
        cmdline=f"{scenario.cmdline} preroot.token={token}",
    )  # fmt: skip
    name = re.sub(r"[^\w.-]+", "-", scenario.name).strip("-") or "scenario"
    with Machine(spec, workdir, timeout=scenario.timeout, cache=cache, name=name) as machine:
        machine.wait(stop_when(scenario.expect), [(each.at, _action(machine, each)) for each in scenario.answers])
        machine.linger(GRACE)
        ended = machine.end()
    return judge(scenario, ended, rootfs.proof(resumed or token, scenario.expect.identity), scale=scale)


def _action(machine: Machine, answer: Answer) -> Callable[[], None]:
    def act() -> None:
        if answer.after:
            machine.linger(answer.after)
        if answer.type:
            machine.console.send(answer.type)
        if answer.keys:
            machine.press(answer.keys)
        if answer.chord:
            machine.chord(answer.chord)

    return act


def stop_when(expect: Expect) -> Callable[[str], bool]:
    """Return what says of each console line whether nothing more need be waited for."""
    bad = [re.compile(pattern) for pattern in expect.must_not]
    wanted = {pattern: re.compile(pattern) for pattern in expect.must}

    def stop(line: str) -> bool:
        for pattern in [pattern for pattern, compiled in wanted.items() if compiled.search(line)]:
            del wanted[pattern]
        if any(pattern.search(line) for pattern in bad):
            return True
        if expect.reached is False and expect.must:
            return not wanted
        return expect.reached is True and console.gave_up(line)

    return stop


def judge(scenario: Scenario, ended: MachineResult, proof: str, *, scale: float = 1.0) -> BootResult:
    """Return what a run (`ended`) means for the scenario, `proof` being what the right root prints. Pure."""
    report = rootfs.parse_report(ended.lines)
    reached = report is not None and report.proof == proof
    milestones = console.milestones(ended.lines)
    cause = "" if reached else causes.likely_cause(ended.lines)
    if not reached and not milestones and ended.complaints:
        cause = f"QEMU says: {ended.complaints.splitlines()[-1]}"
    seconds = report.uptime if report else next((each.seconds for each in reversed(milestones)), None)
    return BootResult(
        name=scenario.name, reached=reached,
        problems=(*_unmet(scenario, ended, report, proof), *_late(scenario.expect.within, milestones, scale)),
        milestones=milestones, failed_units=console.failed_units(ended.lines), cause=cause, log=ended.log,
        timed_out=ended.timed_out, guest_seconds=seconds, host_seconds=ended.seconds,
        memory=report.memory if report else {}, mount=report.mount if report else ("", "", ""),
    )  # fmt: skip


def _unmet(scenario: Scenario, ended: MachineResult, report: rootfs.RootReport | None, proof: str) -> list[str]:
    expect = scenario.expect
    problems = []
    if expect.reached is True and report is None:
        problems.append(f"the root was not reached{_how(ended, scenario)}")
    elif expect.reached is True and report is not None and report.proof != proof:
        problems.append("a root was reached that is not the one of this scenario: its proof does not fit")
    elif expect.reached is False and report is not None:
        problems.append("the root was reached, and should not have been")
    elif ended.timed_out:
        problems.append(f"the machine had not ended after {scenario.timeout:g} s")
    for pattern in expect.must:
        if not any(re.search(pattern, line) for line in ended.lines):
            problems.append(f"the console never said /{pattern}/")
    problems += _out_of_order(expect.order, ended.lines)
    for pattern in expect.must_not:
        if line := next((line for line in ended.lines if re.search(pattern, line)), ""):
            problems.append(f"the console said what it must not: {line.strip()}")
    return problems


def _out_of_order(order: tuple[str, ...], lines: tuple[str, ...]) -> list[str]:
    """Return what is wrong with the order of the first lines that each expression matches."""
    first = [next((number for number, line in enumerate(lines) if re.search(pattern, line)), None) for pattern in order]
    found = []
    for (before, at), (after, then) in pairwise(zip(order, first, strict=True)):
        if at is None or then is None:
            found.append(f"the console never said /{before if at is None else after}/, whose place matters")
        elif at > then:
            found.append(f"the console said /{after}/ before /{before}/")
    return found


def _late(bounds: tuple[Within, ...], milestones: tuple[Milestone, ...], scale: float) -> list[str]:
    problems = []
    times = {each.name: each.seconds for each in milestones if each.seconds is not None}
    for bound in bounds:
        start = times.get(bound.start) if bound.start else 0.0
        end = times.get(bound.end)
        if bound.end == "root-reached" and end is None:
            continue  # that the root was not reached is told already, or was wanted
        if start is None or end is None:
            missing = bound.end if end is None else bound.start
            problems.append(f"the milestone {missing} was not seen, so its time is unknown")
        elif end - start > bound.seconds * scale:
            problems.append(f"{bound.start or 'kernel start'} to {bound.end} took {end - start:.1f} s of the guest's "
                            f"time, more than {bound.seconds * scale:.1f} s")  # fmt: skip
    return problems


def _how(ended: MachineResult, scenario: Scenario) -> str:
    if ended.timed_out:
        return f" within {scenario.timeout:g} s"
    return "" if ended.status is None else ", and the machine ended"


def explain(result: BootResult) -> str:
    """Return one line: the problems, how far it came, which units failed, and the likely cause."""
    parts = ["; ".join(result.problems)]
    if not result.reached:
        last = result.milestones[-1] if result.milestones else None
        at = "" if last is None or last.seconds is None else f" at {last.seconds:.1f} s"
        parts.append(f"last milestone: {last.name}{at}" if last else "no milestone was seen")
        if result.failed_units:
            units = [unit.name + (f" ({unit.why})" if unit.why != "failed" else "") for unit in result.failed_units]
            parts.append("failed: " + ", ".join(units))
        if result.cause:
            parts.append(f"likely cause: {result.cause}")
    return "; ".join(part for part in parts if part)


def prove(scenario: Scenario, workdir: Path, cache: Path, *, scale: float = 1.0) -> BootResult:
    """Run the scenario and return its result.

    Raises BuildError with the last milestone, the failed units and the likely cause when anything was not as
    expected; the hint names the serial log.
    """
    result = run_scenario(scenario, workdir, cache, scale=scale)
    if result.problems:
        raise BuildError(f"{scenario.name}: {explain(result)}", f"the serial console is in {result.log}")
    return result
