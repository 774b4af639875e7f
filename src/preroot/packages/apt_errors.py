# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turns what apt writes when it fails into one line and a way out. Pure.

The patterns are of apt 2.6 (bookworm, verifies with gpgv) and apt 3.0 (trixie, verifies with sqv); what none of
them knows is shown in apt's own words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from preroot.errors import BuildError
from preroot.packages.apt_config import Setup
from preroot.packages.aside import OTHER_CACHE

_Rule = tuple[re.Pattern[str], Callable[[re.Match[str], Setup], tuple[str, str]]]

_DROPPED = "`preroot lock --update`, or a snapshot mirror in distribution.mirror"
_OFFLINE = "without the network only a build with a lock works"
_FAILED = re.compile(r"^[EW]: Failed to fetch (?P<uri>\S+)\s+(?P<reason>.*)$", re.MULTILINE)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
_UNWRITABLE = re.compile(r"(?P<path>/\S+) .*\((?:13: Permission denied|30: Read-only file system)\)")


def _where(setup: Setup) -> str:
    return "the address is from the host's apt; distribution.mirror sets another" if setup.from_host else ""


def _keyrings(setup: Setup) -> str:
    return ", ".join(setup.keyrings)


def _no_release(match: re.Match[str], setup: Setup) -> tuple[str, str]:
    """Describe a Release file that is not there; apt says the same of one that it could not get for other reasons."""
    told = re.search(rf"(?m)^Err:\d+ {re.escape(match['base'])} {re.escape(match['suite'])} .*\n +(.*)", match.string)
    if told and not re.match(r"404\b|410\b|File not found", told[1]):
        return f"cannot fetch {match['base']} {match['suite']}: {_reason(told[1])}", _where(setup) or _OFFLINE
    hint = "check distribution.release and distribution.suites"
    return f"{match['base']} has no suite {match['suite']!r}", f"{hint}; {_where(setup)}" if _where(setup) else hint


def _refused(match: re.Match[str], setup: Setup) -> tuple[str, str]:
    """Describe an answer of the mirror that apt goes on from as if there were no signature (401, 403, 407, 5xx)."""
    hint = "credentials: https://NAME:PASSWORD@… in distribution.mirror, or distribution.client-certificate"
    return f"cannot fetch {match['base']} {match['suite']}: {_reason(match['reason'])}", _where(setup) or hint


def _no_key(match: re.Match[str], setup: Setup) -> tuple[str, str]:
    message = f"{match['base']} {match['suite']} is signed with key {match['key']}, which is not in {_keyrings(setup)}"
    return message, "set distribution.keyring to a file with the archive's keys, or update the keyring's package"


_RULES: tuple[_Rule, ...] = (
    (re.compile(r"(?m)^Err:\d+ (?P<base>\S+) (?P<suite>\S+) .*\n +(?P<reason>(?:40[1-37-9]|5\d\d) .*)"), _refused),
    (re.compile(r"'(?P<base>\S+) (?P<suite>\S+) Release' (?:does not have|no longer has) a Release file"), _no_release),
    (re.compile(r"error: (?P<base>\S+) (?P<suite>\S+) (?:In)?Release: .*NO_PUBKEY (?P<key>[0-9A-F]+)"), _no_key),
    (re.compile(r"verification failed: (?P<base>\S+) (?P<suite>\S+) (?:In)?Release: .*Missing key (?P<key>[0-9A-F]+)"),
     _no_key),
    (re.compile(r"[Ee]rror: (?P<base>\S+) (?P<suite>\S+) (?:In)?Release: .*EXPKEYSIG (?P<key>[0-9A-F]+)"),
     lambda m, s: (f"{m['base']} {m['suite']} is signed with the expired key {m['key']} of {_keyrings(s)}",
                   "update the keyring's package, or set distribution.keyring")),
    # apt 2.6 does not say that there is no room for the parts, which it writes to TMPDIR
    (re.compile(r"Splitting up (?P<path>\S+) into data and signature failed"),
     lambda m, s: (f"cannot split {m['path']} in the temporary directory", "is there room? set TMPDIR to another")),
    (re.compile(r"(?:[Ee]rror|failed): (?P<base>\S+) (?P<suite>\S+) (?:In)?Release: (?P<reason>.+)"),
     lambda m, s: (f"{m['base']} {m['suite']} has a bad signature: {m['reason']}",
                   f"nothing of it was used; checked with {_keyrings(s)}")),
    (re.compile(r"The repository '(?P<base>\S+) (?P<suite>\S+) (?:In)?Release' is not signed"),
     lambda m, s: (f"{m['base']} {m['suite']} is not signed",
                   "only signed archives are used; sign it and set distribution.keyring")),
    (re.compile(r"Release file for (?P<uri>\S+) is expired \(invalid since (?P<since>[^)]*)\)"),
     lambda m, s: (f"{m['uri']} expired {m['since']} ago: the mirror is out of date",
                   "use another mirror; for old packages a snapshot mirror with {snapshot} and distribution.snapshot")),
    (re.compile(r"Release file for (?P<uri>\S+) is not valid yet \(invalid for another (?P<time>[^)]*)\)"),
     lambda m, s: (f"{m['uri']} is from the future, by {m['time']}", "is this machine's clock right?")),
    (re.compile(r"'(?P<base>\S+) (?P<suite>\S+) (?:In)?Release' doesn't have the component '(?P<name>[^']*)'"),
     lambda m, s: (f"{m['base']} {m['suite']} has no component {m['name']!r}", "check distribution.components")),
)  # fmt: skip


