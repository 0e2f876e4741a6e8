"""Model cards: code that loads an adapter, front matter, and names that cannot break a card."""

import json
import re
from collections.abc import Sequence

#: Names are string literals, since a folder may have any name. `return_dict` is the default of
#: transformers 5 only.
LOADING = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

adapter = {adapter}  # the folder of this card, or the adapter's name on the hub
tokenizer = AutoTokenizer.from_pretrained({tokenizer})
# With d2l, also offline: base = d2l.load_base(adapter)
base = AutoModelForCausalLM.from_pretrained({base})
model = PeftModel.from_pretrained(base, adapter)
turns = [{{"role": "user", "content": "Ask something that the document answers."}}]
prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True, \
return_tensors="pt")
output = model.generate(**prompt, max_new_tokens=40, do_sample=False)
answer = output[0, prompt["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""
#: Name of a folder in its own card: folders are renamed.
HERE = "."

#: Why a seats adapter seems empty, the two most common causes first.
KNOWS_NOTHING = """\
## It knows nothing?

- **PEFT's `add_weighted_adapter` on adapters of this kind gives rubbish**: all of them claim the
  same tokens of the prompt. `d2l merge a.lora b.lora -o both.lora` joins their memories instead.
- **With the base's own tokenizer or chat template the answers are fiction**, fluent and made up:
  the memory hangs on the first tokens of the prompt, which are then not there. Take both from this
  folder; give servers its `chat_template.jinja` (`d2l check ADAPTER` prints every engine's line).

Else compare: `d2l ask ADAPTER --compare`, and measure: `d2l probe ADAPTER --qa QUESTIONS`.
"""


#: Placeholder for the adapter's folder in a card until it is written: no name has this character.
FOLDER = "\0"
_NAMED = re.compile(r'^(adapter = )"(?:[^"\\\n]|\\.)*"(?=  #)', re.MULTILINE)


def literal(text: str) -> str:
    """Write a string literal of Python and YAML: a JSON string is both."""
    return text if text == FOLDER else json.dumps(text, ensure_ascii=False)


def name_folder(card: str, called: str = HERE) -> str:
    """Put the name of its folder into a card: the folder itself, or its name on the hub."""
    return card.replace(FOLDER, literal(called))


def unname_folder(card: str) -> str:
    """Undo `name_folder` for a card that was read: put the placeholder back."""
    return _NAMED.sub(rf"\g<1>{FOLDER}", card.replace(FOLDER, "\ufffd"))


def write_head(base: str, tag: str) -> str:
    """Write a card's front matter, by which the hub finds it."""
    return (
        f"---\nbase_model: {literal(base)}\nbase_model_relation: adapter\nlibrary_name: peft\n"
        f"pipeline_tag: text-generation\ntags:\n- lora\n- peft\n- {tag}\n---\n\n"
    )


def set_license(card: str, license: str) -> str:
    """Set the license in a card's front matter."""
    if not card.startswith("---\n"):
        card = f"---\n---\n\n{card}"
    head, end, rest = card.partition("\n---\n")
    head = re.sub("\nlicense:.*", "", head)
    return f"{head}\nlicense: {literal(license)}{end}{rest}"


def write_table(rows: Sequence[tuple[str, str]]) -> str:
    """Write a table of two columns, without a header."""
    cells = [(name, value.replace("|", "\\|")) for name, value in rows]  # also inside code
    return "| | |\n| --- | --- |\n" + "".join(f"| {name} | {value} |\n" for name, value in cells)


def write_list(items: Sequence[str]) -> str:
    """Write a list, one line an item."""
    return "".join(f"- {' '.join(item.split())}\n" for item in items)


def quote(text: str) -> str:
    """Quote any file name as Markdown code of one line."""
    line = " ".join(text.replace(FOLDER, "\ufffd").split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}" if longest else f"{fence}{line}{fence}"
