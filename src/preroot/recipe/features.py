# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a feature file can say, as frozen data. The files are in features/*.toml; they are evaluated, never run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from preroot.recipe.schema import Base, Exception_, Group, Link, Mode, Node, User

#: One glob of paths in the image, or several.
Globs = str | tuple[str, ...]

#: Undefined symbols that are learnt of ELF files, for facts that hold of whoever imports them.
WatchedSymbol = Literal["pthread_cancel", "pthread_exit", "thrd_exit", "backtrace"]


def globs(value: Globs) -> tuple[str, ...]:
    """Return the globs of one or several, without leading slashes."""
    return tuple(each.lstrip("/") for each in ((value,) if isinstance(value, str) else value))


class Option(Base, frozen=True):
    """An option of a feature, set by a recipe as `[features.NAME] OPTION = value`."""

    type: Literal["string", "choice", "bool", "int", "list"] = "string"
    default: Any = None
    choices: tuple[str, ...] = ()
    help: str = ""
    #: its value is never shown, and a generated file that has it is a secret itself
    secret: bool = False


class Take(Base, frozen=True):
    """Entry points into the packages; the closure finds the rest.

    Paths are relative to the root of the image (`usr/bin/udevadm`); a `binaries` entry without a slash is looked
    up in usr/bin and usr/sbin. Globs are allowed in all lists but `binaries` and `units`. `any` has lists of
    alternative paths: the first that exists is taken.
    """

    binaries: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    #: units that soft dependencies (Wants=, .wants/) may bring in, without being entry points of their own
    wanted: tuple[str, ...] = ()
    #: units whose [Install] links are made
    enable: tuple[str, ...] = ()
    #: units that are linked to /dev/null
    mask: tuple[str, ...] = ()
    udev_rules: tuple[str, ...] = ()
    generators: tuple[str, ...] = ()
    #: dlopen features (the note's "feature" name) to take although only suggested, or to refuse with "!name"
    dlopen: tuple[str, ...] = ()
    #: plugin families: "nss:files", "pam:unix", "cryptsetup-token:systemd-tpm2" …
    plugins: tuple[str, ...] = ()
    any: tuple[tuple[str, ...], ...] = ()
    #: files of usr/lib/udev/hwdb.d that hwdb.bin is compiled from; they are not in the image themselves
    hwdb: tuple[str, ...] = ()


class Modules(Base, frozen=True):
    """Kernel modules: names, directories (`drivers/nvme/`), globs or `alias:MODALIAS`.

    `required`: each must be there, as a module or built in. `any-of`: of each group at least one. `if-present`:
    what the kernel has. `generic` and `virtual`: if present, only under that module selection (`generic`
    includes `virtual`).
    """

    required: tuple[str, ...] = ()
    any_of: tuple[tuple[str, ...], ...] = ()
    if_present: tuple[str, ...] = ()
    virtual: tuple[str, ...] = ()
    generic: tuple[str, ...] = ()


class KernelOptions(Base, frozen=True):
    """Options of the kernel's configuration that the feature relies on, without `CONFIG_`.

    `NAME` (set, or `m` with its module in the image), `NAME=VALUE` (exactly that), or `A|B` (one of them). `required`:
    without it the build fails; `recommended`: a warning. What `modules` names need not be here.
    """

    required: tuple[str, ...] = ()
    recommended: tuple[str, ...] = ()


class Generate(Base, frozen=True):
    """A file written by preroot in place of a package's script, or for the initrd itself.

    `content` is a template: `{{option.NAME}}`, `{{distribution.NAME}}`, `{{failure.NAME}}`, `{{access.NAME}}`,
    `{{kernel.version}}` are replaced; nothing else is. `source` names a file of runtime/ that is copied as it is.
    """

    path: str
    content: str | None = None
    source: str | None = None
    mode: Mode = "0644"
    owner: str = "root"
    group: str = "root"
    replaces: Annotated[str, Meta(description="package script that this stands for")] = ""


class Cmdline(Base, frozen=True):
    """A kernel command line option that the feature implements, or translates for who implements it.

    `maps-to` has the options that an option of another spelling is replaced by. Of several entries with one name the
    first that fits counts. In them, `{value}` stands for the option's value, `{NAME}` for a part of it that `value`
    names, and `{OPTION.NAME}`, with a dot, for each value of another option (what is before its first `=`).
    """

    name: Annotated[str, Meta(min_length=1, description="without `=`; `rd.x.*` stands for all that begin so")]
    by: Literal["systemd", "preroot", "kernel", "package"] = "systemd"
    since: int = 0
    help: str = ""
    maps_to: Annotated[tuple[str, ...], Meta(description="options that stand for it, as one would write them")] = ()
    value: Annotated[
        str, Meta(description="what values it is about: text with `{NAME}` for anything; empty: all of them")
    ] = ""
    flag: Annotated[bool, Meta(description="a boolean; `maps-to` then holds for a true one")] = False
    ignored: Annotated[str, Meta(description="why it has no effect: it is taken away, and that is logged")] = ""
    widens_access: Annotated[
        bool, Meta(description="it could give a shell: taken away unless access.policy is `open`")
    ] = False


