# SPDX-License-Identifier: LGPL-2.1-or-later
"""Scenarios from files, done: images built, disks prepared, machines booted, and what was not as expected.

Images are made once a run, disks kept in the cache; several runs and threads may work side by side.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from preroot.boot.machine import DiskSpec
from preroot.boot.preparation import Prepared, copies, flip_bit, run_script
from preroot.boot.realroot import read_system_report, system_problems
from preroot.boot.scenario import BootResult, Expect, Scenario, explain, run_scenario
from preroot.boot.scenariofile import Boot, DiskSet, ScenarioFile, ScenarioSpec, fill_in, load_scenarios
from preroot.engine import Engine, Overrides
from preroot.engine.preparing import IDENTITY, Preparer, alone
from preroot.engine.proving import read_built, run_directory
from preroot.engine.workspace import Workspace
from preroot.errors import BuildError, PrerootError, RecipeError, nearest
from preroot.facts.arch import arch as architecture
from preroot.recipe.merge import merge
from preroot.recipe.schema import Distribution
from preroot.recipe.search import Consulted, SearchPath, find, toml_names
from preroot.recipe.toml import quoted

#: What no boot may show: in a circle of orderings, systemd leaves out a unit, and only says so.
_NEVER = (r"ordering cycle",)
#: What every whole system must show, and must not: systemd says so of a job that takes more than five seconds.
_SYSTEM_MUST = (r"reboot: Power down",)
_SYSTEM_MUST_NOT = (r"A start job is running for (/dev/|dev-)", r"\[FAILED\]", r"Kernel panic")
#: The root was never installed: its /usr looks newer than /etc, and everything would be brought up to date first.
_SYSTEM_CMDLINE = "systemd.show_status=1 systemd.condition_needs_update=0"


class Chosen(Struct, frozen=True):
    """One scenario, and the file that it is from."""

    name: str
    spec: ScenarioSpec
    file: ScenarioFile


class ScenarioResult(Struct, frozen=True):
    """What a scenario came to. `problems`: one line each; empty: it holds. `seconds` of this host for all of it."""

    name: str
    problems: tuple[str, ...]
    boots: tuple[BootResult, ...]
    seconds: float


class Step(Struct, frozen=True):
    """One boot of a scenario, the set that its disks are of, whether what is written to them is kept, and its token."""

    name: str
    boot: Boot
    disks: DiskSet
    kept: bool
    token: str
    #: the token of the boot before, whose system is to go on; or empty
    resumed: str


class Image(Struct, frozen=True):
    """A built image with its kernel; `cmdline` is what its recipe says."""

    initrd: Path
    kernel: Path
    distribution: Distribution = Distribution()
    cmdline: tuple[str, ...] = ()


def choose(names: tuple[str, ...], search: SearchPath, *, matrix: bool = True) -> tuple[Chosen, ...]:
    """Return the scenarios that `names` mean: a file, a topic (the name of one in the search path), or a scenario.

    Without names all of the search path's. `matrix`: those marked so too, unless named. Raises RecipeError for a name
    that means nothing, and for a file that is wrong.
    """
    topics = {name: _chosen(path) for name, path in scenario_topics(search).items()}
    every = {name: chosen for topic in topics.values() for name, chosen in topic.items()}
    found: dict[str, Chosen] = {}
    for name in names or topics:
        if name in every:
            found[name] = every[name]
            continue
        if name not in topics and not name.endswith(".toml"):
            known = [*topics, *every]
            raise RecipeError(f"there is no scenario {name!r}", nearest(name, known) or "topics: " + ", ".join(topics))
        topic = topics[name] if name in topics else _chosen(Path(name))
        found |= {each: chosen for each, chosen in topic.items() if matrix or not chosen.spec.matrix}
    return tuple(found.values())


def _chosen(path: Path) -> dict[str, Chosen]:
    """Return all scenarios of a file by name."""
    file = load_scenarios(path)
    return {name: Chosen(name, spec, file) for name, spec in file.scenario.items()}


def scenario_topics(search: SearchPath) -> dict[str, Path]:
    """Return the scenario files of the search path, by topic."""
    consulted = Consulted()
    names = {name for each in search.directories for name in toml_names(each / "scenarios", consulted)}
    found = {name: find(search, f"scenarios/{name}", consulted) for name in sorted(names)}
    return {name[:-5]: path for name, path in found.items() if path is not None}


class ScenarioRunner:
    """Runs scenarios. `session` is the directory of one run, with images and logs; workers of one run share it.

    `recipe` (a file or name, None: the built-in recipe) is what scenarios' own recipe data is laid over; `image` is
    booted instead of building one.
    """

    def __init__(
        self, engine: Engine, session: Path, *, recipe: str | None = None, overrides: Overrides | None = None,
        image: Image | None = None,
    ) -> None:  # fmt: skip
        self.engine = engine
        self.session = session
        self.cache = engine.workspace.boot
        self.preparer = Preparer(engine, session)
        self._recipe = recipe
        self._overrides = overrides or Overrides()
        self._image = image

    def run(self, chosen: Chosen) -> ScenarioResult:
        """Run one scenario and return what came of it.

        Raises BuildError where an image can't be built, a disk not be prepared, or a machine not be started.
        """
        began = time.monotonic()
        spec = chosen.spec
        image = self._image or self.build(settings(chosen))
        disks = chosen.file.disks[spec.disks] if spec.disks else DiskSet({})
        prepared = self.preparer.prepare(disks, image.distribution) if disks.size else Prepared({}, {})
        logs = self.session / "logs" / chosen.name
        kept = disks.paths > 1 or len(spec.boot) > 1 or bool(spec.flip) or any(boot.check for boot in spec.boot)
        files = copies(prepared.disks, logs / "disks") if kept else prepared.disks
        # A TPM writes in every boot: it counts them, and wrong PINs.
        tpm = shutil.copytree(prepared.tpm, logs / "tpm") if prepared.tpm else None
        for flip in spec.flip:
            flip_bit(files[flip.disk], int(fill_in(flip.offset, prepared.values)))
        results: list[BootResult] = []
        problems: list[str] = []
        token = ""
        for number, boot in enumerate(spec.boot, 1):
            name = chosen.name if len(spec.boot) == 1 else f"{chosen.name}-{number}"
            disks_now = Prepared(files, prepared.values, tpm)
            before, token = token, secrets.token_hex(16)
            step = Step(name, boot, disks, kept, token, before if boot.resumes else "")
            result, found = self._boot(step, disks_now, image, logs)
            results.append(result)
            problems += found
            if found:
                break
        if kept and not problems:
            for path in files.values():
                path.unlink()
        return ScenarioResult(chosen.name, tuple(problems), tuple(results), time.monotonic() - began)

    def _boot(
        self, step: Step, prepared: Prepared, image: Image, logs: Path
    ) -> tuple[BootResult, list[str]]:  # fmt: skip
        name, boot = step.name, step.boot
        system = step.disks.root == "debian"
        words = [f"console={architecture(image.distribution.arch).console}", "panic=-1", *image.cmdline,
                 fill_in(boot.cmdline, prepared.values), _SYSTEM_CMDLINE if system else ""]  # fmt: skip
        whole = system and boot.reached
        scenario = Scenario(
            name=name, kernel=str(image.kernel), initrds=(str(image.initrd),), arch=image.distribution.arch,
            cmdline=" ".join(word for word in words if word), memory=boot.memory, answers=boot.answer,
            timeout=boot.timeout, screen=boot.screen, tpm=str(prepared.tpm) if prepared.tpm and boot.tpm else "",
            disks=tuple(DiskSpec(str(prepared.disks[disk]), bus=step.disks.bus, paths=step.disks.paths,
                                 snapshot=not step.kept, serial=disk)
                        for disk in boot.disks or prepared.disks),
            expect=Expect(
                reached=boot.reached, identity=IDENTITY, within=boot.within, order=boot.order,
                must=(*boot.must, *(_SYSTEM_MUST if whole else ())),
                must_not=(*boot.must_not, *_NEVER, *(_SYSTEM_MUST_NOT if whole else ())),
            ),
        )  # fmt: skip
        result = run_scenario(scenario, logs, self.cache, token=step.token, resumed=step.resumed)
        problems = [f"{explain(result)} (serial console: {result.log})"] if result.problems else []
        if whole and not problems:
            problems += _system_problems(result)
        if boot.check and not problems:
            self._check(name, boot.check, prepared, logs, problems)
        return result, problems

    def _check(self, name: str, script: str, prepared: Prepared, logs: Path, problems: list[str]) -> None:
        try:
            run_script(fill_in(script, prepared.values), prepared.disks, self.preparer.machine(), workdir=logs,
                       boot_cache=self.cache, name=f"{name}-check")  # fmt: skip
        except BuildError as error:
            problems.append(f"the disks are not as they should be afterwards: {error.message} ({error.hint})")

    def build(self, sets: tuple[str, ...]) -> Image:
        """Return the image of the base recipe with these values, built once a run."""
        values = (*self._overrides.set, *sets)
        key = hashlib.sha256(repr((self._recipe, self._overrides, values)).encode()).hexdigest()[:16]
        loaded = self.engine.load(self._recipe, structs.replace(self._overrides, set=values))
        output = self.session / f"image-{key}"
        with alone(self.session / f"image-{key}.lock"):
            if not (output / "done").exists():
                self.engine.build(loaded, output, lock=self.session / f"image-{key}.lock.toml")
                (output / "done").touch()
        initrd = next(output.glob("*.initrd"))
        return Image(initrd, initrd.with_suffix(".vmlinuz"), loaded.recipe.distribution)


def _system_problems(result: BootResult) -> list[str]:
    report = read_system_report(Path(result.log))
    found = system_problems(report)
    if not report.journal_lines:
        found.append("journalctl -b of the root does not show what the initrd did")
    return found


def settings(chosen: Chosen) -> tuple[str, ...]:
    """Return a scenario's recipe data as KEY=VALUE settings over a base recipe. Pure."""
    spec = chosen.spec
    data: dict[str, Any] = merge(dict(chosen.file.recipe), spec.recipe)
    if spec.flavour:
        base = {"flavour": spec.flavour, "features": [spec.flavour, "ext4", "virtio", "nvme"]}
        data = merge({"part": {"base": base}}, data)
    sets = list(_flat(data, ()))
    if spec.features:
        sets.append("part.base.features=" + _toml(["...", *spec.features]))
    return tuple(sets)


