"""`d2l serve` as its users meet it: in a process of its own, and what it refuses before."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from d2l.commands.serve import read_document
from d2l.errors import DocumentError
from tests import tiny
from tests.command import Command
from tests.compiled import compile_tiny
from tests.processes import make_environment
from tests.serving import BASE, N_TOKENS, Shelf

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
def test_a_process_serves_until_it_is_told_to_stop(shelf: Shelf) -> None:
    words = ("serve", shelf.folder, "--port", "0", "--base", shelf.base, "--offline")
    process = subprocess.Popen(
        [sys.executable, "-m", "d2l", *map(str, words), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=make_environment(D2L_SERVE_TOKEN="secret"),
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert process.stdout.readline() == f"base        {BASE}\n"
        assert process.stdout.readline() == "adapters    copper, harbor, note, pump\n"
        with openai.OpenAI(base_url=f"{address}/v1", api_key="secret", max_retries=0) as client:
            reply = client.chat.completions.create(
                model="pump",
                messages=[{"role": "user", "content": "Where is the pump?"}],
                max_tokens=N_TOKENS,
            )
        expected = shelf.load("pump").ask("Where is the pump?")
        assert reply.choices[0].message.content == expected
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    request, stop = err.splitlines()
    assert request.startswith("POST  /v1/chat/completions  200  pump  ")
    assert stop == "stopped; no request is answered any more"
    assert process.returncode == 128 + signal.SIGTERM


def test_what_cannot_be_served_is_said_before_anything_is_loaded(
    command: Command, shelf: Shelf, tmp_path: Path
) -> None:
    done = command("serve", tmp_path, "--port", 0)
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"error: {tmp_path}: no adapter here that says its base\n"
        "hint: make one with `d2l compile DOCUMENT -o FOLDER/NAME.lora`\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command("serve", shelf.folder, "--port", port)
    assert done.code == 1
    assert done.err.startswith(f"error: 127.0.0.1:{port}: cannot be listened at (")
    assert "--port 0" in done.err


def test_a_server_for_other_machines_needs_a_token(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("D2L_SERVE_TOKEN", raising=False)
    done = command("serve", tmp_path, "--port", 0, "--host", "0.0.0.0")
    assert (done.code, done.err) == (
        1,
        "error: 0.0.0.0: other machines may ask there, and no token is set\n"
        "hint: set a token in D2L_SERVE_TOKEN\n",
    )
    done = command("serve", tmp_path, "--port", 0, "--host", "0.0.0.0", "--token", "x")
    assert "no adapter here" in done.err


def test_without_its_libraries_the_way_to_get_them_is_said(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = command("serve", tmp_path)
    assert done.err == ("error: d2l serve needs uvicorn\nhint: pip install 'd2l[serve]'\n")


def test_help_says_what_it_is_for(command: Command) -> None:
    done = command("serve", "--help")
    assert "The server is for trials" in done.out
    assert "`d2l check ADAPTER` prints its command line" in " ".join(done.out.split())


def test_the_documents_text_is_read_again_while_it_is_what_it_was(
    command: Command, tmp_path: Path
) -> None:
    done = compile_tiny(tmp_path / "tiny", "llama")
    document = tmp_path / "doc.txt"
    document.write_text(tiny.DOCUMENT)
    words = ("--checkpoint", done.checkpoint, "--base", done.base, "--device", "cpu", "--offline")
    assert command("compile", document, "-o", tmp_path / "doc.lora", *words).code == 0
    assert read_document(tmp_path / "doc.lora") == tiny.DOCUMENT
    document.write_text("Something else.")
    with pytest.raises(DocumentError, match="has changed since"):
        read_document(tmp_path / "doc.lora")
