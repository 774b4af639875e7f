# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line, without packages and network: commands, errors, output."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_samples import file, other, tree

from preroot.boot.platforms import PLATFORMS
from preroot.cli import preroot_command, run_command_line
from preroot.cli.report import Lines, colours, printable, table
from preroot.engine.doctor import TOOLS
from preroot.facts.arch import ARCHES
from preroot.image.content import ContentReader
from preroot.image.cpio import archive_chunks
from preroot.run import TOOL_PACKAGES

SCRIPT = (sys.executable, "-m", "preroot")


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """Running a command sets handlers for signals; the test process gets its own back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image with a hostile name in it: it would clear the screen."""
    content = tree(file("usr/bin/x", b"x" * 2500, 0o755), other("lib", "symlink", 0o777, target="usr/lib"),
                   other("dev/null", "node", 0o666, device=("c", 1, 3)), file("etc/\x1b[2J"))  # fmt: skip
    path = tmp_path / "t.initrd"
    path.write_bytes(b"".join(archive_chunks(content.entries.values(), ContentReader().read)))
    return path


def names() -> list[str]:
    return preroot_command.list_commands(click.Context(preroot_command))


@pytest.mark.parametrize("name", names())
def test_each_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line([name, "--help"]) == 0
    said = capsys.readouterr().out
    assert "Example" in said and f"preroot {name}" in said
    assert len(max(said.splitlines(), key=len)) <= 100


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["biuld"], "unknown command 'biuld'", "did you mean 'build'?"),
        (["qqqq"], "unknown command 'qqqq'", "see preroot --help"),
        (["build", "--outptu", "x"], "--output", "see preroot build --help"),
        (["build", "--output", "/etc/passwd"], "is a file", "see preroot build --help"),
        (["build", "a.toml", "b.toml"], "unexpected extra argument", "see preroot build --help"),
        (["plan", "/"], "/ is a directory", "name a TOML file"),
        (["plan", "."], ". is a directory", "name a TOML file"),
        (["plan", "no/such.toml"], "no/such.toml", ""),
        (["plan", "no-such"], "there is no recipe 'no-such'", "default"),
        (["plan", "--set", "compression.levle=3"], "levle", "level"),
        (["plan", "--set", "compression.level=99"], "99", ""),
        (["plan", "--format", "cpio"], "PART=FORMAT", "--format base=squashfs"),
        (["features", "xfss"], "there is no feature 'xfss'", "did you mean 'xfs'?"),
        (["completion", "tcsh"], "tcsh", "see preroot completion --help"),
        (["why", "a", "b", "c"], "at most RECIPE and one PATH", "see preroot why --help"),
        (["why", "--image", "x", "--feature", "xfs", "y"], "no effect", "see preroot why --help"),
        (["boot", "--timeout", "-1"], "-1", "see preroot boot --help"),
        (["store", "gcc"], "gcc", "see preroot store --help"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_one_line_with_the_way_out(
    arguments: list[str], message: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert [line.split(":")[0] for line in lines] in (["error", "hint"], ["error"])
    assert message.lower() in lines[0].lower()
    assert hint in (lines[1] if len(lines) > 1 else "")


def test_without_a_command_the_help_is_shown_and_the_status_says_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["store"]):
        assert run_command_line(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.startswith("Usage: preroot")


def test_list_in_short_and_long(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["ls", str(image)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "dev", "dev/null", "etc", "etc/\\x1b[2J", "lib", "usr", "usr/bin", "usr/bin/x",
    ]  # fmt: skip
    assert run_command_line(["ls", "-l", str(image)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "crw-rw-rw- 0 0 1, 3 dev/null" in lines
    assert "lrwxrwxrwx 0 0    0 lib -> usr/lib" in lines
    assert "-rwxr-xr-x 0 0 2500 usr/bin/x" in lines


def test_list_as_json(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["ls", "--json", str(image), str(image)]) == 0
    one, two = json.loads(capsys.readouterr().out)
    assert one == two and one["image"] == str(image)
    assert [segment["codec"] for segment in one["segments"]] == ["none"]
    assert {entry["path"]: entry["size"] for entry in one["entries"]}["usr/bin/x"] == "2500"


def test_a_name_that_is_no_utf8_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t"
    path.write_bytes(
        b"".join(archive_chunks(tree(file("a\udcff")).entries.values(), ContentReader().read))
    )  # fmt: skip
    for options in ([], ["--json"]):
        assert run_command_line(["ls", *options, str(path)]) == 0
        assert "a\\xff" in capsys.readouterr().out.replace("\\\\", "\\")


def test_diff(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    after = tmp_path / "after"
    content = tree(file("usr/bin/x", b"y" * 2500, 0o700), other("lib", "symlink", 0o777, target="lib64"),
                   other("dev/null", "node", 0o666, device=("c", 1, 5)), file("new", b"n" * 10))  # fmt: skip
    after.write_bytes(b"".join(archive_chunks(content.entries.values(), ContentReader().read)))
    assert run_command_line(["diff", str(image), str(image)]) == 0
    assert capsys.readouterr().out == "no differences\n"
    assert run_command_line(["diff", "--exit-code", str(image), str(after)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "~ dev/null  device c 1:3 → c 1:5",
        "- etc  directory",
        "- etc/\\x1b[2J  0.0 kB",
        "~ lib  target usr/lib → lib64",
        "+ new  0.0 kB",
        "~ usr/bin/x  mode 0755 → 0700, content",
        "1 added, 2 removed, 3 changed; 2.5 kB → 2.5 kB unpacked",
    ]
    assert run_command_line(["diff", "--json", str(image), str(after)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["added"]) == ["new"] and found["changed"]["usr/bin/x"]["what"] == ["mode", "content"]


def test_reading_what_is_no_image_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"not an image")
    assert run_command_line(["ls", str(path)]) == 1
    assert run_command_line(["ls", str(tmp_path / "none")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"error: {path}: the segment at offset 0 is no cpio archive")
    assert lines[2] == f"error: cannot read {tmp_path}/none: No such file or directory"


def test_features(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["features"]) == 0
    listed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "systemd, busybox" in listed["ext4"]
    for name in listed:  # all of them can be shown, whatever they use
        assert run_command_line(["features", name]) == 0
        assert capsys.readouterr().out.startswith(f"{name}: ")
    assert run_command_line(["features", "--json", "udev"]) == 0
    udev = json.loads(capsys.readouterr().out)
    assert udev["name"] == "udev" and "udevadm" in udev["take"]["binaries"]


def test_schema_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    import jsonschema  # type: ignore[import-untyped]

    assert run_command_line(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"name": "x", "compression": {"level": 3}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"compresion": {}}, schema)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["completion", shell]) == 0
    assert "_PREROOT_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("preroot b", ["build", "boot"]),
        ("preroot build --lay", ["--layout"]),
        ("preroot build --feature sq", ["squashfs"]),
        ("preroot build --feature=sq", ["squashfs"]),
        ("preroot features squ", ["squashfs"]),
        ("preroot plan --set compression.", ["compression.codec=", "compression.level=", "compression.threads="]),
        ("preroot plan --set access.policy=o", ["access.policy=open"]),
        ("preroot store v", ["verify"]),
        ("preroot nonsense --", []),
    ],
)
def test_completion(
    typed: str, wanted: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_PREROOT_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert run_command_line([]) == 0
    assert [word for word in capsys.readouterr().out.splitlines() if word in wanted] == wanted


def test_completion_of_commands_imports_none_of_them() -> None:
    code = "import sys; from preroot.cli import run_command_line as r; r([]); print('preroot.cli.build' in sys.modules)"
    env = {**os.environ, "_PREROOT_COMPLETE": "bash_complete", "COMP_WORDS": "preroot b", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["plain,build", "plain,boot", "False"]


def test_doctor_knows_every_tool_that_is_run() -> None:
    """A program that is run is one whose package and purpose are known."""
    import preroot

    run = set()
    for path in Path(preroot.__file__).parent.rglob("*.py"):
        text = path.read_text()
        run |= set(re.findall(r'\brun\(\s*\[(?:\*\w+, )?"([\w.-]+)"', text))
        run |= set(re.findall(r'\b(?:find_tool|need_tool|tool_version)\("([\w.-]+)"', text))
    assert {"depmod", "apt-config", "mke2fs", "lz4"} <= run
    assert run <= set(TOOLS)
    assert set(TOOLS) <= set(TOOL_PACKAGES)


def test_setup_installs_what_boots_each_architecture() -> None:
    """scripts/setup, the errors for a missing tool and doctor name the same packages."""
    setup = Path(__file__).parents[2].joinpath("scripts/setup").read_text()
    pairs = dict(re.findall(r"(?m)^ {8}([\w.-]+) ([\w.+-]+)(?:'.*)?$", setup))
    emulators = {f"qemu-system-{ARCHES[name].qemu}" for name in PLATFORMS}
    assert set(PLATFORMS) == set(ARCHES)
    assert emulators <= set(pairs) & set(TOOLS)
    both = set(pairs) & set(TOOL_PACKAGES)
    assert {name: pairs[name] for name in both} == {name: TOOL_PACKAGES[name] for name in both}


def test_doctor_fails_where_a_tool_for_builds_is_missing(tmp_path: Path) -> None:
    env = {**os.environ, "PREROOT_CACHE": str(tmp_path), "PATH": str(tmp_path)}
    done = subprocess.run([*SCRIPT, "doctor", "--json"], env=env, capture_output=True, text=True, check=False)
    found = {each["name"]: each for each in json.loads(done.stdout)}
    assert not found["apt-get"]["good"] and found["apt-get"]["hint"] == "apt-get install apt"
    assert done.returncode == 1 and done.stderr == ""
    (tmp_path / "file").touch()
    env = {**os.environ, "PREROOT_CACHE": str(tmp_path / "file")}
    done = subprocess.run([*SCRIPT, "doctor", "--quiet"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "cannot be written: set PREROOT_CACHE" in done.stdout
    assert "depmod" not in done.stdout


def test_store_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PREROOT_CACHE", str(tmp_path / "none"))
    assert run_command_line(["store", "verify"]) == 0
    assert run_command_line(["store", "gc", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("0 damaged entries\n") and json.loads(out.partition("\n")[2])["removed"] == 0


def test_gc_removes_what_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PREROOT_CACHE", str(tmp_path))
    for name in ("archives/old", "archives/new", "boot/runs/old/log", "boot/disks/new"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * 5000)
    for name in ("archives/old", "boot/runs/old"):
        os.utime(tmp_path / name, (0, 0))
    assert run_command_line(["store", "gc"]) == 0
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["archives/new", "boot/disks/new"]
    assert capsys.readouterr().out.startswith("2 entries removed, 2 kept")


def test_a_reader_that_goes_away_is_no_error() -> None:
    for arguments in (["schema"], ["--help"], ["features"]):
        read, write = os.pipe()
        os.close(read)
        env = {**os.environ, "PYTHONUNBUFFERED": ""}
        done = subprocess.run([*SCRIPT, *arguments], stdout=write, stderr=subprocess.PIPE, env=env, check=False)
        os.close(write)
        assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_output_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*SCRIPT, "schema"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr == b"error: cannot write standard output: No space left on device\n"


def test_colours_only_on_terminals_and_not_against_the_users_will(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert colours(err=False)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colours(err=False)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not colours(err=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert not colours(err=False)


def test_progress_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Lines()
    with reporter.step("unpacking", 3) as step:
        step.advance(3)
    reporter.note("something")
    reporter.warn("look")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("unpacking 3: ") and lines[1:] == ["note: something", "warning: look"]


_ON_TERMINAL = """
import time
from preroot.cli.report import Bars
bars = Bars()
with bars.step("outer") as _:
    time.sleep(0.5)
    with bars.step("inner", 10) as inner:
        for _ in range(10):
            time.sleep(0.05)
            inner.advance()
        bars.warn("look [bold]here[/bold]")
with bars.step("quick"):
    pass
print("end")
"""


def test_bars_on_a_terminal() -> None:
    """Nested steps share one display, warnings stand above it as they are, and nothing is left of quick steps."""
    import pty

    main, side = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen([sys.executable, "-c", _ON_TERMINAL], stdin=side, stdout=side, stderr=side, env=env) as shown:
        os.close(side)
        said = b""
        try:
            while piece := os.read(main, 65536):
                said += piece
        except OSError:  # EIO: the other side is closed
            pass
    os.close(main)
    text = said.decode()
    assert shown.returncode == 0, text
    assert "outer" in text and "inner" in text and "look [bold]here[/bold]" in text
    assert "quick" not in text
    assert text.rstrip().endswith("end")


def test_table_is_aligned() -> None:
    assert table([("a", "1"), ("bbb", "")], ("x", "y")) == "x    y\na    1\nbbb"
    assert table([]) == ""


@given(st.text(st.characters(exclude_categories=())))
def test_printable_text_steers_no_terminal(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert shown.encode("utf-8").decode() == shown
    if text.isprintable():
        assert shown == text
