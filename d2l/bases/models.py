"""Base models: a name, folder or GGUF file in, a frozen model on a device out.

Reads safetensors only, and never runs code that comes with a model.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from torch import Tensor, nn

from d2l.bases import devices
from d2l.bases import gguf as gguf_files
from d2l.bases.attention import pick_attention
from d2l.bases.catalog import BY_NAME, BaseLocation, list_weights, locate_base
from d2l.bases.families import Family, find_family
from d2l.bases.load_errors import LOAD_ERRORS, explain, quiet_transformers
from d2l.errors import BaseModelError
from d2l.files.hub import Need
from d2l.progress import announce, log_time

_log = logging.getLogger(__name__)
Item = TypeVar("Item")


@dataclass(frozen=True)
class BaseFiles:
    """Files of a base: a folder with config, tokenizer and, once needed, weights.

    `name` stands in adapters. `gguf` is set if the folder is made from a GGUF file: config and
    tokenizer at once, weights when they are first loaded.
    """

    name: str
    folder: Path
    gguf: Path | None = None

    @cached_property
    def config(self) -> Any:
        """The transformers config of the base; callers must not change it. Raises
        BaseModelError."""
        with quiet_transformers():
            try:
                # By default transformers asks the user, and then runs the code.
                return transformers.AutoConfig.from_pretrained(
                    self.folder, trust_remote_code=False, local_files_only=True
                )
            except LOAD_ERRORS as error:
                raise BaseModelError(
                    f"{self.folder}: config.json is not that of a known model", hint=explain(error)
                ) from error

    @property
    def family(self) -> Family:
        """Facts about the base's architecture."""
        return find_family(str(self.config.model_type))

    def digest(self) -> str:
        """SHA-256 of the weights: of the GGUF file, or over all safetensors shards."""
        return BaseLocation(self.folder, self.gguf).digest()

    def describe(self) -> dict[str, Any]:
        """The model's name and digests, for a lock."""
        folder = None if self.gguf is not None else self.folder
        return BaseLocation(folder, self.gguf).describe(self.name)


def find_base(
    name: str, *, override: str | None = None, offline: bool = False, need: Need = "weights"
) -> BaseFiles:
    """Find a base by its name in a checkpoint, or by `override`.

    The order is: `override` (folder, GGUF file, alias or hub name), `name` as a folder below the
    working directory, the pinned file of a known base, the Hugging Face hub and its cache. Files
    of known bases are not downloaded here; of other bases only the files needed.
    """
    location = locate_base(name, override=override, offline=offline, need=need)
    if location.gguf is not None:
        return BaseFiles(name, gguf_files.prepare_folder(location.gguf), gguf=location.gguf)
    assert location.folder is not None
    return BaseFiles(name, location.folder)


def same_model(name: str, files: BaseFiles) -> bool:
    """True if names and known digests suggest that `files` are the base called `name`."""
    last = name.rstrip("/").split("/")[-1]
    if files.gguf is not None:
        known = BY_NAME.get(name)
        return (
            files.gguf.resolve().name == last if known is None else files.digest() == known.sha256
        )
    hub_folder = f"models--{name.split('@')[0].replace('/', '--')}"
    names = (files.folder.name, files.folder.resolve().name)  # of a link, and of its target
    return last in names or hub_folder in files.folder.parts


def load_frozen(
    files: BaseFiles, *, device: str, dtype: torch.dtype, n_layers: int | None = None
) -> nn.Module:
    """Load the decoder without its head, and without layers from `n_layers` on.

    Layers that are left out are never read from disk. Raises BaseModelError if weights are missing
    or have other shapes than in config.json.
    """
    config = copy.deepcopy(files.config)
    if n_layers is not None and n_layers < config.num_hidden_layers:
        config.num_hidden_layers = n_layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:n_layers]
    model: nn.Module = _load(
        transformers.AutoModel, files, config=config, device=device, dtype=dtype
    )
    return model


def load_causal(files: BaseFiles, *, device: str, dtype: torch.dtype) -> Any:
    """Load the whole causal language model, to generate with."""
    return _load(
        transformers.AutoModelForCausalLM, files, config=files.config, device=device, dtype=dtype
    )


def read_out(causal: Any, hidden: Tensor) -> Tensor:
    """Compute the head's logits (tokens, vocabulary), with Gemma's soft cap if the base has one."""
    logits: Tensor = causal.lm_head(hidden)
    cap = getattr(causal.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _load(factory: Any, files: BaseFiles, *, config: Any, device: str, dtype: torch.dtype) -> Any:
    """Read weights into the architecture of `config`, frozen, straight onto a device; refuse
    missing weights, wrong shapes and values that are not finite."""
    family = find_family(str(config.model_type))
    if devices.is_cuda(device):
        # Sums stay in fp32, as in the public evaluation (SakanaAI/doc-to-lora, eval_utils.py).
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    announce(f"loading the base {files.name}")
    read = log_time(_log, "loaded the base %s from %s, %s", files.name, files.folder, dtype)
    with read, quiet_transformers():
        state, variant = _find_weights(files, config, dtype)
        try:
            with torch.device("meta"):
                architecture = type(factory.from_config(config))
            model, info = architecture.from_pretrained(
                None if state else files.folder,
                state_dict=state,
                config=config,
                variant=variant,
                dtype=dtype,
                device_map={"": device},
                attn_implementation=pick_attention(family, device=device, dtype=dtype),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                use_kernels=False,  # transformers 5.25 would take compiled ones from the hub
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
            )
        except LOAD_ERRORS as error:
            raise BaseModelError(
                f"{files.folder}: the weights of the base cannot be loaded", hint=explain(error)
            ) from error
    wrong = sorted(f"{key} is missing" for key in info["missing_keys"]) or sorted(
        f"{key} is {tuple(got)}, expected {tuple(expected)}"
        for key, got, expected in info["mismatched_keys"]
    )
    if wrong:
        raise BaseModelError(
            f"{files.folder}: weights do not match config.json, for example {wrong[0]}",
            hint="the folder is incomplete, or its files belong to different models",
        )
    if files.gguf is None or state or dtype == torch.float16:  # a copy was checked as it was made
        source = files.gguf if files.gguf is not None and state else files.folder
        gguf_files.refuse_odd_values(source, dict(model.named_parameters()))
    return model.eval().requires_grad_(False)


def _find_weights(
    files: BaseFiles, config: Any, dtype: torch.dtype
) -> tuple[dict[str, Tensor] | None, str | None]:
    """Find where weights come from: read from a GGUF file that has no copy yet; else None, and the
    variant of the files in the base's folder."""
    if files.gguf is not None:
        from d2l.bases.gguf_weights import read_weights

        read = not gguf_files.has_copy(files.folder)
        state = read_weights(files.gguf, config, dtype) if read else None
        if state is not None:
            return state, None
        return None, gguf_files.ensure_weights(files.gguf, files.folder, dtype)
    if not list_weights(files.folder):
        raise BaseModelError(
            f"{files.folder}: no safetensors weights",
            hint="d2l reads model.safetensors (or its shards), not pickled weights",
        )
    return None, None


def batched(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Group items in order, `size` at a time; the last group may be smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]
