"""The reader in llama.cpp against torch, on a tiny GGUF file: same caches, judgments, answers."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from d2l.answer.asked import Asked
from d2l.answer.llama_engine import LlamaEngine
from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.answer.readers import GgufModel, load_model
from d2l.bases.llama_cpp import Llama, Piece
from d2l.errors import BaseModelError, OptionError, OutOfMemoryError
from d2l.parts.engine import Decoding
from d2l.parts.kept import PartOptions
from d2l.serve.engine import ChatOrder, Engine
from d2l.serve.library import Library
from d2l.serve.protocol import ChatRequest
from tests.bases.gguf_samples import write_dequantized, write_gguf
from tests.kv import compile_own
from tests.processes import list_imported

pytestmark = pytest.mark.usefixtures("one_thread")
pytest.importorskip("llama_cpp_py_sync")
QUESTION = [5, 40, 77, 123, 9]
REFUSAL = [60, 61, 62]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An adapter of a tiny Llama whose GGUF file is in fp32, so that both programs compute alike;
    and that file."""
    root = tmp_path_factory.mktemp("gguf")
    gguf = write_dequantized(write_gguf(root / "small.gguf"), root / "tiny.gguf")
    return compile_own(root, "llama", base=str(gguf)).adapter, gguf


def ask_of(gguf: Path, **changes: Any) -> AskOptions:
    return AskOptions(str(gguf), max_new_tokens=12, offline=True, **changes)


@pytest.fixture(scope="module")
def models(adapter: tuple[Path, Path]) -> tuple[AdaptedModel, GgufModel]:
    folder, gguf = adapter
    ours = load_model(folder, ask_of(gguf, reader="llama.cpp"))
    theirs = load_model(folder, ask_of(gguf, reader="torch"))
    assert isinstance(ours, GgufModel)
    assert isinstance(theirs, AdaptedModel)
    return theirs, ours


def hold(model: AdaptedModel | GgufModel, *indices: int) -> Any:
    parts, engine = model.kept.parts, model.engine  # type: ignore[attr-defined]
    memories = [parts.read(n, engine.dtype) for n in indices]
    opening = parts.index.opening.ids
    return engine.hold(opening, len(opening), memories)


def test_auto_takes_llama_cpp_for_parts_on_a_gguf_file(adapter: tuple[Path, Path]) -> None:
    assert isinstance(load_model(adapter[0], ask_of(adapter[1])), GgufModel)


def test_judgments_are_those_of_torch(models: tuple[AdaptedModel, GgufModel]) -> None:
    judged = []
    for model in models:
        caches = [hold(model, 0), hold(model, 1), hold(model, 0, 1)]
        judged.append(model.engine.compare(caches, QUESTION, REFUSAL))
    for theirs, ours in zip(*judged, strict=True):
        assert ours.entropy == pytest.approx(theirs.entropy, abs=2e-2)
        assert ours.refusal == pytest.approx(theirs.refusal, rel=0.1)
        assert ours.take().n_tokens == theirs.take().n_tokens


@pytest.mark.parametrize("indices", [(0,), (2, 1)])
def test_answers_behind_parts_are_those_of_torch(
    models: tuple[AdaptedModel, GgufModel], indices: tuple[int, ...]
) -> None:
    log_probs, written = [], []
    for model in models:
        decoding = Decoding(10, n_top=5)
        cache = model.engine.copy(hold(model, *indices))
        tokens = list(model.engine.generate(cache, QUESTION, decoding))
        written.append([token.id for token in tokens])
        log_probs.append([value for token in tokens for _, value in token.log_probs])
    assert written[0] == written[1]
    np.testing.assert_allclose(log_probs[0], log_probs[1], atol=3e-2)


def test_the_judged_cache_goes_on_as_one_that_was_read(
    models: tuple[AdaptedModel, GgufModel],
) -> None:
    engine, cache = models[1].engine, hold(models[1], 1)
    (judged,) = engine.compare([cache], QUESTION, REFUSAL)
    own, decoding = judged.take(), Decoding(6)
    goes_on = [token.id for token in engine.generate(own, QUESTION[-1:], decoding)]
    assert goes_on == [token.id for token in engine.generate(cache, QUESTION, decoding)]


def test_many_parts_are_judged_in_turns_as_together(adapter: tuple[Path, Path]) -> None:
    few = Llama(adapter[1], n_cells=256, n_sequences=4, n_threads=1)
    many = Llama(adapter[1], n_cells=512, n_sequences=16, n_threads=1)
    judged = []
    for llama in (few, many):
        engine = LlamaEngine(llama)
        caches = [engine.read(range(10 + n, 70 + n), "none") for n in range(6)]
        judged.append(engine.compare(caches, QUESTION, REFUSAL))
    for one, other in zip(*judged, strict=True):
        assert one.entropy == pytest.approx(other.entropy, abs=1e-3)


