"""An adapter in memory + a model → a PeftModel, without touching the disk."""

from collections.abc import Mapping
from typing import Any

import peft

from d2l.adapters.peft_folder import AdapterContent
from d2l.bases.quiet import quiet_transformers
from d2l.errors import AdapterError


def apply_adapter(content: AdapterContent, model: Any, adapter_name: str = "default") -> Any:
    """Put an adapter on a causal model of transformers; a PeftModel, as PEFT itself loads it.

    `model` is the base, which PEFT changes in place, or a PeftModel, which gets one adapter more
    and makes it the active one. Nothing is trainable. Raises AdapterError where the model has not
    the modules and shapes that the adapter is for.
    """
    config = peft.LoraConfig(**{k: v for k, v in content.config.items() if k != "peft_type"})
    wrapped = isinstance(model, peft.PeftModel)
    shapes = {m: (f.b.shape[0], f.a.shape[1]) for m, f in content.weights.factors.items()}
    base = model.get_base_model() if wrapped else model
    refuse_misfit(content.name, shapes, base, made_for=content.weights.base)
    with quiet_transformers():
        if wrapped:
            if adapter_name in model.peft_config:
                raise AdapterError(
                    f"the model has an adapter called {adapter_name!r} already",
                    hint="give this one another adapter_name",
                )
            model.add_adapter(adapter_name, config)
            tuned = model
        else:
            tuned = peft.PeftModelForCausalLM(model, config, adapter_name=adapter_name)
        state = content.to_state_dict()
        found: Any = peft.set_peft_model_state_dict(tuned, state, adapter_name=adapter_name)
        tuned.set_adapter(adapter_name, inference_mode=True)
    assert not found.unexpected_keys, found.unexpected_keys  # the fit was checked
    return tuned.eval()


def refuse_misfit(
    name: str, shapes: Mapping[str, tuple[int, int]], model: Any, *, made_for: str | None = None
) -> None:
    """Raise AdapterError unless a loaded base's linear layers have an adapter's shapes.

    `shapes` are (d_out, d_in) by the modules' names. The hint names the base that the adapter was
    `made_for` to callers with a model in their hands; others are told of --base.
    """
    own = {
        name.replace(".base_layer.", "."): tuple(weight.shape)  # of modules adapted before
        for name, weight in model.named_parameters()
    }
    for module, expected in shapes.items():
        found = own.get(f"{module}.weight")
        if found != expected:
            raise AdapterError(
                f"{name}: {module} is {expected[0]} × {expected[1]}, the base has "
                + ("no such module" if found is None else f"{found[0]} × {found[1]}"),
                hint=f"the adapter was made for {made_for}"
                if made_for is not None
                else "name the base that the adapter was made for with --base",
            )
