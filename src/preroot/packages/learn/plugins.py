# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which plugins a configuration file names: nsswitch.conf(5), pam.d(5), gconv-modules, openssl.cnf (config(5ssl)),
pkcs11.conf(5), themes of Plymouth.

All readers take the bytes of a file, replace what is not UTF-8, and never raise: what its own reader would refuse
names nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from preroot.packages.model import PluginConfiguration

#: A database of nsswitch.conf and its services; what is in brackets says what follows a result.
_DATABASE = re.compile(r"\s*[^\s:]+\s*:(.*)")
_ACTIONS = re.compile(r"\[[^\]]*(?:\]|$)")
_PAM_TYPES = ("account", "auth", "password", "session")
#: a control in brackets may have blanks, and `\]` is no end of it (pam.conf(5))
_PAM_LINE = re.compile(r"(-?)(\w+)\s+(\[(?:\\\]|[^\]])*\]|\S+)\s+(\[(?:\\\]|[^\]])*\]|\S+)")
_SECTION = re.compile(r"\s*\[\s*([^\]]*?)\s*\]")
_INCLUDE = re.compile(r"\s*\.include(?:\s*=\s*|\s+)(\S.*)")
_ASSIGNMENT = re.compile(r"\s*([^=\s]+)\s*=\s*(.*)")
#: the control that lets a module be nowhere
_DISPENSABLE = re.compile(r"\[.*\bmodule_unknown\s*=\s*ignore\b.*\]")


def read_nsswitch(data: bytes) -> PluginConfiguration:
    """Read nsswitch.conf(5): each service is a plugin of the family nss.

    glibc 2.36 to 2.43 pass over lines without a colon (nss_database_from_file in nss/nss_database.c).
    """
    names: dict[str, None] = {}
    for line in _lines(data):
        found = _DATABASE.match(line)
        if found:
            names |= dict.fromkeys(f"nss:{service}" for service in _ACTIONS.sub(" ", found[1]).split())
    return PluginConfiguration(tuple(names))


def read_pam(data: bytes) -> PluginConfiguration:
    """Read a file of pam.d(5): modules, and the files that it includes.

    `pam_unix.so` is the plugin pam:unix, another relative name stands for itself. A type with `-` before it, and a
    control with module_unknown=ignore, make do without the module (pam.conf(5)).
    """
    hard: dict[str, None] = {}
    soft: dict[str, None] = {}
    paths: dict[str, None] = {}
    includes: dict[str, None] = {}
    for line in _lines(data.replace(b"\\\n", b" ")):
        words = line.split()
        if words[:1] == ["@include"] and len(words) > 1:
            includes[words[1]] = None
            continue
        found = _PAM_LINE.match(line.strip())
        if found is None or found[2].lower() not in _PAM_TYPES:
            continue
        dash, control, module = found[1], found[3].lower(), found[4]
        if control in {"include", "substack"}:
            includes[module] = None
        elif module.startswith("/"):
            paths[module] = None
        else:
            named = re.fullmatch(r"pam_(.+)\.so", module)
            dispensable = dash or _DISPENSABLE.fullmatch(control)
            (soft if dispensable else hard)[f"pam:{named[1] if named else module}"] = None
    return PluginConfiguration(
        tuple(hard), tuple(each for each in soft if each not in hard), tuple(paths), tuple(includes)
    )  # fmt: skip


def read_gconv(data: bytes) -> PluginConfiguration:
    """Read gconv-modules: `module FROM// TO// FILE COST` (add_module in iconv/gconv_parseconfdir.h of glibc 2.41)."""
    names: dict[str, None] = {}
    for line in _lines(data):
        words = line.split()
        if len(words) >= 4 and words[0] == "module":
            names[f"gconv:{words[3].removesuffix('.so')}"] = None
    return PluginConfiguration(tuple(names))