def test_banned_tokens_sampling_and_seeds(models: tuple[AdaptedModel, GgufModel]) -> None:
    engine, cache = models[1].engine, hold(models[1], 1)

    def write(**wishes: Any) -> list[int]:
        return [t.id for t in engine.generate(cache, QUESTION, Decoding(6, **wishes))]

    plain = write()
    assert write(banned=(plain[0],))[0] != plain[0]
    assert write(banned=tuple(plain[:2]))[:2] != plain[:2]
    assert write(banned=tuple(plain[:2]))[0] == plain[0]
    assert write(temperature=2.0, seed=1) == write(temperature=2.0, seed=1)
    assert len({tuple(write(temperature=2.0, seed=n)) for n in range(5)}) > 1
    assert write(temperature=2.0, top_p=1e-6, seed=3) == plain


def test_a_question_is_answered_with_its_passage(models: tuple[AdaptedModel, GgufModel]) -> None:
    answers = [model.ask("Where does the pump stand?") for model in models]
    assert answers[1].passage
    # llama.cpp knows more tokens that end an answer, by their names.
    assert answers[0].text.startswith(answers[1].text)
    assert answers[0].place == answers[1].place
    assert models[1].ask_alone("Where is it?").text == models[0].ask_alone("Where is it?").text


def test_reading_stops_once_the_time_is_over(models: tuple[AdaptedModel, GgufModel]) -> None:
    engine = models[1].engine
    with engine.stoppable(lambda: True), pytest.raises(TimeoutError):
        engine.read(QUESTION, "none")
    assert engine.read(QUESTION, "none").n_tokens == len(QUESTION)


def test_too_many_tokens_are_told(adapter: tuple[Path, Path]) -> None:
    llama = Llama(adapter[1], n_cells=256, n_sequences=2, n_threads=1)
    with pytest.raises(OutOfMemoryError, match="256 cells"):
        llama.read([Piece(0, 0, [7] * 300)])


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [
        ({"parts": PartOptions(whole=True)}, "the adapter's weights answer"),
        ({"dtype": "fp32"}, "a precision of torch"),
        ({"device": "cuda"}, "another device"),
    ],
)
def test_what_llama_cpp_cannot_do_is_refused_in_a_line(
    adapter: tuple[Path, Path], wishes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(OptionError, match=reason):
        load_model(adapter[0], ask_of(adapter[1], reader="llama.cpp", **wishes))


def test_a_server_answers_several_adapters_on_one_base_and_what_weights_answer_by_torch(
    adapter: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, gguf = adapter
    for name in ("one", "two"):
        shutil.copytree(folder, tmp_path / f"{name}.lora")
    entries = Library(tmp_path, remark=print).list_entries()
    engine = Engine(entries.values(), ask_of(gguf), n_kept=2)

    def ask(name: str, **fields: Any) -> tuple[str, Asked]:
        turns = [{"role": "user", "content": "Where is the pump?"}]
        chat = ChatRequest.model_validate({"model": name, "messages": turns, "d2l": fields})
        ending = engine.answer(ChatOrder(chat, 12, entries[name]), lambda _: None, lambda: False)
        return str(ending.answer), engine._last.model

    models = []
    for name, fields in (("one", {}), ("two", {}), ("one", {"whole": True}), ("two", {})):
        parts = PartOptions(whole=bool(fields))
        text, model = ask(name, **fields)
        assert text == load_model(folder, ask_of(gguf, parts=parts)).ask("Where is the pump?")
        models.append(model)
    assert [type(model) for model in models] == [GgufModel, GgufModel, AdaptedModel, GgufModel]
    assert models[0].engine.llama is models[1].engine.llama is models[3].engine.llama  # type: ignore[attr-defined]
    assert len(engine._loaded) == 2


def miss(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise BaseModelError("llama.cpp cannot be loaded")

    monkeypatch.setattr("d2l.bases.llama_cpp._open_library", fail)


def lay_out_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take keys for values, as a version with another order would."""
    take = Llama.take
    monkeypatch.setattr(Llama, "take", lambda self, n: np.ascontiguousarray(take(self, n)[::-1]))


def turn_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d2l.bases.llama_cpp._NORM", 2)
    monkeypatch.setattr("d2l.bases.llama_cpp._NEOX", 0)


@pytest.mark.parametrize("change", [miss, lay_out_otherwise, turn_otherwise])
def test_a_library_that_is_missing_or_another_leaves_the_answer_to_torch(
    adapter: tuple[Path, Path],
    change: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    change(monkeypatch)
    with pytest.raises(BaseModelError):
        load_model(adapter[0], ask_of(adapter[1], reader="llama.cpp"))
    assert isinstance(load_model(adapter[0], ask_of(adapter[1])), AdaptedModel)
    assert "torch answers" in caplog.text


def test_asking_imports_no_torch(adapter: tuple[Path, Path]) -> None:
    code = (
        "from d2l.answer.options import AskOptions; from d2l.answer.readers import load_model;"
        "from pathlib import Path;"
        f"options = AskOptions({str(adapter[1])!r}, max_new_tokens=4, reader='llama.cpp');"
        f"load_model(Path({str(adapter[0])!r}), options).ask('Where is the pump?')"
    )
    assert not list_imported(code, "torch", "peft")
