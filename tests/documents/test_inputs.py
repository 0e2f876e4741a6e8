import os
from pathlib import Path

import pytest

from d2l.documents.inputs import expand_inputs, printable
from d2l.errors import DocumentError


def fill(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("text")


def test_missing_path_is_named() -> None:
    with pytest.raises(DocumentError) as caught:
        expand_inputs(["no/such.pdf"])
    assert caught.value.message == "no/such.pdf: no such file or folder"


def test_path_that_leads_nowhere_is_listed_where_bad_ones_are_skipped(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "empty").mkdir()
    found = expand_inputs(
        ["no/such.pdf", str(tmp_path / "a.txt"), str(tmp_path / "empty")], skip_bad=True
    )
    assert [source.path for source in found.sources] == [tmp_path / "a.txt"]
    assert [(name, error.message) for name, error in found.bad] == [
        ("no/such.pdf", "no/such.pdf: no such file or folder"),
        (str(tmp_path / "empty"), f"{tmp_path / 'empty'}: no readable documents in this folder"),
    ]


def test_standard_input_is_named_once_at_most() -> None:
    with pytest.raises(DocumentError, match=r"^-: standard input is named twice$"):
        expand_inputs(["-", "-"])
    (source,) = expand_inputs(["-"]).sources
    assert (source.name, source.path) == ("-", None)


def test_folder_without_documents_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a.bin", ".hidden.txt")
    with pytest.raises(DocumentError) as caught:
        expand_inputs([str(tmp_path)])
    assert caught.value.message == f"{tmp_path}: no readable documents in this folder"
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("it should hold files named .pdf, .docx, .epub, .html")


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000])
def test_impossible_names_do_not_crash(name: str) -> None:
    with pytest.raises(DocumentError):
        expand_inputs([name])


def test_folder_is_read_recursively_sorted_without_hidden_files(tmp_path: Path) -> None:
    fill(tmp_path, "b.md", "a/z.TXT", "a/b/c.pdf", "a.html", ".git/x.txt", ".secret.md", "pic.png")
    inputs = expand_inputs([str(tmp_path)])
    names = [str(source.path.relative_to(tmp_path)) for source in inputs.sources if source.path]
    assert names == ["a/b/c.pdf", "a/z.TXT", "a.html", "b.md"]
    assert inputs.ignored == (str(tmp_path / "pic.png"),)


def test_loop_of_links_ends(tmp_path: Path) -> None:
    fill(tmp_path, "a/a.txt")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    assert [source.name for source in expand_inputs([str(tmp_path)]).sources] == [
        str(tmp_path / "a" / "a.txt")
    ]


