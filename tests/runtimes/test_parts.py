"""`d2l export --to parts`: an adapter for each part, and the index that questions choose by."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import d2l
from d2l.adapters.exported_parts import read_index
from d2l.adapters.info import read_info
from d2l.adapters.parts import read_parts
from d2l.adapters.peft_folder import read_adapter
from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.change.edit import prepare
from d2l.change.edit import run as edit
from d2l.change.parents import ChangeOptions
from d2l.errors import AdapterError
from d2l.parts.kept import PartOptions
from tests import tiny
from tests.compiled import Compiled, compile_tiny, make_document

pytestmark = pytest.mark.usefixtures("one_thread")
QUESTIONS = ("How often is the filter rinsed?", "How many steps has the tower?")


@pytest.fixture(scope="module", params=["seats", "llama"])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    root = tmp_path_factory.mktemp(request.param)
    if request.param == "seats":
        tiny.write_seats(root / "checkpoint", repeats=2, chunk_tokens=64)
    more = {"tokens_per_seat": 1} if request.param == "seats" else {}
    return compile_tiny(root, request.param, make_document(), parts=True, **more)


@pytest.fixture(scope="module")
def exported(compiled: Compiled) -> Path:
    out = compiled.root / "tiny-parts"
    write(compiled, out)
    return out


def write(compiled: Compiled, out: Path, to: str = "parts", *, force: bool = False) -> None:
    d2l.export(
        compiled.adapter,
        out,
        to=to,
        base=str(compiled.base),
        checkpoint=str(compiled.checkpoint),
        device="cpu",
        force=force,
        local_files_only=True,
    )


def asking(compiled: Compiled) -> AskOptions:
    return AskOptions(str(compiled.base), "cpu", 12, offline=True)


def test_the_index_says_where_each_part_stands_and_what_it_says(
    compiled: Compiled, exported: Path
) -> None:
    index, own = read_index(exported), read_index(compiled.adapter)
    assert index.name == "tiny"
    assert [part.name for part in index.parts] == [
        f"tiny-part-{n:04}" for n in range(len(index.parts))
    ]
    assert own == index.model_copy(update={"name": "tiny"})  # d2l serve takes either
    assert "96 steps" in index.parts[-1].text
    assert index.parts[-1].source.endswith("2")
    assert sorted(path.name for path in exported.iterdir() if path.is_dir()) == [
        part.path for part in index.parts
    ]


def test_a_memory_stands_in_the_opening_of_its_part(compiled: Compiled, exported: Path) -> None:
    parts = read_parts(read_info(compiled.adapter))
    assert parts is not None
    if not parts.list_memories():
        return
    for n, part in enumerate(read_index(exported).parts):
        alone = AdaptedModel.load(exported / part.path, asking(compiled))
        with torch.inference_mode():
            read = alone.model(torch.tensor([alone.opening]), use_cache=True)
        memory = parts.read(n)
        for values, layer in zip(memory.values, read.past_key_values.layers[1:], strict=True):
            found = layer.values[0, :, 1 : 1 + memory.n_seats].transpose(0, 1).flatten(1)
            torch.testing.assert_close(found, values, rtol=1e-3, atol=1e-3)


def test_ranks_answer_as_the_part_does(compiled: Compiled, exported: Path) -> None:
    whole = AdaptedModel.load(compiled.adapter, asking(compiled))
    if whole.opening:
        return  # what seats add to other tokens is large in a random network
    for n, part in enumerate(read_index(exported).parts):
        alone = AdaptedModel.load(exported / part.path, asking(compiled))
        for question in QUESTIONS:
            turns = [{"role": "user", "content": question}]
            options = replace(whole.options, parts=PartOptions(1, f"#{n}"))
            assert alone.answer(turns).text == whole.answer(turns, options=options).text


def test_ranks_of_a_part_are_those_that_edit_keeps(compiled: Compiled, exported: Path) -> None:
    if read_info(compiled.adapter).provenance.prompt.opening:  # type: ignore[union-attr]
        pytest.skip("seats have memories of their own")
    for n, part in enumerate(read_index(exported).parts):
        plan = prepare(compiled.adapter, keep=[f"#{n}"])
        expected = edit(plan, ChangeOptions(base=str(compiled.base), offline=True)).weights
        found = read_adapter(exported / part.path)
        for name, factors in expected.factors.items():
            delta = found.scale * found.factors[name].b @ found.factors[name].a
            assert torch.equal(delta, expected.scale * factors.b @ factors.a)


def test_all_parts_have_one_opening_and_one_tokenizer_on_disk(
    compiled: Compiled, exported: Path
) -> None:
    folders = [exported / part.path for part in read_index(exported).parts]
    openings = {str(read_info(folder).provenance.prompt.opening) for folder in folders}  # type: ignore[union-attr]
    assert len(openings) == 1
    if not (compiled.adapter / "chat_template.jinja").is_file():
        return
    template = (exported / "chat_template.jinja").read_bytes()
    assert {(folder / "chat_template.jinja").read_bytes() for folder in folders} == {template}
    inodes = {(folder / "tokenizer.json").stat().st_ino for folder in folders}
    assert len(inodes) == 1


def test_gguf_files_stand_in_the_order_of_the_index(compiled: Compiled, tmp_path: Path) -> None:
    write(compiled, tmp_path / "out", "parts-gguf")
    index = read_index(tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out").glob("*.gguf"))
    assert files == [part.path for part in index.parts]
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "--lora-init-without-apply" in readme
    assert "d2l serve . --upstream" in readme


def test_force_replaces_what_d2l_wrote_and_nothing_else(
    compiled: Compiled, exported: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(exported, tmp_path / "out")
    with pytest.raises(AdapterError, match="exists already"):
        write(compiled, out)
    write(compiled, out, force=True)
    own = out / read_index(out).parts[0].path / "notes.txt"
    own.write_text("mine", "utf-8")
    with pytest.raises(AdapterError, match="holds files that d2l did not write"):
        write(compiled, out, force=True)
    assert own.is_file()


def test_an_export_that_fails_leaves_nothing(
    compiled: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("d2l.runtimes.parts.write_index", fail)
    with pytest.raises(d2l.D2LError, match="No space left"):
        write(compiled, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_adapters_without_parts_are_refused(compiled: Compiled, tmp_path: Path) -> None:
    adapter = shutil.copytree(compiled.adapter, tmp_path / "bare.lora")
    (adapter / "parts.json").unlink()
    with pytest.raises(AdapterError, match="has no parts"):
        d2l.export(adapter, tmp_path / "out", to="parts", base=str(compiled.base))


def test_a_damaged_index_is_refused(exported: Path, tmp_path: Path) -> None:
    out = shutil.copytree(exported, tmp_path / "out")
    index = json.loads((out / "index.json").read_text("utf-8"))
    (out / "index.json").write_text(json.dumps({**index, "format": 2}), "utf-8")
    with pytest.raises(AdapterError, match="cannot be used"):
        read_index(out)
