"""Adapter on a loaded base, by PEFT, once it was compared with its config and the base.

PEFT trusts the config: it allocates what the config declares and only warns about missing tensors,
so a broken adapter would answer like the base.
"""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import peft
import torch
from peft.tuners.tuners_utils import check_target_module_exists

from d2l.adapters.info import CONFIG, WEIGHTS, AdapterInfo
from d2l.adapters.module_names import PREFIX
from d2l.adapters.patterns import refuse_slow
from d2l.adapters.peft_config import (
    module_scales,
    refuse_odd_factors,
    refuse_odd_tokens,
    refuse_unasked,
)
from d2l.adapters.peft_folder import AdapterContent, load_tensors
from d2l.bases.load_errors import LOAD_ERRORS, explain, quiet_transformers
from d2l.errors import AdapterError

#: Fields of a config that PEFT gets (peft 0.21, tuners/lora/config.py: LoraConfig). The others
#: describe origin and training, or `refuse_unasked` refuses them.
_FIELDS = (
    "r",
    "lora_alpha",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "fan_in_fan_out",
    "bias",
    "lora_bias",
    "use_dora",
    "modules_to_save",
    "trainable_token_indices",
    "alora_invocation_tokens",
    "ensure_weight_tying",
)
#: Parts of the names of modules that PEFT adds to a base.
_WRAPPED = (".base_layer", ".lora_", ".modules_to_save", ".original_module", ".token_adapter")
#: Embeddings: PEFT writes their weights beside the factors where they are adapted.
_EMBEDDINGS = ("embed_tokens", "lm_head")
#: Part of the names of tensors with rows of embeddings.
_TOKENS = "trainable_tokens"
_AGAIN = "the adapter is damaged, or was cut short: get it again, or compile the document again"


def check_alone(info: AdapterInfo) -> dict[str, tuple[int, int]]:
    """Check that an adapter's files agree, before a base is loaded; raises AdapterError.

    Returns the sizes of the modules that it changes, as `refuse_odd_factors` does.
    """
    refuse_unasked(info)
    sizes = refuse_odd_factors(info)
    module_scales(info.config, list(sizes))
    refuse_odd_tokens(info.config)
    _refuse_odd_lists(info.config)
    _refuse_odd_indices(info)
    return sizes


def load_lora(info: AdapterInfo, model: Any) -> Any:
    """Put a folder's adapter on a causal model of transformers, which PEFT changes in place.

    Returns a PeftModel. Raises AdapterError if the adapter is no LoRA, does not fit the base, or is
    not whole.
    """
    config = _plan_config(info, model)
    with _loading(info):
        tuned = peft.PeftModelForCausalLM(model, config)
    _load(info, tuned, "default")
    return tuned.eval()


def add_lora(info: AdapterInfo, tuned: Any, name: str) -> None:
    """Put a folder's adapter beside those of a PeftModel, as `name`; raises AdapterError. After an
    error nothing of it stays there."""
    config = _plan_config(info, tuned.get_base_model())
    try:
        with _loading(info):
            tuned.add_adapter(name, config)
        _load(info, tuned, name)
    except BaseException:
        if name in tuned.peft_config:
            tuned.delete_adapter(name)
        raise
    tuned.eval()


def apply_adapter(content: AdapterContent, model: Any, adapter_name: str = "default") -> Any:
    """Put an adapter in memory on a causal model of transformers; the disk is not touched.

    `model` is the base, which PEFT changes in place, or a PeftModel, which gets one adapter more
    and makes it the active one. Returns a PeftModel with nothing trainable. Raises AdapterError
    if the adapter does not fit the model's modules and shapes.
    """
    config = peft.LoraConfig(**{k: v for k, v in content.config.items() if k != "peft_type"})
    wrapped = isinstance(model, peft.PeftModel)
    shapes = {m: (f.b.shape[0], f.a.shape[1]) for m, f in content.weights.factors.items()}
    base = model.get_base_model() if wrapped else model
    hint = f"the adapter was made for {content.weights.base}"
    _refuse_misfit(content.name, shapes, base, hint=hint)
    if wrapped and adapter_name in model.peft_config:
        raise AdapterError(
            f"the model has an adapter called {adapter_name!r} already",
            hint="give this one another adapter_name",
        )
    with quiet_transformers():
        if wrapped:
            model.add_adapter(adapter_name, config)
            tuned = model
        else:
            tuned = peft.PeftModelForCausalLM(model, config, adapter_name=adapter_name)
        state = content.to_state_dict()
        result: Any = peft.set_peft_model_state_dict(tuned, state, adapter_name=adapter_name)
        tuned.set_adapter(adapter_name)
    assert not result.unexpected_keys, result.unexpected_keys  # the fit was checked
    return tuned.eval().requires_grad_(False)


def _refuse_misfit(
    name: str, shapes: Mapping[str, tuple[int, int]], model: Any, *, hint: str
) -> None:
    """Refuse a base whose linear layers differ from an adapter's shapes, (d_out, d_in) by the
    modules' names."""
    own = {
        name.replace(".base_layer.", "."): tuple(weight.shape)  # of modules adapted before
        for name, weight in model.named_parameters()
    }
    for module, expected in shapes.items():
        shape = own.get(f"{module}.weight")
        if shape != expected:
            raise AdapterError(
                f"{name}: {module} is {expected[0]} × {expected[1]}, the base has "
                + ("no such module" if shape is None else f"{shape[0]} × {shape[1]}"),
                hint=hint,
            )


