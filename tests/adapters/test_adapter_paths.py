"""A name without a path leads to an adapter in the current folder or in the user's own."""

from pathlib import Path

import pytest

from d2l.adapters.adapter_paths import find_adapter
from d2l.errors import AdapterError
from tests.adapters.test_info import write_adapter
from tests.command import Command

HINT = "make one with `d2l compile DOCUMENT`"


@pytest.fixture(name="home", autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of D2L_ADAPTERS; the current folder is another."""
    for name in ("here", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("D2L_ADAPTERS", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_name_is_looked_for_here_and_then_in_the_own_folder(home: Path) -> None:
    places = [Path("book"), Path("book.lora"), home / "book", home / "book.lora"]
    for place in reversed(places):
        write_adapter(place)
        assert find_adapter("book") == find_adapter(Path("book")) == place
    assert find_adapter("book.lora") == Path("book.lora")


def test_a_folder_of_documents_does_not_hide_the_adapter(home: Path) -> None:
    Path("book").mkdir()
    assert find_adapter("book") == Path("book")  # whoever reads it says what is missing
    write_adapter(home / "book.lora")
    assert find_adapter("book") == home / "book.lora"


def test_a_path_leads_to_its_own_place_alone(home: Path) -> None:
    write_adapter(home / "book.lora")
    Path("docs").mkdir()
    write_adapter(Path("docs/book.lora"))
    assert find_adapter(Path("docs/book")) == Path("docs/book.lora")
    with pytest.raises(AdapterError) as caught:
        find_adapter(Path("docs/boks"))
    assert caught.value.describe() == (
        f"{Path('docs/boks')}: no such adapter folder (did you mean {Path('docs/book.lora')}?)"
    )
    assert find_adapter(Path("other/book.lora")) == Path("other/book.lora")


@pytest.mark.parametrize("name", ["~no-such-user", "a" * 5000, "a\0b", ".", ".."])
def test_an_odd_name_is_an_ordinary_error_or_a_folder(name: str) -> None:
    if name.startswith("."):
        assert find_adapter(name) == Path(name)
        return
    with pytest.raises(AdapterError, match="no such adapter"):
        find_adapter(name)


def test_an_unknown_name_is_told_with_the_places_and_a_near_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> tuple[str, str | None]:
        with pytest.raises(AdapterError) as caught:
            find_adapter(name)
        return caught.value.message, caught.value.hint

    where = f"no such adapter in this folder or in {home} (D2L_ADAPTERS)"
    assert refuse("bok") == (f"bok: {where}", HINT)
    write_adapter(home / "book.lora")
    assert refuse("bok") == (f"bok: {where}", f"did you mean {home / 'book.lora'}?")
    write_adapter(Path("book.lora"))
    assert refuse("bok.lora") == (f"bok.lora: {where}", "did you mean book.lora?")
    path = home / "bok.lora"
    assert refuse(str(path)) == (
        f"{path}: no such adapter folder",
        f"did you mean {home / 'book.lora'}?",
    )
    monkeypatch.setenv("D2L_ADAPTERS", "")
    assert refuse("bok")[0] == "bok: no such adapter in this folder"


@pytest.mark.parametrize(
    "words",
    [
        *(("ask", "bok", "?"), ("check", "bok"), ("inspect", "bok")),
        *(("merge", "book", "bok", "-o", "x"), ("edit", "bok", "-o", "x"), ("serve", "bok")),
        *(("probe", "bok", "--qa", "x"), ("export", "bok", "--to", "gguf")),
    ],
    ids=lambda words: words[0],
)
def test_every_command_looks_for_names(words: tuple[str, ...], command: Command) -> None:
    write_adapter(Path("book.lora"))
    done = command(*words)
    assert (done.code, done.out) == (1, "")
    assert done.err.endswith("hint: did you mean book.lora?\n")


def test_a_folder_of_a_user_who_does_not_exist_is_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2L_ADAPTERS", "~no-such-user/x")
    for words in (("ls",), ("ask", "book", "Where?")):
        error, *_ = command(*words).err.splitlines()
        assert error.startswith("error: ")
        assert "~no-such-user" in error
