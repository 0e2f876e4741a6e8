"""Chat templates in the forms of the families: what their public ones do, in few lines."""

import json
from pathlib import Path

from tests import tiny

#: A default system text, which a system turn replaces.
QWEN2 = (
    "{% if messages[0].role == 'system' %}{% set told = messages[0].content %}"
    "{% else %}{% set told = 'You are kind' %}{% endif %}"
    "{{ '<|im_start|>system\n' + told + '<|im_end|>\n' }}"
    "{% for m in messages if m.role != 'system' %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
#: A thought before the answer; an empty one if it shall not think, and none in earlier answers.
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
#: A system turn always, with the day; contents are trimmed.
LLAMA = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{% if messages[0].role == 'system' %}{% set told = messages[0].content | trim %}"
    "{% set turns = messages[1:] %}"
    "{% else %}{% set told = '' %}{% set turns = messages %}{% endif %}"
    "{{ bos_token + '[system]\n\nToday Date: ' + date_string + '\n\n' + told + '[end]' }}"
    "{% for m in turns %}{{ '[' + m.role + ']\n\n' + m.content | trim + '[end]' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]\n\n' }}{% endif %}"
)
_ALTERNATE = (
    "{% for m in turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}"
)
#: No system turn; a space before answers that were given, none where an answer is asked for.
MISTRAL = (
    "{% set turns = messages %}{{ bos_token }}"
    + _ALTERNATE
    + "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)
#: A system text goes into the last question.
MISTRAL_MOVING = (
    "{% if messages[0].role == 'system' %}{% set told = messages[0].content + '\n\n' %}"
    "{% set turns = messages[1:] %}"
    "{% else %}{% set told = '' %}{% set turns = messages %}{% endif %}{{ bos_token }}"
    + _ALTERNATE
    + "{% if m.role == 'user' %}"
    "{{ '[INST] ' + (told if loop.last else '') + m.content + '[/INST]' }}"
    "{% else %}{{ ' ' + m.content | trim + eos_token }}{% endif %}{% endfor %}"
)
#: A system text goes into the first question.
MISTRAL_FIRST = MISTRAL_MOVING.replace("loop.last", "loop.first")
#: A system turn is refused; contents are trimmed, and answers are a model's.
GEMMA2 = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
    "{% set turns = messages %}{{ bos_token }}"
    + _ALTERNATE
    + "{% set role = 'model' if m.role == 'assistant' else m.role %}"
    "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
#: A system turn is dropped without a word.
DROPPING = QWEN3.replace("for m in messages", "for m in messages if m.role != 'system'")

TEMPLATES = {
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "llama": LLAMA,
    "mistral": MISTRAL,
    "mistral, moved": MISTRAL_MOVING,
    "mistral, first": MISTRAL_FIRST,
    "gemma2": GEMMA2,
    "dropped": DROPPING,
}
_BEGIN = {"qwen2": "<|endoftext|>", "mistral": "<s>", "gemma2": "<bos>", "llama": "<bos>"}
_END = {"mistral": "</s>"}


def write_tokenizer(folder: Path, template: str | None, name: str = "qwen2") -> Path:
    """Write the tiny tokenizer with a chat template, and with the control tokens of a family."""
    family = name.partition(",")[0]
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text(tiny.tokenizer_json(), "utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": _BEGIN.get(family, "<|endoftext|>"),
        "eos_token": _END.get(family, "<|im_end|>"),
        "chat_template": template,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder
