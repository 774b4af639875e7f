# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a recipe brings itself goes through the same closure, check and manifest as what features bring."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from preroot.engine import Engine
from preroot.errors import BuildError, PrerootError, RecipeError
from preroot.tree.model import BytesContent, Entry, Plan

RECIPE = """
packages = ["strace"]
take = ["usr/bin/strace"]

[kernel]
modules = "virtual"
add-modules = ["dm_mod"]

[modprobe]
blacklist = ["pcspkr"]

[[file]]
path = "/etc/motto"
content = "built, not copied"
mode = "0640"
owner = "reader"
group = "reader"

[[file]]
path = "usr/bin/hello"
content = "#!/bin/sh\\nexec strace -V\\n"
mode = "0755"

[[link]]
path = "usr/bin/tracer"
target = "strace"

[[node]]
path = "dev/null"
major = 1
minor = 3
mode = "0666"

[[user]]
name = "reader"

[[unit]]
name = "hello.service"
content = '''
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
User=reader
ExecStart=/usr/bin/hello
[Install]
WantedBy=initrd.target
'''
"""


@pytest.fixture
def plan(engine: Engine, tmp_path: Path) -> Plan:
    return planned(engine, tmp_path, RECIPE)


def planned(engine: Engine, where: Path, text: str) -> Plan:
    recipe = where / "own.toml"
    recipe.write_text(text)
    loaded = engine.load(recipe)
    return engine.plan(loaded, engine.lock(loaded, engine.lock_path(loaded, where), write=False))


def base(plan: Plan) -> dict[str, Entry]:
    return next(part for part in plan.parts if part.name == "base").tree.entries


def text(entry: Entry) -> str:
    assert isinstance(entry.content, BytesContent)
    return entry.content.data.decode()


def test_everything_is_there_with_owner_and_reason(plan: Plan) -> None:
    entries = base(plan)
    motto = entries["etc/motto"]
    assert (motto.owner, motto.mode, text(motto)) == ("recipe", 0o640, "built, not copied")
    assert f":x:{motto.uid}:{motto.gid}:" in text(entries["etc/passwd"])
    assert motto.uid >= 100
    assert entries["usr/bin/strace"].owner.startswith("strace=")
    assert [reason.kind for reason in entries["usr/bin/strace"].reasons] == ["recipe", "symlink"]
    assert entries["usr/bin/tracer"].target == "strace"
    assert entries["dev/null"].device == ("c", 1, 3)
    assert entries["etc/systemd/system/initrd.target.wants/hello.service"].target.endswith("/hello.service")
    assert text(entries["etc/modprobe.d/preroot.conf"]) == "blacklist pcspkr\n"
    assert plan.kernel is not None
    assert "dm_mod" in plan.kernel.modules


def test_what_they_need_comes_along(plan: Plan) -> None:
    """strace is linked with libunwind or elfutils' libraries, which nothing else in the image needs."""
    entries = base(plan)
    needed = {
        path for path, entry in entries.items() if any(reason.asker == "usr/bin/strace" for reason in entry.reasons)
    }
    assert any("/lib" in path and ".so" in path for path in needed)
    assert any(reason.asker == "usr/bin/hello" for reason in entries["usr/bin/sh"].reasons)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (("#!/bin/sh", "#!/usr/bin/perl"), BuildError, "usr/bin/perl.*usr/bin/hello"),
        (("/usr/bin/hello\n[Install]", "/usr/bin/nowhere\n[Install]"), BuildError, "usr/bin/nowhere.*hello.service"),
        (("User=reader", "User=writer"), BuildError, "the user writer.*hello.service"),
        (('owner = "reader"', 'owner = "writer"'), BuildError, "writer"),
        (('["usr/bin/strace"]', '["usr/bin/strce*"]'), RecipeError, "usr/bin/strce.*matches nothing"),
        (('["dm_mod"]', '["dm_mud"]'), BuildError, "module dm_mud.*the recipe"),
        (("[kernel]", 'exclude = ["usr/lib/x86_64-linux-gnu/libc.so.6"]\n[kernel]'), BuildError, "libc.so.6"),
        (
            ("[kernel]", '[[except]]\npath = "usr/bin/perl"\nasker = "usr/bin/hello"\nreason = "none"\n[kernel]'),
            BuildError,
            "declares an exception for usr/bin/perl.*remove it",
        ),
    ],
)  # fmt: skip
def test_the_closed_world_holds_for_them_too(
    engine: Engine, tmp_path: Path, change: tuple[str, str], error: type[PrerootError], says: str
) -> None:
    changed = RECIPE.replace(*change)
    assert changed != RECIPE
    with pytest.raises(error, match=says):
        planned(engine, tmp_path, changed)


def test_a_declared_exception_lets_a_need_be(engine: Engine, tmp_path: Path) -> None:
    exception = '[[except]]\npath = "usr/bin/perl"\nasker = "usr/bin/hello"\nreason = "only for debugging"\n[kernel]'
    changed = RECIPE.replace("#!/bin/sh", "#!/usr/bin/perl").replace("[kernel]", exception)
    plan = planned(engine, tmp_path, changed)
    assert any(each.what == "/usr/bin/perl" and each.asker == "usr/bin/hello" for each in plan.left_out)


def test_a_password_and_a_key_are_secrets(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image is for its owner alone, and neither manifest nor lock has a digest of them; the key is the one beside
    the recipe, wherever the build is started."""
    where, elsewhere = tmp_path / "recipe", tmp_path / "elsewhere"
    for directory, key in ((where, "right-key-4711"), (elsewhere, "wrong-key-4711")):
        directory.mkdir()
        (directory / "key").write_text(key)
    monkeypatch.chdir(elsewhere)
    recipe = where / "own.toml"
    recipe.write_text(
        '[kernel]\nmodules = "virtual"\n[access]\npolicy = "password"\npassword-hash = "$6$salt$planted"\n'
        '[compression]\ncodec = "none"\nlevel = 0\n[[secret]]\npath = "etc/key"\nsource = "key"\n'
    )
    result = engine.build(engine.load(recipe), tmp_path / "out")
    assert result.secret
    assert result.image.stat().st_mode & 0o777 == 0o600
    image = result.image.read_bytes()
    assert b"$6$salt$planted" in image and b"right-key-4711" in image and b"wrong-key-4711" not in image
    manifest = result.manifest.read_text()
    assert "planted" not in manifest
    assert hashlib.sha256(b"right-key-4711").hexdigest() not in manifest
    shadow = image[image.index(b"root:$6$") :].partition(b"\0")[0]
    assert hashlib.sha256(shadow).hexdigest() not in manifest
    assert "planted" not in (where / "own.lock").read_text()
