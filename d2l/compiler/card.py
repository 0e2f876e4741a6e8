"""The texts that travel with an adapter: its model card, chat template and tokenizer files.

A plan in, text files by name out; opens nothing but the base's tokenizer.
"""

import json
from pathlib import PurePath

from d2l import __version__
from d2l.adapters.card import LOADING, literal, quote
from d2l.adapters.info import CARD, CHAT_TEMPLATE
from d2l.compiler.plan import CompilePlan
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.opening import chat_template

#: What a tokenizer needs to know that is not in tokenizer.json.
_TOKENIZER_KEYS = (
    "bos_token",
    "clean_up_tokenization_spaces",
    "eos_token",
    "model_max_length",
    "pad_token",
    "unk_token",
)


def write_texts(plan: CompilePlan, adapter: str) -> dict[str, str]:
    """All text files of the adapter folder but its JSON configuration.

    A seats adapter also carries its tokenizer, so that `AutoTokenizer.from_pretrained` on the
    folder and `apply_chat_template` alone make the prompt that its memory answers to.
    """
    texts = {CARD: write_card(plan, adapter)}
    if isinstance(plan.config, SeatsConfig):
        texts[CHAT_TEMPLATE] = chat_template(plan.config, plan.rank)
        texts |= _tokenizer_files(plan)
    return texts


def write_card(plan: CompilePlan, adapter: str) -> str:
    """The model card: what is in the adapter, how to load it, and its limits."""
    config = plan.config
    seats = isinstance(config, SeatsConfig)
    names = [PurePath(document.name).name for document in plan.documents]
    title = quote(names[0]) if len(names) == 1 else f"{len(names)} documents"
    checkpoint = quote(plan.checkpoint.name)
    rows = [
        ("documents", ", ".join(map(quote, names))),
        ("base model", quote(config.base)),
        ("made by", f"d2l {__version__}, checkpoint {checkpoint} ({config.kind})"),
        ("tokens read", plan.describe_tokens()),
        ("rank", f"{plan.rank}, on {', '.join(config.target_modules)}"),
        ("merge", plan.method if plan.rank == plan.full_rank else f"{plan.method}, then SVD"),
    ]
    cells = [(name, value.replace("|", "\\|")) for name, value in rows]  # also inside code
    table = "\n".join(f"| {name} | {value} |" for name, value in cells)
    loading = LOADING.format(
        tokenizer=literal(adapter if seats else config.base),
        base=literal(config.base),
        adapter=literal(adapter),
    )
    limits = _seats_limits(config) if isinstance(config, SeatsConfig) else _public_limits()
    limits += "".join(f"- {' '.join(warning.split())}\n" for warning in plan.warnings)
    return (
        f"---\nbase_model: {literal(config.base)}\n"
        "library_name: peft\ntags:\n- lora\n- d2l\n---\n\n"
        f"# {title}, compiled into a LoRA adapter\n\n"
        "This adapter was not fine-tuned. A pretrained network read the document once and wrote "
        "these weights, so that the base model can answer questions about it without the text in "
        "its prompt. `d2l.json` says exactly what went in.\n\n"
        f"| | |\n| --- | --- |\n{table}\n\n"
        f"## Load it\n\n```python\n{loading}```\n\n"
        f"{_seats_prompt(plan) if seats else _base_prompt()}\n"
        f"## Limits\n\n{limits}"
        "- Answers can be wrong with confidence: check what matters against the document.\n"
        "- The document's content is in these weights. Share them as you would share the text.\n"
    )


def _seats_prompt(plan: CompilePlan) -> str:
    return (
        f"The memory hangs on the first {plan.rank + 1} tokens of the prompt (the opening, in "
        "`d2l.json`). This folder's tokenizer and chat template put them there; a prompt without "
        "them cannot read the memory. A system message of your own follows the opening.\n"
    )


def _base_prompt() -> str:
    return "Ask with the base's own chat template: one user turn, no system text.\n"


def _seats_limits(config: SeatsConfig) -> str:
    return (
        "- Seats remember short notes best. Recall falls with length: of a page some facts come "
        f"back, of more than about {config.held_tokens:,} tokens few.\n"
        "- It answers in a few words; ask one fact at a time.\n"
        "- It changes general answers too, the more the more seats are used.\n"
        f"- It was made on {quote(config.base_file)}. On other files of the same base, for "
        "example quantized in another way, answers differ a little.\n"
    )


def _public_limits() -> str:
    return (
        "- Rank grows with the document's length; runtimes limit it (`--max-rank` bounds it).\n"
        "- The delta is computed for this base model only.\n"
    )


def _tokenizer_files(plan: CompilePlan) -> dict[str, str]:
    """The base's tokenizer, without the base's own chat template, which must not win.

    Its class becomes the one that takes tokenizer.json as it is and that every transformers
    knows: Llama's class of version 5 rebuilds its own, and version 4 cannot load those of 5.
    """
    folder = plan.base.folder
    texts = {"tokenizer.json": (folder / "tokenizer.json").read_text("utf-8")}
    config = folder / "tokenizer_config.json"
    found = json.loads(config.read_text("utf-8")) if config.is_file() else {}
    settings = {key: found[key] for key in _TOKENIZER_KEYS if key in found}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings["model_input_names"] = ["input_ids", "attention_mask"]  # no token types: not a BERT
    texts["tokenizer_config.json"] = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    return texts