def _flat(data: Mapping[str, Any], key: tuple[str, ...]) -> Iterator[str]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, (*key, name))
        else:
            yield f"{'.'.join((*key, name))}={_toml(value)}"


def _toml(value: Any) -> str:
    """Return a value as TOML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(name)} = {_toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return quoted(value) if isinstance(value, str) else str(value)


def built_image(path: Path) -> Image:
    """Return an image that is there already. Raises BuildError: see proving.read_built."""
    built = read_built(path)
    manifest = built.manifest
    distribution = Distribution(manifest.distribution, manifest.release, manifest.arch)
    return Image(built.image, built.kernel, distribution, tuple(manifest.cmdline))


def session_directory(workspace: Workspace) -> Path:
    """Return a new directory for a run's images and logs; those of runs long ago are removed."""
    return run_directory(workspace, "test")


def run_all(runner: ScenarioRunner, chosen: Sequence[Chosen], jobs: int) -> Iterator[ScenarioResult]:
    """Run scenarios, at most `jobs` at once, and yield each result when it is there. A failed build is a problem."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    def run(each: Chosen) -> ScenarioResult:
        began = time.monotonic()
        try:
            return runner.run(each)
        except PrerootError as error:
            return ScenarioResult(each.name, (f"{error.message} ({error.hint})",), (), time.monotonic() - began)

    pool = ThreadPoolExecutor(jobs)
    try:
        for future in as_completed([pool.submit(run, each) for each in chosen]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)