def _plan_config(info: AdapterInfo, model: Any) -> peft.LoraConfig:
    """Make the config for PEFT; raises AdapterError unless the file holds all tensors that PEFT
    expects, in the base's shapes, and no others."""
    sizes = check_alone(info)
    hint = "name the base that the adapter was made for with --base"
    _refuse_misfit(str(info.folder), sizes, model, hint=hint)
    names = [n for n, _ in model.named_modules() if not any(part in n for part in _WRAPPED)]
    refuse_slow(info.config, names)
    _refuse_strays(info, model, names)
    known = {key: info.config[key] for key in _FIELDS if info.config.get(key) is not None}
    with _loading(info):
        config = peft.LoraConfig(**known, inference_mode=True, task_type="CAUSAL_LM")
        if config.target_modules == "all-linear":  # to PEFT all but the head
            head, linear = model.get_output_embeddings(), torch.nn.Linear
            modules = {n: m for n, m in model.named_modules() if isinstance(m, linear)}
            targets = {name for name, module in modules.items() if module is not head}
        else:
            targets = {name for name in names if check_target_module_exists(config, name)}
    if lacking := targets - set(sizes):
        raise AdapterError(
            f"{info.folder}: {CONFIG} speaks of {min(lacking)}, and {WEIGHTS} has nothing for it",
            hint=_AGAIN,
        )
    if extra := set(sizes) - targets:
        raise AdapterError(
            f"{info.folder}: {WEIGHTS} changes {min(extra)}, which {CONFIG} does not speak of",
            hint="correct target_modules in it, or get the adapter again",
        )
    return config


def _refuse_odd_lists(config: Mapping[str, Any]) -> None:
    """Refuse fields that hold no lists of names: PEFT would fail or take every module."""
    for field in ("target_modules", "exclude_modules", "modules_to_save"):
        value = config.get(field)
        is_pattern = isinstance(value, str) and field != "modules_to_save"
        is_list = isinstance(value, list) and all(isinstance(v, str) and v for v in value)
        if not (is_pattern or is_list or (value is None and field != "target_modules")):
            raise AdapterError(
                f"{CONFIG}: {field} is {value!r:.80}, expected names of modules",
                hint="the file is damaged: get the adapter again",
            )


def _refuse_odd_indices(info: AdapterInfo) -> None:
    """Refuse more tokens with new embeddings than the file has rows."""
    indices = info.config.get("trainable_token_indices") or []
    lists = list(indices.values()) if isinstance(indices, dict) else [indices]
    shapes = [tensor.shape for name, tensor in info.tensors.items() if _TOKENS in name]
    most = max((shape[0] for shape in shapes if shape), default=0)
    if not all(isinstance(tokens, list) and len(tokens) <= most for tokens in lists):
        raise AdapterError(
            f"{info.folder}: trainable_token_indices in {CONFIG} are no lists of at most {most:,} "
            f"tokens, for which {WEIGHTS} has rows",
            hint=_AGAIN,
        )


def _refuse_strays(info: AdapterInfo, model: Any, names: Iterable[str]) -> None:
    """Refuse tensors that PEFT would load over a part of the base that the config does not name,
    and whole modules that the config names and the file lacks."""
    whole = tuple(info.config.get("modules_to_save") or ())
    replaced = [name for name in names if whole and name.endswith(whole)]
    for module in replaced:
        for part, _ in model.get_submodule(module).named_parameters():
            if f"{PREFIX}{module}.{part}" not in info.tensors:
                raise AdapterError(
                    f"{info.folder}: {CONFIG} replaces {module}, and {WEIGHTS} has no "
                    f"{module}.{part}",
                    hint=_AGAIN,
                )
    for name in info.tensors:
        if ".lora_" in name or name.startswith(tuple(f"{PREFIX}{m}." for m in replaced)):
            continue
        if _TOKENS in name and info.config.get("trainable_token_indices"):
            continue
        if name.endswith(".bias") and info.config.get("bias", "none") != "none":
            continue
        if not set(_EMBEDDINGS).isdisjoint(name.split(".")):
            continue
        raise AdapterError(
            f"{info.folder / WEIGHTS}: {name} is no LoRA tensor, and {CONFIG} does not speak of it",
            hint="the adapter is damaged: get it again",
        )


def _load(info: AdapterInfo, tuned: Any, name: str) -> None:
    """Load the folder's tensors into the empty adapter `name`; raises AdapterError unless tensors
    and modules match one to one and all values are finite."""
    tensors = load_tensors(info, WEIGHTS)
    with _loading(info):
        result: Any = peft.set_peft_model_state_dict(tuned, tensors, adapter_name=name)
    missing = [key for key in result.missing_keys if "lora_" in key and name in key.split(".")]
    if missing:
        lacking = min(missing).replace(f".{name}", "")
        raise AdapterError(f"{info.folder / WEIGHTS}: has no {lacking}", hint=_AGAIN)
    if result.unexpected_keys:
        extra = min(result.unexpected_keys)
        raise AdapterError(
            f"{info.folder / WEIGHTS}: {extra} has no module in the base",
            hint="`d2l check` says what is wrong with the adapter",
        )
    for key, tensor in tuned.named_parameters():
        own = ".lora_" in key and name in key.split(".")
        if own and not bool(torch.isfinite(tensor).all()):
            raise AdapterError(
                f"{info.folder / WEIGHTS}: has values that are not finite, for example in "
                f"{key.replace(f'.{name}', '')}",
                hint="compile or train it again; in fp32, if it was fp16",
            )


@contextlib.contextmanager
def _loading(info: AdapterInfo) -> Iterator[None]:
    """Silence PEFT in a block and turn its errors into one line; `_load` checks all that PEFT only
    warns of."""
    try:
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except LOAD_ERRORS as error:
        raise AdapterError(
            f"{info.folder}: PEFT cannot load this adapter", hint=explain(error)
        ) from error
