# SPDX-License-Identifier: LGPL-2.1-or-later
"""The recipe: every table and key that a user can write, as frozen data.

Field names are written with dashes in TOML (`add-modules`). Unknown keys are errors. `preroot schema` and
docs/recipe.md are generated from these classes: the comment strings after a field (`Meta(description=…)`) are
what a user reads.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field


class Base(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", omit_defaults=True):
    """What all tables of a recipe share: frozen, strict, dashes in names."""


Flavour = Literal["systemd", "busybox"]
LayoutName = Literal["initrd", "split", "partition", "extension"]
FormatName = Literal["cpio", "ext4", "squashfs", "erofs", "directory", "disk", "list", "uki"]
Codec = Literal["zstd", "xz", "gzip", "lz4", "none"]
#: levels of each codec's own tool: zstd(1) (negative ones are its --fast), xz(1), gzip(1), lz4(1)
CODEC_LEVELS = {"zstd": (-7, 22), "xz": (0, 9), "gzip": (1, 9), "lz4": (1, 12)}
SourceName = Literal["apt", "dnf", "zypper", "pacman", "directory", "installed"]
SbomFormat = Literal["spdx", "cyclonedx"]
Policy = Literal["locked", "password", "open"]
FailureAction = Literal["shell", "reboot", "poweroff", "halt"]
Mode = Annotated[str, Meta(pattern="^0?[0-7]{3,4}$", description="permissions in octal, for example 0644")]
#: what useradd(8) and sysusers.d(5) agree on; a line break or colon would forge lines of /etc/passwd
AccountName = Annotated[
    str,
    Meta(pattern=r"^[a-z_][a-z0-9_-]{0,30}(?!\n)$", description="at most 31 of a-z, 0-9, _ and -, not a digit first"),
]
AccountNumber = Annotated[int, Meta(ge=0, le=2**32 - 2, description="left out: a free one, kept in the lock")]
AccountText = Annotated[str, Meta(pattern=r"^[^:\n]*(?!\n)$", description="one line without colons")]
PartName = Annotated[str, Meta(description="part that it goes into; empty: the first that has a shell of its own")]
Owner = Annotated[str, Meta(description="name of the user that owns it")]
OwnerGroup = Annotated[str, Meta(description="name of the group that owns it")]
#: what facts/microcode.py reads
Processor = Annotated[
    str,
    Meta(pattern=r"^([0-9a-f]{2}-[0-9a-f]{2}(-[0-9a-f]{2})?|fam[0-9a-f]{2}h(-[0-9a-f]{2}(-[0-9a-f]{2})?)?)(?!\n)$",
         description="a processor: 06-5e-03, fam19h or fam19h-21-00"),
]  # fmt: skip
ImagePath = Annotated[str, Meta(min_length=1, description="a path in the image, with or without the leading slash")]


class Distribution(Base, frozen=True):
    """Which distribution the packages are from, and how they are reached."""

    name: Annotated[str, Meta(description="distribution, as in features' `when` and distributions/NAME.toml")] = (
        "debian"
    )
    release: Annotated[str, Meta(description="release code name or number")] = "trixie"
    arch: Annotated[str, Meta(description="architecture, in the distribution's own spelling (amd64, arm64)")] = "amd64"
    source: Annotated[SourceName, Meta(description="where packages come from")] = "apt"
    mirror: Annotated[
        str,
        Meta(description="base URL of the archive (http, https, file; credentials allowed; `{snapshot}` stands for the "
             "snapshot date); empty: the address that the host's own apt uses"),
    ] = ""  # fmt: skip
    suites: Annotated[
        tuple[str, ...],
        Meta(description="suites, `{release}` stands for the release; `URL SUITE` for a suite on another mirror; "
             "empty: those of distributions/NAME.toml"),
    ] = ()  # fmt: skip
    components: Annotated[tuple[str, ...], Meta(description="archive components")] = ("main",)
    snapshot: Annotated[str, Meta(description="date of a snapshot archive (20261101T000000Z)")] = ""
    keyring: Annotated[
        str,
        Meta(description="file with the keys that sign the archive; empty: the distribution's own, as installed here"),
    ] = ""
    proxy: Annotated[str, Meta(description="proxy for http and https")] = ""
    ca: Annotated[str, Meta(description="CA certificate file for https mirrors")] = ""
    client_certificate: Annotated[str, Meta(description="client certificate file for https mirrors")] = ""
    client_key: Annotated[str, Meta(description="client key file for https mirrors")] = ""


class Kernel(Base, frozen=True):
    """Which kernel the image is for, and which of its modules go in."""

    package: Annotated[
        str, Meta(description="package that the kernel is found through; empty: the distribution's default")
    ] = ""
    version: Annotated[
        str,
        Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9.+~_-]*)?(?!\n)$",
             description="kernel release (uname -r): which one, where a source has several; without `package`, that of "
             "this release is found"),
    ] = ""  # fmt: skip
    directory: Annotated[
        str, Meta(description="a directory with vmlinuz, config and lib/modules/VERSION; docs/kernels.md")
    ] = ""
    monolithic: Annotated[bool, Meta(description="the kernel has no modules at all")] = False
    modules: Annotated[
        Literal["generic", "virtual", "list"],
        Meta(description="module selection: `generic` (all hardware that the features cover), `virtual` (virtual "
             "machines), `list` (what features require, and `add-modules`)"),
    ] = "generic"  # fmt: skip
    add_modules: Annotated[
        tuple[str, ...], Meta(description="more modules: name, directory (drivers/net/), glob, alias:MODALIAS")
    ] = ()
    extra_modules: Annotated[
        tuple[str, ...],
        Meta(description="modules built apart from the kernel, for this release of it: .ko files, or directories of "
             "them; all of them go in"),
    ] = ()  # fmt: skip
    leave_out_modules: Annotated[tuple[str, ...], Meta(description="modules (names or globs) to leave out")] = ()


class Compression(Base, frozen=True):
    """How a part's archive is compressed."""

    codec: Annotated[Codec, Meta(description="the kernel must be able to unpack it")] = "zstd"
    level: Annotated[int, Meta(ge=-7, le=22, description="compression level of the codec")] = 3
    threads: Annotated[int, Meta(ge=0, description="threads; 0: the processors of this machine")] = 0


