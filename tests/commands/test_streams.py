"""Standard streams that are closed, full, or lack letters: processes, for only they have them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from d2l.commands import streams
from d2l.errors import D2LError

#: What a command prints, without what the commands import.
_PRINT = """
from d2l.commands import main, streams
def call(_commands, _name):
    streams.write({text!r})
    streams.flush()
    raise SystemExit(0)
main._call = call
main.main()
"""
_JSON = """
from d2l.commands import streams
streams.prepare()
streams.write(streams.spell_json({"a": "caf\\u00e9 \\u2026 \\U0001f600 \\udcff"}))
streams.flush()
"""
PLAIN = "norm … ─── café → 日\n"


def run(code: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run Python code as a process, its streams changed by the shell."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {shell}', sys.executable, code],
        capture_output=True,
        check=False,
        timeout=120,
        env=os.environ | environment,
    )


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", PLAIN.encode()),
        ("cp1252", "norm … --- café -> \\u65e5\n".encode("cp1252")),
        ("ascii", b"norm ... --- caf\\xe9 -> \\u65e5\n"),
    ],
)
def test_every_encoding_gets_the_result(encoding: str, expected: bytes) -> None:
    done = run(_PRINT.format(text=PLAIN), PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii", "utf-16-le"])
def test_json_is_json_in_every_encoding(encoding: str) -> None:
    done = run(_JSON, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode(encoding))["a"] == "café … \U0001f600 \udcff"


@pytest.mark.parametrize(
    ("shell", "reason"),
    [
        (">&-", "standard output is closed"),
        ("> /dev/full", "standard output cannot be written (No space left on device)"),
    ],
)
def test_output_that_cannot_be_written_is_one_line(shell: str, reason: str) -> None:
    done = run(_PRINT.format(text="result\n"), shell)
    hint = "hint: what was made is there; only what was to be printed is lost\n"
    assert (done.returncode, done.stderr.decode()) == (1, f"error: {reason}\n{hint}")


def test_a_reader_that_has_gone_ends_the_command_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-c", _PRINT.format(text="line\n")],
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
            timeout=120,
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_no_file_takes_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "from d2l.commands import streams; streams.prepare(); "
        f"raise SystemExit(open({str(tmp_path / 'f')!r}, 'w').fileno())"
    )
    assert run(code, "<&- >&- 2>&-").returncode > 2


def test_errors_have_nowhere_to_go_and_are_none() -> None:
    assert run(_PRINT.format(text="result\n"), "2>&-").stdout == b"result\n"


def test_a_closed_stdout_is_an_error_for_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(D2LError, match="standard output is closed"):
        streams.write("x")
    streams.flush()


@pytest.mark.parametrize("words", ["cache ls", "--help"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_tables_and_help_that_cannot_be_written_are_one_line(words: str, unbuffered: str) -> None:
    start = "from d2l.commands import main; main.main()"
    code = f"import sys; sys.argv = ['d2l', *{words.split()}]; {start}"
    done = run(code, "> /dev/full", PYTHONUNBUFFERED=unbuffered)
    reason = "standard output cannot be written (No space left on device)"
    hint = "hint: what was made is there; only what was to be printed is lost\n"
    assert (done.returncode, done.stderr.decode()) == (1, f"error: {reason}\n{hint}")
