"""A few cases of every reader of strangers' bytes, the same in every run; `make fuzz` runs more."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.cases import Outcome, try_bytes, try_case
from tests.fuzz.readers import Reader, make_readers

NAMES = (
    "safetensors", "adapter_config.json", "d2l.json", "d2l.json in its folder", "chat template",
    "pickle", "torch zip", "tokenizer.json", "base config.json", "own gguf", "gguf",
    "seats config.json", "doc-to-lora config.json", "text-to-lora config.json",
    "questions", "manifest",
    "markdown", "csv", "srt", "eml", "text", "html", "docx", "epub", "pdf",
)  # fmt: skip
#: Cases that take more than some milliseconds each.
FEW = {"chat template": 2, "gguf": 4, "tokenizer.json": 15, "adapter_config.json": 20, "pdf": 20,
       "docx": 15, "epub": 15}  # fmt: skip


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Reader]]:
    place = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("D2L_CACHE_DIR", str(place / "cache"))
        yield make_readers(place)


def test_every_reader_has_its_cases(readers: dict[str, Reader]) -> None:
    assert set(readers) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_valid_files_are_read(name: str, readers: dict[str, Reader]) -> None:
    """Else what is fuzzed is a refusal."""
    outcomes = [try_bytes(readers[name], seed) for seed in readers[name].seeds]
    assert Outcome(refused=False, fault="") in outcomes, outcomes


@pytest.mark.parametrize("name", NAMES)
def test_strangers_bytes_are_read_or_refused(name: str, readers: dict[str, Reader]) -> None:
    @settings(derandomize=True, database=None, deadline=None, max_examples=FEW.get(name, 60))
    @given(st.integers(0, 2**32))
    def draw(number: int) -> None:
        assert try_case(readers[name], number).fault == ""

    draw()


def test_faults_are_seen() -> None:
    def fail(data: bytes) -> object:
        return 1 // len(data[:0])

    def loop(_data: bytes) -> object:
        while True:
            pass

    assert try_bytes(Reader((b"a",), fail), b"a").fault.startswith("ZeroDivisionError in ")
    assert try_bytes(Reader((b"a",), loop, limit_s=0.05), b"a").fault == "takes 0 s"