def explain_update(output: str, setup: Setup, cache: str) -> BuildError:
    """Return the error for a failed `apt-get update`.

    Arguments: everything that apt wrote, the setup that it had, and the cache directory (for errors of the disk).
    """
    disk = explain_disk(output, cache)
    if disk:
        return disk
    for pattern, describe in _RULES:
        match = pattern.search(output)
        if match:
            return BuildError(*describe(match, setup))
    failed = _FAILED.search(output)
    if failed:
        uri, reason = failed["uri"], _reason(failed["reason"])
        if "Hash Sum mismatch" in reason or "unexpected size" in reason:
            return BuildError(
                f"{uri} does not have the digest that the signed Release file gives: {reason}",
                "the mirror is being updated or has been tampered with; try again or use another",
            )
        return BuildError(f"cannot fetch {uri}: {reason}", "; ".join(filter(None, (_OFFLINE, _where(setup)))))
    return BuildError(f"apt cannot read the archive: {last_words(output)}")


def explain_disk(output: str, cache: str) -> BuildError | None:
    """Return the error for a disk that is full or can't be written, None where the reason is another one."""
    if _NO_SPACE.search(output):
        return BuildError(f"no space left on the device of {cache}", f"make room, or {OTHER_CACHE}")
    match = _UNWRITABLE.search(output)
    if match:
        return BuildError(f"cannot write {match['path']}", OTHER_CACHE)
    return None


def _reason(text: str) -> str:
    return re.sub(r"\s*\[IP: [^]]*\]", "", text).strip()


def last_words(output: str) -> str:
    """Return apt's own error lines, joined to one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line[3:] for line in lines if line.startswith("E: ")]
    return "; ".join(errors or lines[-3:]) or "no error text"


def explain_install(output: str, requests: Sequence[str]) -> BuildError:
    """Return the error for requests that apt cannot resolve: the solver's own explanation in one line."""
    asked = ", ".join(requests) if len(requests) <= 8 else f"{len(requests)} requests"
    version = re.search(r"Version '(?P<version>[^']*)' for '(?P<name>[^']*)' was not found", output)
    if version:
        return BuildError(f"package {version['name']} has no version {version['version']}",
                          "`preroot lock --update` takes newer ones; snapshot mirrors have old ones")  # fmt: skip
    virtual = re.search(r"Package (?P<name>\S+) is a virtual package provided by:\n(?P<by>(?:  .*\n)*)", output)
    if virtual:
        providers = ", ".join(sorted({line.split()[0] for line in virtual["by"].splitlines() if line.split()}))
        return BuildError(f"package {virtual['name']} is virtual", f"name one of: {providers}")
    unmet = re.search(r"have unmet dependencies:\n(?P<lines>(?: .*\n?)+)", output)
    # apt 3.1 and later explain themselves in the error lines
    told = " ".join(unmet["lines"].split()) if unmet else last_words(output)
    return BuildError(
        f"cannot resolve {asked}: {told}", "the archive may be in transition; try again later, or a snapshot"
    )


def explain_download(output: str, owners: dict[str, str], cache: str) -> BuildError:
    """Return the error for a failed download; `owners` maps each URI to its `package=version`."""
    disk = explain_disk(output, cache)
    if disk:
        return disk
    for failed in _FAILED.finditer(output):
        uri, reason = failed["uri"], _reason(failed["reason"])
        owner = owners.get(uri, uri)
        if re.match(r"404\b|410\b|File not found", reason) or "2: No such file" in reason:
            return BuildError(f"{owner} is no longer at {uri}", _DROPPED)
        if "Hash Sum mismatch" in reason or "unexpected size" in reason or "Hashes of received file" in output:
            return BuildError(f"{owner}: {uri} does not have the digest that the lock gives", _DROPPED)
        return BuildError(f"cannot fetch {owner} from {uri}: {reason}", "files that are in the cache need no network")
    return BuildError(f"cannot fetch packages: {last_words(output)}")
