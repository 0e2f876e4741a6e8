"""Conversation → answer, from top to bottom: focus, scope, route, read, judge, refuse or generate,
cite."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from d2l.answer.cite import cite
from d2l.answer.events import Ending, Event, Start, TextPiece
from d2l.answer.forms import Forms, refuse
from d2l.answer.options import AskOptions
from d2l.answer.refusal import REFUSAL
from d2l.answer.scope import find_named, read_question
from d2l.answer.writing import write
from d2l.answer.yes_no import find_yes_no
from d2l.datasets.silence import IN_FULL, TOPICS
from d2l.errors import AdapterError
from d2l.parts.engine import Decoding
from d2l.parts.judging import Choice, judge
from d2l.parts.kept import Context, Kept, Prompt, Turns

if TYPE_CHECKING:
    from d2l.answer.asked import Asked


#: Number of likeliest first tokens that are weighed; log-probability of all others, in nats.
_N_TOP, _UNLIKELY = 100, -12.0


class PromptLengthError(AdapterError):
    """A prompt leaves no room for an answer."""


def never() -> bool:
    """Let an answer take its time."""
    return False


def answer_turns(
    model: "Asked",
    turns: Turns,
    options: AskOptions,
    is_due: Callable[[], bool] = never,
) -> Generator[Event]:
    """Answer the last of several turns: yields a start, pieces of text and an ending.

    `is_due` ends the answer: before its first token by a TimeoutError. Raises D2LError. Close the
    iterator before the model is asked again.
    """
    kept, engine = model.pick(turns, options), model.engine
    question, asked = read_question(turns), model.focus(turns)
    named = find_named(question.text, kept.records)
    choice = kept.route(question, options.parts, named)
    prompt = _write_prompt(model, kept, asked, choice, options)
    with engine.stoppable(is_due), contextlib.ExitStack() as block:

        def begin(beginning: Context) -> Iterator[Event]:
            """Close the answer before, and write the answer of a beginning."""
            block.pop_all().close()
            n_before = beginning.cache.n_tokens + len(beginning.ids)
            decoding = _limit(options.decoding, model.window - n_before, n_before)
            own = replace(decoding, banned=beginning.banned)
            tokens = engine.generate(beginning.cache, beginning.ids, own)
            block.enter_context(contextlib.closing(tokens))
            return write(tokens, model.decode, options.stop, is_due)

        def weigh(beginning: Context, words: Sequence[str]) -> list[float]:
            """Weigh words as the first token of an answer."""
            cache, one = engine.copy(beginning.cache), Decoding(1, n_top=_N_TOP)
            with contextlib.closing(engine.generate(cache, beginning.ids, one)) as tokens:
                top = dict(next(tokens).log_probs)
            return [top.get(model.encode(word)[0], _UNLIKELY) for word in words]

        readings = kept.read(engine, choice, prompt) if choice.is_answered else []
        verdict = judge(choice, readings)
        if verdict.is_answered or (readings and find_yes_no(question.whole) is not None):
            context = kept.settle(engine, choice, verdict, prompt, readings)
            n_prompt = context.cache.n_tokens + len(context.ids)
            _limit(options.decoding, model.window - n_prompt, n_prompt)
            yield Start(n_prompt, prompt.n_left_out, verdict, context)
            read = [kept.records[n] for n in verdict.indices[: kept.count_read(verdict)]]
            forms = Forms(question.whole, read, options, begin, weigh)
            written = forms.write(context, is_answered=verdict.is_answered)
        else:
            yield Start(len(prompt.judged), verdict=verdict)
            written = refuse()
        text = ""
        for event in written:
            if isinstance(event, Ending):
                cited = cite(kept, verdict, question.whole, text, event.reason, event.is_sure)
                event = replace(event, answer=cited)
            elif isinstance(event, TextPiece):
                text += event.text
            yield event


def _write_prompt(
    model: "Asked", kept: Kept, turns: Turns, choice: Choice, options: AskOptions
) -> Prompt:
    """Write the prompt of a choice. The prompt for few words judges the parts: its answer is the
    refusal or not. Overviews are asked for topics: bases repeat a chapter in full."""
    is_overview = any(kept.records[n].is_overview for n in choice.indices)
    is_chapter = choice.together and len(choice.indices) == 1
    wish = TOPICS if is_overview else "" if is_chapter else IN_FULL
    judged = model.complete(turns, replace(options, short=True))
    full = model.complete(turns, options, wish)
    prompt = kept.write(model, judged, full)
    return prompt._replace(refusal=tuple(model.encode(REFUSAL)))


def _limit(decoding: Decoding, n_left: int, n_prompt: int) -> Decoding:
    """Limit an answer to the tokens that the base's window has left; raises PromptLengthError."""
    if n_left < 1:
        raise PromptLengthError(
            f"the prompt has {n_prompt:,} tokens, and this base reads {n_prompt + n_left:,}",
            hint="ask a shorter question, or a base with a longer window",
        )
    return replace(decoding, max_tokens=min(decoding.max_tokens, n_left))
