"""Modelfiles of Ollama: a chat template in Jinja in, a Go template and SYSTEM out.

Text in, text out. The Jinja source is not parsed: the base's own tokenizer renders turns with marks
in them, and the Go template repeats the text around the marks.
Syntax: ollama/ollama, docs/modelfile.md and docs/template.md; system messages are joined into
`.System` and stay in `.Messages` (template/template.go: collate).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from d2l.errors import AdapterError

Turns = Sequence[dict[str, str]]
#: Renders turns as a prompt: (turns, whether an answer is to follow) → text.
Render = Callable[[Turns, bool], str]
_MARKS = {name: f"\u2042{name}\u2042" for name in ("system", "user", "answer", "again")}


@dataclass(frozen=True)
class Turning:
    """Texts of a chat template around turns.

    `start`: before the first user turn without a system text; `before_system`, `after_system`:
    around a system text, which belongs to the first user turn if `in_user`. `lead` stands between
    `before_answer` and an earlier answer, but does not ask for an answer (Mistral's space).
    """

    start: str
    before_system: str
    after_system: str
    in_user: bool
    before_user: str
    before_answer: str
    lead: str
    after_answer: str


def read_turning(render: Render) -> Turning:
    """Learn a chat template from its renderings; raises AdapterError if turns do not always follow
    one another in the same way."""
    user = {"role": "user", "content": _MARKS["user"]}
    answer = {"role": "assistant", "content": _MARKS["answer"]}
    again = {"role": "user", "content": _MARKS["again"]}
    system = {"role": "system", "content": _MARKS["system"]}
    head, _, after = _cut(render([user, answer], False), "user", "answer")
    _, between, next_turn, tail = _cut(
        render([user, answer, again], True), "user", "answer", "again"
    )
    before_user = next_turn.removeprefix(after)
    if (
        not next_turn.startswith(after)
        or not head.endswith(before_user)
        or not between.startswith(tail)
    ):
        raise AdapterError(
            "the base's chat template has no Ollama counterpart: its turns depend on their order",
            hint="write TEMPLATE into the Modelfile by hand, beside `--to gguf`",
        )
    before_system, after_system = head, ""
    in_user = True
    try:
        before_system, after_system, _ = _cut(render([system, user], False), "system", "user")
        in_user = not after_system.endswith(before_user)
    except AdapterError:  # templates that take no system text; it goes in front of the question
        after_system = "\n\n"
    if in_user and before_system.endswith(before_user):
        before_system = before_system[: len(before_system) - len(before_user)]
    return Turning(
        start=head[: len(head) - len(before_user)],
        before_system=before_system,
        after_system=after_system if in_user else after_system[: -len(before_user) or None],
        in_user=in_user,
        before_user=before_user,
        before_answer=tail,
        lead=between.removeprefix(tail),
        after_answer=after,
    )


def write_template(turning: Turning, opening: str = "") -> str:
    """Write the Go template. A seats adapter's `opening`, which is also in SYSTEM, is part of
    `start` and `before_system`: a caller's system text follows it."""
    given = f"and .System (ne .System {_quote(opening)})" if opening else ".System"
    before, after = _escape(turning.before_system), _escape(turning.after_system)
    system = f"{before}{{{{ .System }}}}{after}"
    start = _escape(turning.start)
    if turning.in_user:
        lead = f"{before}{{{{ $system := {given} }}}}"
        first = (
            f"{{{{ if $system }}}}{{{{ $.System }}}}{after}{{{{ $system = false }}}}{{{{ end }}}}"
        )
    else:
        lead, first = f"{{{{ if {given} }}}}{system}{{{{ else }}}}{start}{{{{ end }}}}", ""
    asked = (
        f"{_escape(turning.before_user)}{first}{{{{ .Content }}}}{_escape(turning.before_answer)}"
    )
    answered = f"{_escape(turning.lead)}{{{{ .Content }}}}{_escape(turning.after_answer)}"
    return (
        f"{lead}{{{{ range .Messages }}}}"
        f'{{{{ if eq .Role "user" }}}}{asked}'
        f'{{{{ else if eq .Role "assistant" }}}}{answered}'
        "{{ end }}{{ end }}"
    )


def write_modelfile(model: str, turning: Turning, opening: str = "") -> str:
    """Write the Modelfile: FROM, TEMPLATE, for a seats adapter SYSTEM, and greedy answers.

    There is no ADAPTER: ollama/ollama at d12d0b4, create/client/create.go: ConfigFromModelfile
    refuses it, and so does the server (at 0029bb5, server/create.go: CreateHandler).
    """
    template = write_template(turning, opening)
    if '"""' in template + opening:
        raise AdapterError("the chat template holds three quotes, which a Modelfile cannot")
    stop = turning.after_answer.strip()
    lines = [f"FROM {model}", f'TEMPLATE """{template}"""']
    lines += [f'SYSTEM """{opening}"""'] if opening else []
    lines += [f"PARAMETER stop {_quote(stop)}"] if stop else []
    return "\n".join([*lines, "PARAMETER temperature 0", ""])


def _cut(text: str, *names: str) -> list[str]:
    """Cut a text at its marks, which must occur once each and in this order."""
    parts = []
    for name in names:
        before, mark, text = text.partition(_MARKS[name])
        if not mark:
            raise AdapterError(f"the base's chat template leaves out a {name} turn")
        parts.append(before)
    return [*parts, text]


def _escape(text: str) -> str:
    """Escape literal text for a Go template."""
    return text.replace("{{", '{{ "{{" }}')


def _quote(text: str) -> str:
    """Quote a text for Go and for Modelfile parameters; JSON's quotes fit both."""
    return json.dumps(text, ensure_ascii=False)