def test_file_named_twice_is_read_once_where_it_comes_first(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt", "b.txt")
    inputs = expand_inputs([str(tmp_path / "b.txt"), str(tmp_path), "-"])
    assert [Path(source.name).name for source in inputs.sources] == ["b.txt", "a.txt", "-"]


def test_file_named_itself_is_taken_whatever_its_suffix(tmp_path: Path) -> None:
    fill(tmp_path, "README", "notes.xyz")
    inputs = expand_inputs([str(tmp_path / "README"), str(tmp_path / "notes.xyz")])
    assert len(inputs.sources) == 2


def test_names_that_are_not_text_are_made_printable(tmp_path: Path) -> None:
    name = os.fsdecode(bytes(tmp_path) + b"/a\xff\n.txt")
    Path(name).write_text("text")
    (source,) = expand_inputs([str(tmp_path)]).sources
    assert source.name == f"{tmp_path}/a\ufffd\ufffd.txt"
    assert printable("été.txt") == "été.txt"


@pytest.mark.parametrize("given", ["", " "])
def test_an_empty_name_is_not_the_working_folder(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a.txt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DocumentError) as caught:
        expand_inputs([given])
    assert caught.value.message == "an input has an empty name"


def test_what_d2l_wrote_into_the_folder_is_no_document(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt", "sub/b.md", "out.lora/README.md", "out.lora/d2l.json")
    fill(tmp_path, "out.lora/deeper/c.md")
    found = expand_inputs([str(tmp_path)])
    assert [source.path for source in found.sources] == [
        tmp_path / "a.txt",
        tmp_path / "sub" / "b.md",
    ]
    assert found.ignored == ()
    with pytest.raises(DocumentError) as caught:
        expand_inputs([str(tmp_path / "out.lora")])
    assert caught.value.message == (
        f"{tmp_path / 'out.lora'}: was written by d2l, it is no folder of documents"
    )


def test_a_link_to_where_one_may_not_look_is_left_to_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """root may look everywhere: a refused stat stands in for a folder without permission."""
    fill(tmp_path, "a.txt")
    (tmp_path / "b.txt").symlink_to("/nowhere-to-look/b.txt")
    (tmp_path / "c.txt").symlink_to("c.txt")
    stat = Path.stat

    def refuse(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.name == "b.txt" and follow_symlinks:
            raise PermissionError(13, "Permission denied")
        return stat(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", refuse)
    found = expand_inputs([str(tmp_path)], follow_links=True)
    assert [source.path for source in found.sources] == [tmp_path / "a.txt", tmp_path / "b.txt"]


def test_what_is_passed_on_of_a_name_has_no_folder_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "secret/a.txt", "secret/sub/b.md")
    given = str(tmp_path / "secret")
    shared = [source.shared for source in expand_inputs([given]).sources]
    assert shared == ["a.txt", "sub/b.md"]
    monkeypatch.chdir(tmp_path)
    sources = expand_inputs(["secret/sub/b.md", "./secret/", "-"]).sources
    assert [source.shared for source in sources] == ["b.md", "a.txt", ""]
    monkeypatch.chdir(tmp_path / "secret")
    assert [source.shared for source in expand_inputs(["."]).sources] == ["a.txt", "sub/b.md"]


def test_an_address_is_to_be_downloaded_first() -> None:
    with pytest.raises(DocumentError) as caught:
        expand_inputs(["https://example.com/manual.pdf"])
    assert caught.value.message == "https://example.com/manual.pdf: d2l opens no addresses"
    assert caught.value.hint == "download it first (curl -O), and name the file"


def test_a_text_in_place_of_a_path_is_told_its_way() -> None:
    with pytest.raises(DocumentError) as caught:
        expand_inputs(["The Harn bridge opened in 1931"])
    assert "Document.from_text" in str(caught.value.hint)


def test_a_link_that_leaves_its_folder_is_refused_unless_it_is_asked_for(tmp_path: Path) -> None:
    fill(tmp_path, "docs/a.txt", "docs/sub/b.txt", "secret.txt")
    docs = tmp_path / "docs"
    (docs / "inside.txt").symlink_to(docs / "sub" / "b.txt")
    (docs / "out.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(
        DocumentError, match=r"out\.txt: is a link that leaves the folder$"
    ) as caught:
        expand_inputs([str(docs)])
    assert "--follow-links" in str(caught.value.hint)
    found = expand_inputs([str(docs)], skip_bad=True)
    assert [source.path for source in found.sources] == [docs / "a.txt", docs / "inside.txt"]
    assert [name for name, _ in found.bad] == [str(docs / "out.txt")]
    for inputs in ([str(docs)], [str(docs / "out.txt")]):
        sources = expand_inputs(inputs, follow_links=len(inputs[0]) == len(str(docs))).sources
        assert docs / "out.txt" in [source.path for source in sources]


def test_pipes_devices_and_broken_links_of_a_folder_are_named(tmp_path: Path) -> None:
    fill(tmp_path, "a.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zero.txt").symlink_to("/dev/zero")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    found = expand_inputs([str(tmp_path)])
    assert [source.path for source in found.sources] == [tmp_path / "a.txt"]
    names = ("gone.txt", "pipe.txt", "zero.txt")
    assert found.ignored == tuple(str(tmp_path / name) for name in names)