class Budget(Base, frozen=True):
    """The most that a part may take; a larger one fails the build and names the largest culprits."""

    compressed_mb: Annotated[float, Meta(gt=0, description="megabytes (10^6 bytes), compressed")] | None = None
    uncompressed_mb: Annotated[float, Meta(gt=0, description="megabytes (10^6 bytes), uncompressed")] | None = None


class Part(Base, frozen=True):
    """One tree of the image: its flavour, features, format, place and budget. Which parts there are: the layout."""

    flavour: Annotated[Flavour | None, Meta(description="who runs the part")] = None
    features: Annotated[tuple[str, ...], Meta(description="features; a first entry `...` keeps those from before")] = ()
    format: Annotated[FormatName | None, Meta(description="how the part is written; without one, the layout's")] = None
    compression: Annotated[Compression | None, Meta(description="instead of the recipe's")] = None
    minus: Annotated[tuple[str, ...], Meta(description="parts whose content is left out of this one")] = ()
    placement: Annotated[str, Meta(description="where the part lies (layouts other than initrd)")] = ""
    budget: Annotated[Budget | None, Meta(description="the most that it may take")] = None


class Root(Base, frozen=True):
    """The real root: what `preroot boot` tries, and what layouts without a command line mount."""

    kind: Annotated[str, Meta(description="root kind: what the root is on")] = "disk"
    device: Annotated[str, Meta(description="UUID=, LABEL=, PARTUUID=, PARTLABEL= or a path")] = ""
    fstype: Annotated[str, Meta(description="file system; empty: found out at boot")] = ""
    flags: Annotated[str, Meta(description="mount options")] = ""


class Access(Base, frozen=True):
    """Who may have a shell before the real root is there."""

    policy: Annotated[
        Policy, Meta(description="`locked` (nobody), `password`, or `open` (whoever is at the console)")
    ] = "locked"
    password_hash: Annotated[str, Meta(description="crypt(5) hash for policy `password`; a secret")] = ""


class Failure(Base, frozen=True):
    """What happens when the root is not reached."""

    timeout: Annotated[int, Meta(ge=1, description="seconds to wait for the root device")] = 90
    degraded: Annotated[
        int,
        Meta(ge=0, description="seconds to wait for disks that a RAID lacks before it is started without them; left "
             "out: 30, or two thirds of `timeout` where that is less"),
    ] | None = None  # fmt: skip
    action: Annotated[FailureAction, Meta(description="`shell` obeys [access]")] = "shell"
    delay: Annotated[
        int, Meta(ge=0, description="seconds in which the reason stays on the console before the action")
    ] = 10

    @property
    def degraded_wait(self) -> int:
        """Return `degraded`, or what stands for it (30 s are mdadm's own, mdadm-last-resort@.timer of 4.2 and 4.4)."""
        return min(30, self.timeout * 2 // 3) if self.degraded is None else self.degraded


class Microcode(Base, frozen=True):
    """Processor microcode in an early archive."""

    vendors: Annotated[
        tuple[Literal["intel", "amd"], ...], Meta(description="whose processors, all that there is microcode for")
    ] = ()
    cpus: Annotated[
        tuple[Processor, ...],
        Meta(description="only these processors: `06-5e-03` (Intel family-model-stepping), `fam19h` or `fam19h-21-00` "
             "(AMD), in hexadecimal; without stepping or model, all of them"),
    ] = ()  # fmt: skip


class Firmware(Base, frozen=True):
    """Firmware beside what the drivers of the image ask for; names and globs below /lib/firmware."""

    include: Annotated[tuple[str, ...], Meta(description="files to take whichever drivers there are (globs)")] = ()
    exclude: Annotated[tuple[str, ...], Meta(description="files to leave out (globs)")] = ()


class File(Base, frozen=True):
    """A file of the recipe's own."""

    path: ImagePath
    content: Annotated[str | None, Meta(description="its text; or `source`")] = None
    source: Annotated[str | None, Meta(description="file to take, relative to the recipe")] = None
    mode: Mode = "0644"
    owner: Owner = "root"
    group: OwnerGroup = "root"
    part: PartName = ""


class Link(Base, frozen=True):
    """A symbolic link of the recipe's own."""

    path: ImagePath
    target: Annotated[str, Meta(min_length=1, description="what it points to, written as it is")]
    part: PartName = ""


class Node(Base, frozen=True, kw_only=True):
    """A device node of the recipe's own, written straight into the archive: nobody needs to be root for it."""

    path: ImagePath
    type: Annotated[Literal["c", "b"], Meta(description="character or block device")] = "c"
    major: Annotated[int, Meta(ge=0, le=4095, description="major number")]
    minor: Annotated[int, Meta(ge=0, le=1048575, description="minor number")]
    mode: Annotated[Mode, Meta(description="permissions in octal, for example 0600")] = "0600"
    part: Annotated[str, Meta(description="part that it goes into; empty: the first that has a shell of its own")] = ""


class Unit(Base, frozen=True):
    """A systemd unit of the recipe's own."""

    name: Annotated[str, Meta(description="file name of the unit, its type included")]
    content: Annotated[str | None, Meta(description="its text; or `source`")] = None
    source: Annotated[str | None, Meta(description="file to take, relative to the recipe")] = None
    enable: Annotated[bool, Meta(description="make the links that its [Install] section asks for")] = True
    part: PartName = ""


class Hook(Base, frozen=True, kw_only=True):
    """A program or unit of the recipe's own at a point of the boot; docs/hooks.md has the points.

    Of one point, hooks run one after the other, by `order` and then by name.
    """

    point: Annotated[str, Meta(description="cmdline, pre-udev, pre-trigger, initqueue, pre-mount, mount, pre-pivot, "
                               "cleanup or shutdown")]  # fmt: skip
    name: Annotated[
        str,
        Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?(?!\n)$",
             description="what it is called; may be left out with `unit`"),
    ] = ""  # fmt: skip
    content: Annotated[str | None, Meta(description="the program's text, with a #! line; or `source`")] = None
    source: Annotated[str | None, Meta(description="file to take, relative to the recipe; or `unit`")] = None
    unit: Annotated[
        str | None, Meta(description="unit to start at the point instead, of the recipe or a package (systemd only)")
    ] = None
    order: Annotated[int, Meta(ge=0, le=99, description="hooks of one point run in this order")] = 50
    required: Annotated[bool, Meta(description="the boot fails when it does; else that is told and it goes on")] = False
    part: Annotated[str, Meta(description="part that it goes into; empty: each that has the point")] = ""


class User(Base, frozen=True):
    """A user of the recipe's own, with a group of the same name unless `group` says otherwise."""

    name: AccountName
    uid: AccountNumber | None = None
    group: Annotated[AccountText, Meta(description="primary group; empty: one of the same name")] = ""
    home: Annotated[AccountText, Meta(description="home directory")] = "/"
    shell: Annotated[AccountText, Meta(description="login shell")] = "/usr/sbin/nologin"
    description: Annotated[AccountText, Meta(description="full name or purpose")] = ""


class Group(Base, frozen=True):
    """A group of the recipe's own."""

    name: AccountName
    gid: AccountNumber | None = None
    members: Annotated[tuple[AccountName, ...], Meta(description="users that are in it")] = ()