class Point(Base, frozen=True):
    """A point of a boot at which hooks of the recipe run, and where rd.break=NAME stops.

    In a systemd part, `after` and `before` are the units that it lies between; points come in the order of the file.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z][a-z-]*(?!\n)$")]
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    hooks: Annotated[bool, Meta(description="false: it can only be stopped at")] = True
    stops: Annotated[bool, Meta(description="false: it can't be stopped at, and hooks there are only files")] = True


class DlopenFact(Base, frozen=True):
    """A library that is loaded without NEEDED and without a note, with the evidence.

    With `feature` it stands for a dlopen note of that feature and `priority`, for programs from before there were
    notes: `take.dlopen` takes or refuses it as it does the note.
    """

    asker: Annotated[Globs, Meta(description="globs of the paths that load it (`*` crosses slashes)")]
    sonames: Annotated[tuple[str, ...], Meta(min_length=1, description="alternatives, the best first")]
    evidence: str
    optional: Annotated[bool, Meta(description="it may be nowhere in the packages")] = False
    also: Annotated[tuple[str, ...], Meta(description="libraries that are loaded together with it")] = ()
    version: Annotated[
        str, Meta(description="versions of the asker's package that the fact is so for: `>=256,<262`")
    ] = ""
    imports: Annotated[
        tuple[WatchedSymbol, ...], Meta(description="it is so only of files that import one of these symbols")
    ] = ()
    unless: Annotated[dict[str, str], Meta(description="askers (globs) that it is not so of → why")] = {}
    feature: Annotated[str, Meta(description="feature of the note that it stands for")] = ""
    priority: Literal["required", "recommended", "suggested"] = "required"


class Refers(Base, frozen=True, kw_only=True):
    """What a program refers to that no static closure sees: units that a generator writes, programs that it runs."""

    asker: Annotated[str, Meta(description="path in the image (glob); the references hold when it is there")]
    units: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    evidence: str


class ScriptFact(Base, frozen=True):
    """Why a package's maintainer script need not run."""

    package: str
    reason: str


class Content(Base, frozen=True):
    """What a feature, or a variant of it, contributes."""

    requires: tuple[str, ...] = ()
    #: features that the part exitrd then has
    exitrd: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    recommends: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    needs: Annotated[tuple[str, ...], Meta(description="bin:NAME, file:PATH or cap:NAME, mapped to packages")] = ()
    take: Take = Take()
    modules: Modules = Modules()
    kernel_options: KernelOptions = KernelOptions()
    user: tuple[User, ...] = ()
    group: tuple[Group, ...] = ()
    link: tuple[Link, ...] = ()
    node: tuple[Node, ...] = ()
    directory: Annotated[tuple[str, ...], Meta(description="empty directories: `PATH` or `PATH MODE`")] = ()
    generate: tuple[Generate, ...] = ()
    exceptions: tuple[Exception_, ...] = field(default=(), name="except")
    cmdline: tuple[Cmdline, ...] = ()
    point: tuple[Point, ...] = ()
    dlopen: tuple[DlopenFact, ...] = ()
    refers: tuple[Refers, ...] = ()
    script: tuple[ScriptFact, ...] = ()


class When(Base, frozen=True):
    """The only conditional: all keys given must hold. A version is compared as `>=256`, `<257` or `=252`."""

    distribution: str | tuple[str, ...] | None = None
    release: str | tuple[str, ...] | None = None
    arch: str | tuple[str, ...] | None = None
    flavour: str | None = None
    systemd: str | None = None
    kernel: str | None = None
    option: dict[str, Any] = {}
    recipe: Annotated[
        dict[str, Any], Meta(description="values of the recipe, by the names that templates use: `access.policy`")
    ] = {}


class Variant(Content, frozen=True):
    """Content under a condition: lists are added to the feature's; those named in `replaces` replace them."""

    when: When = When()
    replaces: Annotated[
        tuple[str, ...], Meta(description="keys (`needs`, `take.units`) that this variant replaces")
    ] = ()


class Feature(Content, frozen=True):
    """One feature file, as written."""

    summary: str = ""
    #: flavours that the feature has without a variant of that flavour
    flavours: tuple[str, ...] = ("systemd",)
    options: dict[str, Option] = {}
    variant: tuple[Variant, ...] = ()
