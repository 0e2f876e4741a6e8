"""Modelfiles of Ollama: a chat template in Jinja in, a Go template and SYSTEM out.

Text in, text out. The Jinja source is not parsed: the base's own tokenizer renders turns with marks
in them, and the Go template repeats the text around the marks.
Syntax: ollama/ollama, docs/modelfile.md and docs/template.md; system messages are joined into
`.System` and stay in `.Messages` (template/template.go: collate).
"""

import json
from dataclasses import asdict

from d2l.bases.turns import Render, TurnTexts, take_apart
from d2l.errors import AdapterError


def read_turns(render: Render) -> tuple[str, TurnTexts]:
    """Learn a chat template from its renderings: its text before the first question where there is
    no system text, and around turns. Raises AdapterError if turns depend on their order."""
    turns, asked = take_apart(render), [{"role": "user", "content": "?"}]
    if turns is None:
        raise AdapterError(
            "the base's chat template has no Ollama counterpart: it leaves turns out, or they "
            "depend on their order",
            hint="write TEMPLATE into the Modelfile by hand, beside `--to gguf`",
        )
    return render(asked, True).removesuffix(turns.rest(asked)), turns


def write_template(start: str, turns: TurnTexts, opening: str = "") -> str:
    """Write the Go template. A seats adapter's `opening`, which is also in SYSTEM, is part of
    `start` and of the turns' head: a caller's system text follows it."""
    given = f"and .System (ne .System {_quote(opening)})" if opening else ".System"
    text = {name: _escape(text) for name, text in asdict(turns).items()}
    return (
        f"{{{{ if {given} }}}}{text['head']}{{{{ .System }}}}{text['behind_system']}"
        f"{{{{ else }}}}{_escape(start)}{{{{ end }}}}"
        "{{ $later := false }}{{ range .Messages }}"
        f'{{{{ if eq .Role "user" }}}}{{{{ if $later }}}}{text["question_start"]}{{{{ end }}}}'
        f"{{{{ $later = true }}}}{{{{ .Content }}}}{text['question_end']}"
        '{{ else if eq .Role "assistant" }}'
        f"{text['past_start']}{{{{ .Content }}}}{text['answer_end']}"
        f"{{{{ end }}}}{{{{ end }}}}{text['answer_start']}"
    )


def write_modelfile(model: str, start: str, turns: TurnTexts, opening: str = "") -> str:
    """Write the Modelfile: FROM, TEMPLATE, for a seats adapter SYSTEM, and greedy answers.

    There is no ADAPTER: ollama/ollama at d12d0b4, create/client/create.go: ConfigFromModelfile
    refuses it, and so does the server (at 0029bb5, server/create.go: CreateHandler).
    """
    template = write_template(start, turns, opening)
    if '"""' in template + opening:
        raise AdapterError("the chat template holds three quotes, which a Modelfile cannot")
    stop = turns.answer_end.strip()
    lines = [f"FROM {model}", f'TEMPLATE """{template}"""']
    lines += [f'SYSTEM """{opening}"""'] if opening else []
    lines += [f"PARAMETER stop {_quote(stop)}"] if stop else []
    return "\n".join([*lines, "PARAMETER temperature 0", ""])


def _escape(text: str) -> str:
    """Escape literal text for a Go template."""
    return text.replace("{{", '{{ "{{" }}')


def _quote(text: str) -> str:
    """Quote a text for Go and for Modelfile parameters; JSON's quotes fit both."""
    return json.dumps(text, ensure_ascii=False)
