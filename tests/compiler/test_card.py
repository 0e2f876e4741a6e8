import ast
import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import transformers
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token

from d2l import __version__
from d2l.adapters.card import FOLDER, name_folder, unname_folder
from d2l.compiler.card import write_card
from d2l.documents.intake import Intake
from tests import tiny
from tests.compiled import (
    ADAPTER,
    KINDS,
    PEFT_DEPRECATION,
    Compile,
    compile_tiny,
    family_of,
    generate,
    make_dense,
    make_document,
    write_prompt,
)

pytestmark = pytest.mark.usefixtures("one_thread")

ALL_WORDS = tiny.SYSTEM + "".join(f" {word}" for word in tiny.WORDS)
QUESTION = "Ask something that the document answers."


def read_code(card: str) -> str:
    """The lines under "Load it"."""
    match = re.search(r"^## Load it\n\n```python\n(.*?)^```$", card, re.DOTALL | re.MULTILINE)
    assert match is not None
    return match[1]


def read_body(card: str) -> list[Token]:
    """The card below its YAML as CommonMark with tables."""
    body = card.split("---\n", 2)[2]
    return MarkdownIt("commonmark").enable("table").parse(body)


def read_table(card: str) -> list[list[list[tuple[str, str]]]]:
    """Rows of cells of (kind, text), as a Markdown reader sees them."""
    cells = [
        [(child.type, child.content) for child in token.children or []]
        for before, token in pairwise(read_body(card))
        if before.type == "td_open"
    ]
    assert len(cells) % 2 == 0
    return [cells[n : n + 2] for n in range(0, len(cells), 2)]


def read_limits(card: str) -> list[str]:
    return re.findall(r"^- (.*)$", card.split("## Limits")[1], re.MULTILINE)


# ---- the lines that load it ---------------------------------------------------------------------