class Modprobe(Base, frozen=True):
    """Settings for kernel modules, written to /etc/modprobe.d."""

    options: Annotated[dict[str, str], Meta(description="module → its options")] = {}
    blacklist: Annotated[tuple[str, ...], Meta(description="modules that are not loaded by their aliases")] = ()
    softdep: Annotated[dict[str, str], Meta(description="module → softdep line (`pre: a b post: c`)")] = {}


class Exception_(Base, frozen=True):
    """A declared hole in the closed world; one that nothing needs is an error."""

    path: Annotated[str, Meta(description="what may be missing (glob)")]
    asker: Annotated[str, Meta(description="the path in the image that asks for it (glob)")]
    reason: Annotated[str, Meta(min_length=1, description="why that is no fault")]


class Secret(Base, frozen=True):
    """A file that must never reach store, lock, log or SBOM; the image that has one is 0600."""

    path: ImagePath
    source: Annotated[str, Meta(description="file to take, relative to the recipe")]
    mode: Mode = "0600"
    owner: Owner = "root"
    group: OwnerGroup = "root"
    part: PartName = ""


#: a root hash of SHA-1 to SHA-512, as dmsetup(8) prints it
RootHash = Annotated[str, Meta(pattern="^([0-9a-f]{2}){20,64}(?!\\n)$", description="lower-case hexadecimal digits")]


class Verity(Base, frozen=True):
    """The policy for dm-verity, built into the image."""

    required: Annotated[
        bool, Meta(description="refuse a root without verity, whatever the command line says; docs/verity.md")
    ] = False
    of: Annotated[
        Literal["root", "usr"], Meta(description="what must be on verity: the root with its /usr, or /usr alone")
    ] = "root"
    roothash: Annotated[
        tuple[RootHash, ...],
        Meta(description="the root hashes that the image is for; none: whichever the command line names"),
    ] = ()
    signed: Annotated[
        bool, Meta(description="only a device whose root hash has a signature that the kernel has verified")
    ] = False
    on_corruption: Annotated[
        Literal["eio", "restart", "panic"], Meta(description="what a block that does not fit its digest leads to")
    ] = "restart"


class Signing(Base, frozen=True):
    """Whether the image is meant to be signed: who can read a signed image is nobody's to choose."""

    intended: Annotated[bool, Meta(description="the image is meant to be signed: secrets inside are an error")] = False
    allow_secrets: Annotated[bool, Meta(description="build it with secrets inside nevertheless")] = False


class Output(Base, frozen=True):
    """What a build writes beside the image."""

    sbom: Annotated[
        tuple[SbomFormat, ...], Meta(description="SBOMs: `spdx` (NAME.spdx.json), `cyclonedx` (NAME.cdx.json)")
    ] = ()
    licences: Annotated[
        Literal["none", "sidecar", "image"],
        Meta(description="licence texts of the packages in the image: `sidecar` (NAME.licences.tar.zst beside it), "
             "`image` (in it, below usr/share/doc), `none`"),
    ] = "none"  # fmt: skip


class Recipe(Base, frozen=True):
    """Everything that a user can ask for; the defaults are the built-in recipe's."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="names the output files")] = (
        "preroot"
    )
    distribution: Distribution = Distribution()
    kernel: Kernel = Kernel()
    layout: Annotated[LayoutName, Meta(description="which parts there are, and where each lies")] = "initrd"
    part: dict[str, Part] = {}
    features: Annotated[dict[str, dict[str, Any]], Meta(description="options of the chosen features")] = {}
    compression: Compression = Compression()
    microcode: Microcode = Microcode()
    firmware: Firmware = Firmware()
    root: Root = Root()
    cmdline: Annotated[tuple[str, ...], Meta(description="command line options of the kernel, one a string")] = ()
    access: Access = Access()
    failure: Failure = Failure()
    verity: Verity = Verity()
    signing: Signing = Signing()
    output: Output = Output()
    modprobe: Modprobe = Modprobe()
    packages: Annotated[tuple[str, ...], Meta(description="more packages, from which `take` or features draw")] = ()
    take: Annotated[
        tuple[str, ...], Meta(description="paths (globs) of those packages to take, with all they need")
    ] = ()
    exclude: Annotated[tuple[str, ...], Meta(description="globs of paths to leave out")] = ()
    file: tuple[File, ...] = ()
    link: tuple[Link, ...] = ()
    node: tuple[Node, ...] = ()
    unit: tuple[Unit, ...] = ()
    hook: tuple[Hook, ...] = ()
    user: tuple[User, ...] = ()
    group: tuple[Group, ...] = ()
    secret: tuple[Secret, ...] = ()
    exceptions: Annotated[tuple[Exception_, ...], Meta(description="declared holes in the closed world")] = field(
        default=(), name="except"
    )
