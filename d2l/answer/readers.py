"""Adapter → the model that answers: in llama.cpp where it can, else in torch.

Imports torch only for a model in torch.
"""

import ctypes.util
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from d2l.adapters.info import AdapterInfo, read_info
from d2l.adapters.module_names import parse, parse_key
from d2l.adapters.parts import Parts
from d2l.answer.asked import Asked, find_parts
from d2l.answer.chat_prompts import TokenizerFolder, find_chat
from d2l.answer.llama_engine import LlamaEngine
from d2l.answer.options import AskOptions
from d2l.answer.prompts import find_opening
from d2l.bases.catalog import find_used, locate_base
from d2l.bases.gguf import prepare_folder
from d2l.bases.llama_cpp import Llama
from d2l.errors import BaseModelError, OptionError
from d2l.memory import memory_errors
from d2l.parts.open import find_kind
from d2l.progress import log_time

_log = logging.getLogger(__name__)
#: Cells of a context: eight parts of 460 tokens with a question each, or the longest prompt.
#: Higher: longer conversations; 29 KB a cell with the default base.
_N_CELLS, _N_SEQUENCES = 8192, 16
#: Modules that seats change, which parts do without.
_SEATED = {"k_proj", "v_proj"}


@dataclass
class GgufModel(Asked):
    """An adapter's parts on a base that llama.cpp runs."""

    engine: LlamaEngine = field(repr=False, kw_only=True)


@memory_errors()
def load_model(
    adapter: Path,
    options: AskOptions,
    *,
    beside: Iterable[Asked] = (),
    before_torch: Callable[[], object] | None = None,
) -> Asked:
    """Load the model of an adapter's folder, by the reader of the options; raises D2LError. With
    "auto", torch answers what llama.cpp cannot, with the reason in the log.

    `beside`: models whose base the adapter shares. `before_torch` is called before torch loads a
    base.
    """
    shared: dict[type[Asked], Any] = {type(model): model for model in beside}
    if options.reader != "torch":
        try:
            return _load_gguf(adapter, options, shared.get(GgufModel))
        except _Unfit as unfit:
            if options.reader == "llama.cpp":
                raise OptionError(
                    f"--reader llama.cpp: {unfit}", hint="torch does: leave --reader out"
                ) from unfit
            _log.info("torch answers: %s", unfit)
        except BaseModelError as error:
            if options.reader == "llama.cpp":
                raise
            _log.warning("torch answers: %s", error.message)
    from d2l.answer.model import AdaptedModel, add_adapter

    if AdaptedModel in shared:
        return add_adapter(shared[AdaptedModel], adapter)
    if before_torch is not None:
        before_torch()
    return AdaptedModel.load(adapter, options)


class _Unfit(Exception):
    """Reason why llama.cpp cannot answer."""


def _load_gguf(adapter: Path, options: AskOptions, shared: GgufModel | None) -> GgufModel:
    """Load an adapter's parts on its GGUF file; raises _Unfit or D2LError."""
    info = read_info(adapter)
    parts = find_parts(info, options.parts)
    gguf = _find_gguf(info, options)
    if (reason := _find_obstacle(info, parts, options)) is not None:
        raise _Unfit(reason)
    if shared is not None and shared.engine.llama.gguf == gguf:
        llama, own = shared.engine.llama, shared.base
    else:
        llama, own = _open_llama(gguf), TokenizerFolder(prepare_folder(gguf))
    chat, opening = find_chat(info, own), find_opening(info, parts, llama.n_vocab)
    model = GgufModel(info, chat, own, opening, llama.window, options, engine=LlamaEngine(llama))
    model.limit_answers()
    model.take_parts(parts)
    return model


def _open_llama(gguf: Path) -> Llama:
    n_threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    with log_time(_log, "loaded the base %s in llama.cpp", gguf):
        return Llama(gguf, n_cells=_N_CELLS, n_sequences=_N_SEQUENCES, n_threads=n_threads)


def _find_gguf(info: AdapterInfo, options: AskOptions) -> Path:
    """Find the GGUF file of an adapter's base; raises _Unfit if the base is none."""
    name = str(info.config.get("base_model_name_or_path") or "")
    given = options.base or find_used(name, info.base_sha256)
    if not (name or given):
        raise _Unfit("the adapter names no base")
    gguf = locate_base(name, override=given, offline=options.offline).gguf
    if gguf is None:
        raise _Unfit("the base is no GGUF file")
    return gguf


def _find_obstacle(info: AdapterInfo, parts: Parts | None, options: AskOptions) -> str | None:
    """Find a reason why llama.cpp cannot answer; None if it can."""
    has_card = options.device == "auto" and ctypes.util.find_library("cuda") is not None
    if has_card or options.device not in ("auto", "cpu"):
        return "the base is on another device than the processor"
    if options.dtype is not None:
        return f"{options.dtype} is a precision of torch"
    if parts is None or find_kind(parts.index) != "kv":
        return "the adapter's weights answer, and no KV caches of parts"
    if {parse(key[0]).short for key in map(parse_key, info.tensors) if key} - _SEATED:
        return "the adapter changes more of the base than its parts hold"
    return None