@pytest.mark.filterwarnings(PEFT_DEPRECATION)
@pytest.mark.parametrize("kind", KINDS)
def test_the_lines_under_load_it_run_as_they_stand_and_print_the_merged_models_answer(
    kind: str,
    compiled: Compile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = compiled(kind)
    folder = shutil.copytree(done.adapter, tmp_path / "renamed")  # a card names no path
    for entry in done.root.iterdir():  # the base's name leads there
        if not (folder / entry.name).exists():
            (folder / entry.name).symlink_to(entry)
    monkeypatch.chdir(folder)
    code = read_code((folder / "README.md").read_text("utf-8"))
    assert done.adapter.name not in code
    statements = [line for line in code.splitlines() if not re.match("from |#|$", line)]
    assert len(statements) == 9
    with_d2l, n_changed = re.subn("(?m)^# With d2l.*: (base = .*)\n^base = .*", r"\1", code)
    assert n_changed == 1
    prompt = write_prompt(QUESTION, ALL_WORDS if kind == "seats" else tiny.SYSTEM)
    answer = generate(make_dense(kind, done.adapter), prompt, 40)
    for lines in (code, f"import d2l\n{with_d2l}"):
        exec(compile(lines, "README.md", "exec"), {})
        assert capsys.readouterr().out.strip() == answer  # the answer alone, without its prompt


@pytest.mark.parametrize(
    "name", ["my lora", 'a "b".lora', "it's.lora", "back\\slash", "Ünï ☃", "two\nlines", "a\udcff"]
)
def test_names_of_any_kind_stand_in_the_lines_as_they_are(name: str, compiled: Compile) -> None:
    code = read_code(write_card(compiled("seats").plan, name))
    # half characters become their escapes when the file is written
    tree = ast.parse(code.encode("utf-8", "backslashreplace"))
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert strings.count(name) == 1  # a line of its own names it


def test_the_lines_ask_for_what_transformers_4_does_not_give_itself(compiled: Compile) -> None:
    code = read_code(write_card(compiled("llama").plan, ADAPTER))
    (call,) = [line for line in code.splitlines() if "apply_chat_template" in line]
    assert "return_dict=True" in call
    assert "**prompt" in code


def test_the_public_networks_lines_take_the_bases_tokenizer(compiled: Compile) -> None:
    code = read_code(write_card(compiled("qwen3").plan, ADAPTER))
    assert 'AutoTokenizer.from_pretrained("tiny-org/qwen3-tiny")' in code
    code = read_code(write_card(compiled("seats").plan, ADAPTER))
    assert "AutoTokenizer.from_pretrained(adapter)" in code
    assert code.splitlines()[3].startswith('adapter = "tiny.lora"  # ')


def test_cards_of_seats_say_first_why_an_adapter_seems_empty(compiled: Compile) -> None:
    card = (compiled("seats").adapter / "README.md").read_text("utf-8")
    causes = re.findall(r"^- (.*)$", card.split("## It knows nothing?")[1], re.MULTILINE)
    assert "`add_weighted_adapter`" in causes[0]
    assert "tokenizer or chat template" in causes[1]
    assert "It knows nothing?" not in write_card(compiled("llama").plan)


def test_a_card_that_is_read_and_written_again_is_called_as_it_is_then() -> None:
    card = name_folder(f"adapter = {FOLDER}  # here\nadapter is {FOLDER}\n", 'org/a "b" c')
    assert name_folder(unname_folder(card)).startswith('adapter = "."  # here\n')


# ---- the tokenizer in the folder ----------------------------------------------------------------

TURNS = [
    {"role": "user", "content": "How often is the filter rinsed?"},
    {"role": "assistant", "content": "14 days"},
    {"role": "user", "content": "Where is the pump?"},
]


@pytest.mark.parametrize("system", [None, "Answer in one word.", ""])
@pytest.mark.parametrize("n_turns", [1, 3])
@pytest.mark.parametrize("ask", [True, False])
def test_prompts_of_the_folders_tokenizer_begin_with_the_recorded_opening(
    system: str | None, n_turns: int, ask: bool, compiled: Compile
) -> None:
    folder = compiled("seats").adapter
    opening = json.loads((folder / "d2l.json").read_text("utf-8"))["prompt"]["opening"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    turns = TURNS[:n_turns]
    if system is not None:
        turns = [{"role": "system", "content": system}, *turns]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=ask, return_dict=False)
    assert list(ids[: len(opening["ids"])]) == opening["ids"]
    assert opening["ids"] == tiny.encode(f"<|im_start|>system\n{ALL_WORDS}")
    rest = tokenizer.decode(ids[len(opening["ids"]) :])
    told = "".join(f"<|im_start|>{t['role']}\n{t['content']}<|im_end|>\n" for t in TURNS[:n_turns])
    between = f"\n{system}" if system else ""
    assert rest == f"{between}<|im_end|>\n{told}" + "<|im_start|>assistant\n" * ask


def test_the_folders_tokenizer_is_the_bases(compiled: Compile) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(compiled("seats").adapter)
    text = "Rinse 14 filters, é ☃ <|im_end|> now."
    assert tokenizer(text)["input_ids"] == tiny.encode(text)
    assert (tokenizer.eos_token, tokenizer.bos_token) == ("<|im_end|>", "<|im_start|>")
    # Models refuse token types, which the class gives by default in version 4.
    assert list(tokenizer(text)) == ["input_ids", "attention_mask"]


@pytest.mark.parametrize("old", [None, "TokenizersBackend", "LlamaTokenizer"])
def test_the_folders_tokenizer_loads_with_any_base_class(old: str | None, tmp_path: Path) -> None:
    """Version 4 of transformers does not know the class that version 5 writes, and version 5
    builds Llama's anew instead of reading tokenizer.json."""
    done = compile_tiny(tmp_path, "seats")
    path = done.base / "tokenizer_config.json"
    if old is None:
        path.unlink()
    else:
        values = json.loads(path.read_text("utf-8"))
        values |= {"tokenizer_class": old, "name_or_path": str(tmp_path), "is_local": True}
        path.write_text(json.dumps(values))
    texts = done.plan.network.describe_prompt(done.plan.rank).texts
    settings = json.loads(texts["tokenizer_config.json"])
    assert settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["model_input_names"] == ["input_ids", "attention_mask"]
    assert "chat_template" not in settings
    assert str(tmp_path) not in texts["tokenizer_config.json"]
    for name, text in texts.items():
        (tmp_path / name).write_text(text, "utf-8")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("14 days")["input_ids"] == tiny.encode("14 days")


def test_adapters_of_the_public_networks_carry_the_card_only(compiled: Compile) -> None:
    plan = compiled("llama").plan
    assert not plan.network.describe_prompt(plan.rank).texts


# ---- what the card says -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_card_names_what_went_in(kind: str, compiled: Compile) -> None:
    done = compiled(kind)
    card = (done.adapter / "README.md").read_text("utf-8")
    record = json.loads((done.adapter / "d2l.json").read_text("utf-8"))
    base = tiny.base_name(family_of(kind))
    assert yaml.safe_load(card.split("---\n")[1]) == {
        "base_model": base,
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "peft", "d2l"],
    }
    rows = {name[0][1]: "".join(text for _, text in value) for name, value in read_table(card)}
    own = {"seats": ("seats", "k_proj, v_proj")}
    network, modules = own.get(kind, ("doc_to_lora", "down_proj"))
    assert rows == {
        "documents": "handbook.txt",
        "base model": base,
        "made by": f"d2l {__version__}, checkpoint {done.checkpoint} ({network})",
        "tokens": f"{done.plan.n_text_tokens} in {len(record['chunks'])} chunks",
        "rank": f"{record['rank']}, on {modules}",
        "merge": "concat",
    }


