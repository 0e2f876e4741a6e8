"""Faults of an adapter for every runtime: names, shapes, values, its chat template.

Facts and weights in, faults out. With a fatal fault no runtime can answer with the adapter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from d2l.adapters import module_names
from d2l.adapters.info import CHAT_TEMPLATE, AdapterInfo
from d2l.adapters.peft_config import FLOATS, find_extras, module_ranks
from d2l.adapters.peft_folder import check_values
from d2l.bases.chat_templates import is_own, render_apart
from d2l.errors import AdapterError
from d2l.runtimes.adapter_facts import Facts

_QUESTION = {"role": "user", "content": "A question?"}


@dataclass(frozen=True)
class Fault:
    """Fault of an adapter, and its fix."""

    message: str
    fix: str
    fatal: bool = True


def find_faults(facts: Facts, tensors: Mapping[str, Tensor]) -> list[Fault]:
    """Find all faults; `tensors`: those of the file."""
    faults = [*_check_names(facts), *_check_ranks(facts), *_check_base(facts)]
    advice = "load that file, or the model that d2l export --to merged writes"
    faults += [Fault(message, advice, fatal=False) for message in facts.warn_of_base()]
    faults += [*_check_values(facts, tensors), *_check_template(facts)]
    return [*faults, *_check_rest(facts.info)]


def _check_rest(info: AdapterInfo) -> Iterator[Fault]:
    """Check memory, texts, and the parts that questions choose: readable, finite, unchanged."""
    provenance, again = info.provenance, "compile the document again"
    if provenance is not None and provenance.parts_sha256 is not None and not info.n_parts:
        yield Fault("its parts were deleted: the one memory answers", again, fatal=False)
    try:
        check_values(info)
    except AdapterError as error:
        yield Fault(error.message, again)


def _check_names(facts: Facts) -> Iterator[Fault]:
    """Check keys and the kind of adapter."""
    kind = facts.config.get("peft_type", "LORA")
    if kind != "LORA":
        yield Fault(f"peft_type is {kind!r}: this is no LoRA adapter", "name a LoRA adapter")
    default = [name for name in facts.info.tensors if ".default." in name]
    if default:
        yield Fault(
            f'key {min(default)} has PEFT\'s own ".default." in it: PEFT loads nothing of such '
            "keys, and warns only",
            'take ".default" out of all keys, or save with save_pretrained',
        )
    if not facts.pairs and not find_extras(facts.info):
        yield Fault("there are no LoRA tensors", "save the adapter with save_pretrained")
    for module, shapes in facts.pairs.items():
        for letter in "AB":
            if letter not in shapes:
                yield Fault(f"{module} has no lora_{letter}", "save the adapter again, whole")
    odd = {t.dtype for t in facts.info.tensors.values()} - set(FLOATS)
    if odd:
        yield Fault(
            f"values are stored as {', '.join(sorted(odd))}", "store them in bf16, fp16 or fp32"
        )


def _check_ranks(facts: Facts) -> Iterator[Fault]:
    """Check the orientation of the factors, and the rank that the config declares."""
    try:
        ranks = module_ranks(facts.config, list(facts.pairs))
    except AdapterError as error:
        yield Fault(error.message, error.hint or "mend the config")
        return
    for module, shapes in facts.pairs.items():
        a, b = shapes.get("A", ()), shapes.get("B", ())
        if len(a) != 2 or len(b) != 2:
            if a and b:
                yield Fault(
                    f"{module}: A is {a} and B {b}, two matrices are expected", "save again"
                )
            continue
        rank = ranks[module]
        if type(rank) is not int or rank < 1:
            yield Fault(f"r is {rank!r}, expected a positive whole number", "mend the config")
            return
        if a[0] == b[1] == rank:
            continue
        if a[0] == b[0] == rank or a[1] == b[1] == rank or (a[1], b[0]) == (rank, rank):
            which = "B" if a[0] == rank else "A" if b[1] == rank else "A and B"
            yield Fault(
                f"{module}: {which} is stored transposed: A is {a}, B {b}, expected (rank, d_in) "
                f"and (d_out, rank) with rank {rank}",
                f"transpose {which}: mlx-lm, for one, stores factors that way round",
            )
        else:
            yield Fault(
                f"{module}: the config says rank {rank}, A is {a} and B {b}",
                "correct r or rank_pattern in adapter_config.json",
            )


def _check_base(facts: Facts) -> Iterator[Fault]:
    """Check shapes and layers against the base's config, if that is at hand."""
    if facts.base is None:
        return
    for module, shapes in facts.pairs.items():
        a, b = shapes.get("A", ()), shapes.get("B", ())
        # Transposed factors have a fault of their own: here any orientation may fit.
        whole = len(a) == len(b) == 2
        sizes = [(a[1], b[0]), (a[1], b[1]), (a[0], b[0]), (a[0], b[1])] if whole else [None]
        misfits = [facts.base.find_misfit(module, size) for size in sizes]
        if misfits[0] is not None and None not in misfits:
            yield Fault(misfits[0], "the adapter belongs to another base: name it with --base")


def _check_values(facts: Facts, tensors: Mapping[str, Tensor]) -> Iterator[Fault]:
    """Check for values that are no numbers, and modules without effect."""
    broken = [n for n, t in sorted(tensors.items()) if not bool(torch.isfinite(t.float()).all())]
    if broken:
        yield Fault(
            f"{len(broken)} tensors have NaN or infinite values, for example {broken[0]}",
            "compile or train it again; in fp32, if it was fp16",
        )
        return
    factors = {module_names.parse_key(name): tensor for name, tensor in tensors.items()}
    dead = []
    for module in facts.pairs:
        a, b = (factors.get((module, letter)) for letter in "AB")
        if a is not None and b is not None and a.any() != b.any():  # all zeros: an engine needs it
            dead.append(module)
    if dead:
        yield Fault(
            f"{len(dead)} modules change nothing (all zero), for example {dead[0]}",
            "were they trained? they cost memory and time all the same",
            fatal=False,
        )


def _check_template(facts: Facts) -> Iterator[Fault]:
    """Check that the chat template renders, and that prompts to seats begin with the opening."""
    provenance = facts.info.provenance
    opening = provenance.prompt.opening if provenance is not None else None
    fix = "put back the chat_template.jinja that d2l wrote, or compile the document again"
    n_tokens = facts.base.n_tokens if facts.base is not None else None
    if opening is not None and n_tokens is not None and max(opening.ids, default=0) >= n_tokens:
        yield Fault(
            f"the opening has token {max(opening.ids)}, and the base {n_tokens:,} tokens",
            "d2l.json is damaged, or the base another one: compile the document again",
        )
    if facts.template is None:
        if opening is not None:
            yield Fault("the chat template that puts the opening first is missing", fix)
        return
    try:
        template = Path(facts.template).read_text("utf-8")
        if is_own(template, None if opening is None else opening.text):
            return
        prompt = render_apart(template, [_QUESTION], source=CHAT_TEMPLATE)
    except AdapterError as error:
        yield Fault(error.message, error.hint or fix)
    except (OSError, UnicodeError) as error:
        yield Fault(f"{CHAT_TEMPLATE}: cannot be read ({error})", fix)
    else:
        if opening is not None and not prompt.startswith(opening.text):
            yield Fault(
                "the chat template does not begin with the opening that the adapter answers to, so "
                "its memory cannot be read",
                fix,
            )
