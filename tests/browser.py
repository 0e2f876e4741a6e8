"""A headless Chromium, driven through chromedriver by the WebDriver protocol's own JSON."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-dev-shm-usage",
    "--window-size=1200,900",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's own key
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def post(url: str, values: dict[str, Any] | None = None, method: str = "POST") -> Any:
    """The value of a JSON answer."""
    body = None if method != "POST" else json.dumps(values or {}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method=method)
    with _NO_PROXY.open(request, timeout=60) as reply:
        return json.load(reply)["value"]


class Browser:
    """One window."""

    def __init__(self, session: str) -> None:
        self._session = session

    def open(self, url: str) -> None:
        post(f"{self._session}/url", {"url": url})

    def run(self, script: str) -> Any:
        """What a script in the page returns."""
        return post(f"{self._session}/execute/sync", {"script": script, "args": []})

    def text(self, selector: str) -> str:
        """What a person sees of an element; "" where it is hidden."""
        return str(post(f"{self._element(selector)}/text", method="GET"))

    def type(self, selector: str, text: str) -> None:
        post(f"{self._element(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        post(f"{self._element(selector)}/click")

    def log(self) -> list[str]:
        """What the browser complained of since it was last asked."""
        rows = post(f"{self._session}/se/log", {"type": "browser"})
        return [row["message"] for row in rows]

    def wait(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """What the condition gives, once that is something."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, "the page never came to it"
            time.sleep(0.1)
        return found

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(post(f"{self._session}/screenshot", method="GET")))

    def _element(self, selector: str) -> str:
        found = post(f"{self._session}/element", {"using": "css selector", "value": selector})
        return f"{self._session}/element/{found[_ELEMENT]}"


@contextlib.contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """A browser with its own profile; a skip where none is installed."""
    driver = shutil.which("chromedriver")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or binary is None:
        pytest.skip("no chromedriver with a Chromium here, so the page is not looked at")
    process = subprocess.Popen(
        [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "successfully on port" in line)
        address = f"http://127.0.0.1:{line.rpartition('on port ')[2].strip().rstrip('.')}"
        options = {"binary": binary, "args": [*_ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = f"{address}/session/{post(f'{address}/session', wanted)['sessionId']}"
        try:
            yield Browser(session)
        finally:
            post(session, method="DELETE")
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()