def test_the_card_says_when_the_rank_was_cut(tmp_path: Path) -> None:
    card = write_card(compile_tiny(tmp_path, "llama", max_rank=3).plan, ADAPTER)
    assert "| rank | 3, on down_proj |\n| merge | concat, then SVD |\n" in card


def test_limits_of_a_seats_adapter_are_the_checkpoints_own(compiled: Compile) -> None:
    plan = compiled("seats").plan
    config = plan.config
    assert (config.max_seats, config.tokens_per_seat) == (17, 3)
    limits = read_limits(write_card(plan, ADAPTER))
    assert limits[0].endswith("of more than about 51 tokens few.")  # 17 seats of 3 tokens
    assert any(limit.startswith("It was made on `random weights`.") for limit in limits)
    assert set(plan.warnings) < set(limits)
    assert len(plan.warnings) == 1
    card = write_card(plan, ADAPTER)
    assert f"hangs on the first {len(config.opening(plan.rank))} tokens of the prompt" in card


def test_limits_of_the_public_networks_speak_of_rank_and_base(compiled: Compile) -> None:
    limits = read_limits(write_card(compiled("llama").plan, ADAPTER))
    assert limits[0].startswith("Rank grows with the document's length")
    assert not any("seat" in limit.lower() for limit in limits)


@pytest.mark.parametrize("kind", ["llama", "seats"])
def test_the_card_ends_with_what_every_adapter_shares(kind: str, compiled: Compile) -> None:
    assert read_limits(write_card(compiled(kind).plan, ADAPTER))[-2:] == [
        "Answers can be wrong with confidence: check what matters against the document.",
        "The document's content is in these weights. Share them as you would share the text.",
    ]


HOSTILE = {
    "plain.txt": "plain.txt",
    "a`b.txt": "a`b.txt",
    "``.txt": "``.txt",
    "`": "`",
    "a|b||c.txt": "a|b||c.txt",
    "two\nlines | and `both`": "two lines | and `both`",
    "*bold* _it_ [x](y) <b>.txt": "*bold* _it_ [x](y) <b>.txt",
    "# title.md": "# title.md",
    "--- |": "--- |",
    "-": "-",
}


@pytest.mark.parametrize(("name", "shown"), HOSTILE.items())
def test_cards_are_valid_markdown_with_any_name(name: str, shown: str, compiled: Compile) -> None:
    plan = replace(compiled("llama").plan, intake=Intake((make_document(f"folder/{name}"),)))
    card = write_card(plan, ADAPTER)
    table = read_table(card)
    assert len(table) == 6
    assert table[0] == [[("text", "documents")], [("code_inline", shown)]]
    body = read_body(card)
    headings = [after for before, after in pairwise(body) if before.type == "heading_open"]
    assert [heading.content for heading in headings[1:]] == ["Load it", "Limits"]
    title: list[Any] = headings[0].children or []
    shape = [("code_inline", shown), ("text", ", compiled into a LoRA adapter")]
    assert [(token.type, token.content) for token in title] == shape


def test_several_documents_are_counted_in_the_title_and_listed(compiled: Compile) -> None:
    documents = (make_document("a|b.txt"), make_document("folder/c.pdf"))
    card = write_card(replace(compiled("llama").plan, intake=Intake(documents)), ADAPTER)
    assert "# 2 documents, compiled into a LoRA adapter\n" in card
    shown = [("code_inline", "a|b.txt"), ("text", ", "), ("code_inline", "c.pdf")]
    assert read_table(card)[0][1] == shown


def test_a_warning_of_several_lines_stays_one_item(compiled: Compile) -> None:
    plan = replace(compiled("llama").plan, warnings=("first\n\n# second\n- third",))
    assert "first # second - third" in read_limits(write_card(plan, ADAPTER))
