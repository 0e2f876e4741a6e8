"""A hub of few repositories on this machine's loopback, for tests of what the client makes of it.

It stands in for the network only: the hub's own client library runs unchanged, so which error
becomes which message, and which files are asked for, is that library's doing and ours.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants, file_download, utils

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "org/repo"


def _name_blob(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


class Hub(ThreadingHTTPServer):
    """What it answers can be changed between requests; `asked` are the files it was asked for."""

    daemon_threads = True

    @property
    def repos(self) -> dict[str, dict[str, bytes]]:
        """Files of all repositories."""
        return self.others | {REPO: self.files}

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.files = dict(files)
        self.others: dict[str, dict[str, bytes]] = {}  # files of other repositories, by name
        self.refused: dict[str, int] = {}  # gated repositories: listed, and their files refused
        self.metadata_error: tuple[int, str] | None = None  # status and the hub's code for it
        self.file_error: tuple[int, str] | None = None
        self.broken = ""  # "drop": closes the connection; "portal": answers with a web page
        self.asked: set[str] = set()
        self.n_ranged = 0  # bytes of files that were sent in part
        self.pushed: list[dict[str, Any]] = []  # what was posted, line by line
        self.push_error: int | None = None  # status of an answer to what is posted
        self.card_error = ""  # what is wrong with a posted card

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that go away."""


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        parts = path.removeprefix("/api/models").split("/")
        self.repo = "/".join(parts[1:3])
        if self.server.broken == "drop":
            self.close_connection = True
        elif self.server.broken == "portal":
            self._send(b"<html>Welcome to the hotel</html>")
        elif path.startswith("/api/models/") and self.repo in self.server.repos:
            self._send_metadata(parts)
        elif parts[3:4] == ["resolve"] and self.repo in self.server.repos:
            self._send_file("/".join(parts[5:]))
        else:
            self._send(b"", 404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Take a new repository and one commit to it, as the hub's API has them."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, url = urlsplit(self.path).path, f"http://127.0.0.1:{self.server.server_port}"
        if self.server.push_error is not None:
            self._send(b"{}", self.server.push_error)
        elif path == "/api/repos/create":
            self.server.pushed.append({"create": json.loads(body)})
            self._send(json.dumps({"url": f"{url}/{REPO}", "id": "1", "name": REPO}).encode())
        elif path == "/api/validate-yaml":
            errors = [{"message": self.server.card_error}] if self.server.card_error else []
            answer = json.dumps({"errors": errors, "warnings": []}).encode()
            self._send(answer, 400 if errors else 200)
        elif "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            self._send(json.dumps({"files": files}).encode())
        elif "/commit/" in path:
            self.server.pushed += [json.loads(line) for line in body.splitlines()]
            done = {"commitUrl": f"{url}/{REPO}/commit/{COMMIT}", "commitOid": COMMIT}
            self._send(json.dumps(done).encode())
        else:
            self._send(b"", 404)

    def _send_metadata(self, parts: list[str]) -> None:
        files = self.server.repos[self.repo]
        if self.server.metadata_error is not None:
            self._send(b"{}", *self.server.metadata_error)
        elif parts[3:4] == ["tree"]:
            below = "".join(f"{part}/" for part in parts[5:])
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": _name_blob(data)}
                for name, data in files.items()
                if name.startswith(below)
            ]
            self._send(json.dumps(tree).encode())
        else:
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            info = {"id": self.repo, "sha": COMMIT, "siblings": siblings}
            self._send(json.dumps(info).encode())

    def _send_file(self, name: str) -> None:
        files = self.server.repos[self.repo]
        if self.command == "GET" and "Range" not in self.headers:
            self.server.asked.add(name if self.repo == REPO else f"{self.repo}:{name}")
        if self.repo in self.server.refused:
            self._send(b"", self.server.refused[self.repo], "GatedRepo")
        elif self.server.file_error is not None:
            self._send(b"", *self.server.file_error)
        elif name in files and "Range" in self.headers:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            self.server.n_ranged += int(last) + 1 - int(first)
            self._send(files[name][int(first) : int(last) + 1], 206)
        elif name in files:
            self._send(files[name])
        else:
            self._send(b"", 404, "EntryNotFound")

    def _send(self, body: bytes, status: int = 200, code: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{_name_blob(body)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if code == "Invalid":  # a token that has expired
            self.send_header("X-Error-Message", "Invalid credentials in Authorization header")
        elif code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Keep the log of requests off stderr."""


def close_sessions() -> None:
    """Let the client library begin again: in its oldest allowed version, too."""
    (getattr(huggingface_hub, "close_session", None) or utils.reset_sessions)()


@contextmanager
def serve_hub(
    files: Mapping[str, bytes], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    """Run a hub and make the client library ask it, with a cache of its own."""
    hub = Hub(files)
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    copied = "HUGGINGFACE_CO_URL_TEMPLATE"  # in the oldest allowed version
    monkeypatch.setattr(file_download, copied, template, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    close_sessions()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        close_sessions()
        hub.shutdown()
        thread.join()
        hub.server_close()
