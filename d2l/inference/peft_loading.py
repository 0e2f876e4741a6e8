"""An adapter folder on a loaded base, by PEFT: compared with its config and the base beforehand.

PEFT takes a config at its word: it reserves what that declares, computes what a training began
with, and only warns of what a file lacks, so that the base would answer in the adapter's name.
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
from d2l.bases.quiet import LOAD_ERRORS, explain, quiet_transformers
from d2l.errors import AdapterError
from d2l.inference.apply import refuse_misfit

#: What PEFT is told of a config (peft 0.21, tuners/lora/config.py: LoraConfig). All else says where
#: it came from, how it was trained, or what `refuse_unasked` refuses.
_TOLD = (
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
#: Parts of names that PEFT puts between a module and its own.
_WRAPPED = (".base_layer", ".lora_", ".modules_to_save", ".original_module", ".token_adapter")
#: Embeddings, which PEFT writes beside the factors where their own module is adapted.
_EMBEDDINGS = ("embed_tokens", "lm_head")
#: In names of rows of embeddings.
_TOKENS = "trainable_tokens"
_AGAIN = "the adapter is damaged, or was cut short: get it again, or compile the document again"


def check_alone(info: AdapterInfo) -> dict[str, tuple[int, int]]:
    """What can be said before a base is loaded: the sizes of the modules that an adapter changes,
    as `refuse_odd_factors` gives them. Raises AdapterError where its own files do not agree."""
    refuse_unasked(info)
    sizes = refuse_odd_factors(info)
    module_scales(info.config, list(sizes))
    refuse_odd_tokens(info.config)
    _refuse_odd_lists(info.config)
    _refuse_odd_indices(info)
    return sizes


def put_on(info: AdapterInfo, model: Any) -> Any:
    """A PeftModel of a causal model of transformers, which is changed in place, with a folder's
    adapter on it. Raises AdapterError where it is no LoRA that fits the base, or not whole."""
    config = _plan_config(info, model)
    with _loading(info):
        tuned = peft.PeftModelForCausalLM(model, config)
    _load(info, tuned, "default")
    return tuned.eval()


def put_beside(info: AdapterInfo, tuned: Any, name: str) -> None:
    """The same beside the adapters that are on a PeftModel, as `name`; none of it stays there where
    it is refused."""
    config = _plan_config(info, tuned.get_base_model())
    try:
        with _loading(info):
            tuned.add_adapter(name, config)
        _load(info, tuned, name)
    except AdapterError:
        if name in tuned.peft_config:  # half of it may be there
            tuned.delete_adapter(name)
        raise
    tuned.eval()


def _plan_config(info: AdapterInfo, model: Any) -> peft.LoraConfig:
    """What PEFT is told; raises AdapterError unless the file holds all that it will look for, in
    the base's shapes, and nothing else."""
    sizes = check_alone(info)
    refuse_misfit(str(info.folder), sizes, model)
    names = [name for name, _ in model.named_modules() if not _is_wrapped(name)]
    refuse_slow(info.config, names)
    _refuse_strays(info, model, names)
    told = {key: info.config[key] for key in _TOLD if info.config.get(key) is not None}
    with _loading(info):
        config = peft.LoraConfig(**told, inference_mode=True, task_type="CAUSAL_LM")
        if config.target_modules == "all-linear":
            promised = _list_linear(model)
        else:
            promised = {name for name in names if check_target_module_exists(config, name)}
    _compare(info, promised, sizes)
    return config


def _compare(info: AdapterInfo, promised: Iterable[str], stored: Iterable[str]) -> None:
    """Refuse a config and a file that do not speak of the same modules."""
    lacking, extra = sorted(set(promised) - set(stored)), sorted(set(stored) - set(promised))
    if lacking:
        raise AdapterError(
            f"{info.folder}: {CONFIG} speaks of {lacking[0]}, and {WEIGHTS} has nothing for it",
            hint=_AGAIN,
        )
    if extra:
        raise AdapterError(
            f"{info.folder}: {WEIGHTS} changes {extra[0]}, which {CONFIG} does not speak of",
            hint="correct target_modules in it, or get the adapter again",
        )


def _list_linear(model: Any) -> set[str]:
    """What PEFT means by "all-linear": all linear layers but the head."""
    head = model.get_output_embeddings()
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }


def _refuse_odd_lists(config: Mapping[str, Any]) -> None:
    """Refuse lists of names that are none, at which PEFT would stumble or take everything."""
    for field in ("target_modules", "exclude_modules", "modules_to_save"):
        value = config.get(field)
        whole = isinstance(value, str) and field != "modules_to_save"
        named = isinstance(value, list) and all(isinstance(one, str) and one for one in value)
        if not (whole or named or (value is None and field != "target_modules")):
            raise AdapterError(
                f"{CONFIG}: {field} is {value!r:.80}, expected names of modules",
                hint="the file is damaged: get the adapter again",
            )


def _refuse_odd_indices(info: AdapterInfo) -> None:
    """Refuse tokens to be embedded anew that the file holds no rows for."""
    indices = info.config.get("trainable_token_indices") or []
    lists = list(indices.values()) if isinstance(indices, dict) else [indices]
    shapes = [tensor.shape for name, tensor in info.tensors.items() if _TOKENS in name]
    most = max((shape[0] for shape in shapes if shape), default=0)
    if not all(isinstance(one, list) and len(one) <= most for one in lists):
        raise AdapterError(
            f"{info.folder}: trainable_token_indices in {CONFIG} are no lists of at most {most:,} "
            f"tokens, for which {WEIGHTS} has rows",
            hint=_AGAIN,
        )


def _refuse_strays(info: AdapterInfo, model: Any, names: Iterable[str]) -> None:
    """Refuse tensors that would take a place of the base's own which the config does not name, and
    whole modules that the file does not hold."""
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
        module = name.removeprefix(PREFIX)
        known = (
            ".lora_" in name
            or (info.config.get("trainable_token_indices") and _TOKENS in name)
            or (info.config.get("bias", "none") != "none" and name.endswith(".bias"))
            or any(module.startswith(f"{one}.") for one in replaced)
            or set(module.split(".")) & set(_EMBEDDINGS)
        )
        if not known:
            raise AdapterError(
                f"{info.folder / WEIGHTS}: {name} is no LoRA tensor, and {CONFIG} does not speak "
                "of it",
                hint="the adapter is damaged: get it again",
            )


def _load(info: AdapterInfo, tuned: Any, name: str) -> None:
    """Read the folder's tensors into the adapter `name`, which is there; raises AdapterError unless
    each finds its place, each place its tensor, and all values are finite."""
    with _loading(info):
        found = tuned.load_adapter(
            str(info.folder), adapter_name=name, torch_device=str(tuned.device)
        )
    if found.missing_keys:
        lacking = min(found.missing_keys).replace(f".{name}", "")
        raise AdapterError(f"{info.folder / WEIGHTS}: has no {lacking}", hint=_AGAIN)
    if found.unexpected_keys:
        extra = min(found.unexpected_keys)
        raise AdapterError(
            f"{info.folder / WEIGHTS}: {extra} has no place in the base",
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


def _is_wrapped(name: str) -> bool:
    """Whether a module's name is one of PEFT's own, of adapters that are on the model."""
    return any(part in name for part in _WRAPPED)


@contextlib.contextmanager
def _loading(info: AdapterInfo) -> Iterator[None]:
    """Nothing printed inside, and what PEFT raises in one line; what it warns of is compared."""
    try:
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except LOAD_ERRORS as error:
        raise AdapterError(
            f"{info.folder}: PEFT cannot load this adapter", hint=explain(error)
        ) from error