def read_openssl(data: bytes) -> PluginConfiguration:
    """Read openssl.cnf: the providers that it activates, and the engines that it configures.

    From `openssl_conf` in the default section over `providers` and `engines` to a section for each, whose `module` or
    `dynamic_path` is a file (config(5ssl), crypto/provider_conf.c and crypto/engine/eng_cnf.c of OpenSSL 3.0 to 3.5).
    A provider with `activate` counts whatever the value: 3.0 does not look at it.
    Variables (`$dir`) are not replaced: a path with one is asked for as it is written, and so named as missing.
    """
    sections: dict[str, dict[str, str]] = {"default": {}}
    includes: dict[str, None] = {}
    here = sections["default"]
    for line in _lines(data.replace(b"\\\n", b"")):
        if found := _SECTION.match(line):
            here = sections.setdefault(found[1], {})
        elif found := _INCLUDE.match(line):
            includes[_value(found[1])] = None
        elif found := _ASSIGNMENT.match(line):
            here[found[1]] = _value(found[2])
    names: dict[str, None] = {}
    paths: dict[str, None] = {}
    library = sections.get(sections["default"].get("openssl_conf", ""), {})
    # Which section of an included file is the first, only who includes it knows: all tables of providers count.
    tables = [library] if library else list(sections.values())
    for table in tables:
        for provider, its in _named(table.get("providers", ""), sections):
            if "activate" in its:
                _add(f"openssl:{its.get('identity', provider)}", its.get("module", ""), names, paths)
        for engine, its in _named(table.get("engines", ""), sections):
            _add(f"openssl-engine:{its.get('engine_id', engine)}", its.get("dynamic_path", ""), names, paths)
    return PluginConfiguration(tuple(names), (), tuple(paths), tuple(includes))


def read_p11kit(data: bytes) -> PluginConfiguration:
    """Read a module's file of pkcs11.conf(5): the line `module: PATH`, the last if there are several.

    A path that is not absolute is one in p11-kit's own directory (p11-kit/conf.c, p11-kit/modules.c of 0.24 to 0.25).
    """
    module = ""
    for line in _lines(data):
        key, _, value = line.partition(":")
        if key.strip() == "module":
            module = value.strip()
    if module.startswith("/"):
        return PluginConfiguration((), (), (module,))
    return PluginConfiguration((f"p11-kit:{module}",) if module else ())


def read_plymouth(data: bytes) -> PluginConfiguration:
    """Read a theme of Plymouth: its plugin is the `ModuleName` of [Plymouth Theme], which a script theme's file is for.

    Source: ply_boot_splash_load() in src/libply-splash-core/ply-boot-splash.c, create_plugin() in
    src/plugins/splash/script/plugin.c (22.02 to 26.134). Which pictures of ImageDir are used, each plugin knows.
    """
    names: dict[str, None] = {}
    paths: dict[str, None] = {}
    section = ""
    for line in _lines(data):
        if found := _SECTION.match(line):
            section = found[1]
        elif found := _ASSIGNMENT.match(line):
            if (section, found[1]) == ("Plymouth Theme", "ModuleName"):
                names[f"plymouth:{found[2].strip()}"] = None
            elif (section, found[1]) == ("script", "ScriptFile"):
                paths[found[2].strip()] = None
    return PluginConfiguration(tuple(names), (), tuple(paths))


def _named(section: str, sections: dict[str, dict[str, str]]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the entries of a table of sections: name (what follows a dot in it is a comment) and section."""
    for name, target in sections.get(section, {}).items():
        yield name.partition(".")[2] or name, sections.get(target, {})


def _add(name: str, path: str, names: dict[str, None], paths: dict[str, None]) -> None:
    """Note a plugin by its path, or by name where it has none of its own."""
    if path:
        paths[path] = None
    else:
        names[name] = None


def _value(text: str) -> str:
    """Return a value of openssl.cnf without quotes; blanks within it stay."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def _lines(data: bytes) -> Iterable[str]:
    """Return the lines without comments, which `#` starts in all of these files, and empty ones."""
    lines = (line.partition("#")[0] for line in data.decode("utf-8", "replace").split("\n"))
    return [line for line in lines if line.strip()]
