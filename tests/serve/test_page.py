"""The page, in a real browser: choose, ask, compare, and what it says when something is wrong."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from d2l.serve.app import PAGE
from tests.browser import Browser, open_browser
from tests.serving import BASE, Running, Shelf, running

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
QUESTION = "Where is the pump?"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def choose(browser: Browser, server: Running, name: str) -> None:
    """Open the page anew and choose an adapter, whose document is then looked for."""
    browser.open(server.address)
    browser.wait(lambda: browser.run("return document.getElementById('adapter').value"))
    browser.run(
        "const select = document.getElementById('adapter');"
        f"select.value = '{name}'; select.dispatchEvent(new Event('change'));"
    )
    browser.wait(lambda: "…" not in browser.text("#document-state"))


def ask(browser: Browser) -> dict[str, str]:
    """Ask the question; the three answers once all is said."""
    browser.type("#question", QUESTION)
    browser.click("#ask")
    browser.wait(lambda: "answer" in browser.text("#facts-adapter").partition(",")[2])
    browser.wait(lambda: not browser.run("return document.getElementById('ask').disabled"))
    return {
        arm: browser.run(f"return document.getElementById('answer-{arm}').textContent")
        for arm in ("adapter", "base", "document")
    }


def test_three_answers_stand_side_by_side_as_ask_gives_them(
    browser: Browser, server: Running, shelf: Shelf
) -> None:
    choose(browser, server, "harbor")
    assert browser.text("#base") == f"on {BASE}"
    assert "the original file" in browser.text("#document-state")
    adapted = shelf.load("harbor")
    adapted.options = adapted.options.__class__(str(shelf.base), "cpu", 64, offline=True)
    from tests.serving import ADAPTERS

    told, _ = adapted.ask_with_document(QUESTION, ADAPTERS["harbor"][1])
    assert ask(browser) == {
        "adapter": adapted.ask(QUESTION),
        "base": adapted.ask_alone(QUESTION),
        "document": told,
    }
    assert "tokens in the prompt" in browser.text("#facts-document")
    tops = [
        browser.run(f"return document.getElementById('answer-{a}').getBoundingClientRect().top")
        for a in ("adapter", "base", "document")
    ]
    assert len(set(tops)) == 1


def test_the_page_keeps_its_questions_and_shows_the_last_as_curl(
    browser: Browser, server: Running
) -> None:
    choose(browser, server, "harbor")
    said = ask(browser)["adapter"]
    browser.run("for (const d of document.querySelectorAll('#later details')) d.open = true")
    assert browser.text("#history button") == QUESTION
    kept = browser.run("return document.querySelector('#history .soft').textContent")
    assert kept == f"harbor: {said}"
    done = subprocess.run(
        ["bash", "-c", browser.text("#curl")], capture_output=True, check=True, timeout=60
    )
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == said


def test_a_document_that_is_looked_for_is_waited_for(browser: Browser, server: Running) -> None:
    """Asked at once, before it is known whether the document is there."""
    browser.open(server.address)
    browser.wait(lambda: browser.run("return document.getElementById('adapter').value"))
    browser.run("document.getElementById('question').value = 'Where?'")
    browser.run("lookForDocument(); document.getElementById('form').requestSubmit()")
    assert "no document" not in browser.text("#facts-document")
    browser.wait(lambda: "tokens in the prompt" in browser.text("#facts-document"))


def test_pasted_text_wins_over_the_original(
    browser: Browser, server: Running, shelf: Shelf
) -> None:
    choose(browser, server, "pump")
    browser.click("summary")
    browser.type("#document", "The pump is in the meadow.")
    adapted = shelf.load("pump")
    adapted.options = adapted.options.__class__(str(shelf.base), "cpu", 64, offline=True)
    told, _ = adapted.ask_with_document(QUESTION, "The pump is in the meadow.")
    assert ask(browser)["document"] == told


def test_the_page_loads_nothing_from_elsewhere(browser: Browser, server: Running) -> None:
    text = PAGE.read_text("utf-8")
    assert "http://" not in text
    assert "https://" not in text
    browser.log()
    browser.open(server.address)
    browser.wait(lambda: "original" in browser.text("#document-state"))
    assert browser.log() == []
    names = browser.run("return performance.getEntriesByType('resource').map((r) => r.name)")
    assert all(name.startswith(server.address) for name in names)


def test_a_token_is_asked_for_where_one_is_needed(
    browser: Browser, shelf: Shelf, tmp_path: Path
) -> None:
    with running(shelf, token="secret") as server:
        browser.open(server.address)
        browser.wait(lambda: "a token is needed" in browser.text("#failure"))
        browser.type("#token", "secret\n")
        browser.run("document.getElementById('token').dispatchEvent(new Event('change'))")
        browser.wait(lambda: browser.text("#base") == f"on {BASE}")
        assert browser.text("#failure") == ""
    del tmp_path
