"""GGUF files as bases: config and tokenizer once, and weights if they must be copied, in a folder.

A GGUF path in, a model folder out. `checks.json` holds digests of the folder's files, which the
first start after a file has changed compares. transformers and gguf read and dequantize.
"""

import contextlib
import errno
import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import transformers

from d2l.bases.gguf_header import damaged, digest_gguf, read_tensors, refuse_false_header
from d2l.bases.load_errors import explain, quiet_transformers
from d2l.errors import BaseModelError, D2LError, OutOfMemoryError
from d2l.files.atomic import building, replace_file
from d2l.files.cache import cache_dir, file_digest
from d2l.files.tensors import FILE_ERRORS, all_finite
from d2l.memory import refuse_shortage
from d2l.progress import TOLD, announce

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: Raised when the folders made from a GGUF file change, so that old ones are not used.
_LAYOUT = 3
WEIGHTS = "model.safetensors"
#: The same weights in bf16, under the name that transformers gives this variant.
VARIANT: Final = "bf16"
ROUNDED_WEIGHTS = f"model.{VARIANT}.safetensors"
CHECKS_FILE = "checks.json"
_MEGABYTE = 10**6
_log = logging.getLogger(__name__)


def unpacked_folder(gguf: Path) -> Path:
    """Path of the folder that is made from a GGUF file."""
    return cache_dir() / "bases" / f"{digest_gguf(gguf)[:16]}-v{_LAYOUT}"


class _MadeMeanwhile(Exception):
    """Another process has made the same folder meanwhile."""


def prepare_folder(gguf: Path) -> Path:
    """Make (once) a folder with config and tokenizer of a GGUF file; weights come later. A damaged
    folder is made again, with a line in the log. Raises BaseModelError."""
    _check_magic(gguf)
    folder = unpacked_folder(gguf)
    if _is_sound(folder):
        return folder
    if read_checks(folder):
        _warn_of_damage(folder, find_damage(folder, _list_texts(folder)), gguf)

    def refuse() -> None:
        if _is_sound(folder):
            raise _MadeMeanwhile

    with contextlib.suppress(_MadeMeanwhile), _in_cache(folder), building(folder, refuse) as new:
        _write_texts(gguf, new)
        _record(new, sorted(path.name for path in new.iterdir()))
    return folder


def _write_texts(gguf: Path, folder: Path) -> None:
    """Write config and tokenizer of a GGUF file as files of their own."""
    source: dict[str, Any] = {
        "pretrained_model_name_or_path": gguf.parent,
        "gguf_file": gguf.name,
        "trust_remote_code": False,
        "local_files_only": True,
    }
    refuse_false_header(gguf)
    with _gguf_errors(gguf) as read:
        config = transformers.AutoConfig.from_pretrained(**source)
        tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
        pretokenizer = read(str(gguf)).get_field("tokenizer.ggml.pre")
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # the folder will be dequantized
    with quiet_transformers():
        config.save_pretrained(folder)
        add_old_keys(folder / "config.json")
        tokenizer.save_pretrained(folder)
        if pretokenizer is not None and pretokenizer.contents() == "smollm":
            _restore_digits(folder / "tokenizer.json")
        _name_plain_class(folder / "tokenizer_config.json")


def _list_texts(folder: Path) -> list[str]:
    """List the files of an unpacked folder that have digests, without its weights."""
    return [name for name in read_checks(folder) if name not in (WEIGHTS, ROUNDED_WEIGHTS)]


def _is_sound(folder: Path) -> bool:
    """True if config and tokenizer of a GGUF file are there and undamaged."""
    texts = _list_texts(folder)
    return bool(texts) and find_damage(folder, texts) is None


def ensure_weights(
    gguf: Path, folder: Path, dtype: "torch.dtype | None" = None
) -> Literal["bf16"] | None:
    """Dequantize (once) into `folder`, and return the variant of the weights' file.

    The file is in fp32, which holds every quantized value; a base that is first loaded in bf16 gets
    a file in bf16 and none in fp32. Damaged weights are made again, with a line in the log. Raises
    BaseModelError.
    """
    import torch

    name = ROUNDED_WEIGHTS if dtype == torch.bfloat16 else WEIGHTS
    if name not in read_checks(folder) and find_damage(folder, [WEIGHTS]) is None:
        name = WEIGHTS
    damage = find_damage(folder, [name])
    if damage is not None:
        if name in read_checks(folder) and (folder / name).is_file():
            _warn_of_damage(folder, damage, gguf)
        stored = torch.bfloat16 if name == ROUNDED_WEIGHTS else torch.float32
        announce(f"unpacking {gguf.name}, once for all runs")
        with _in_cache(folder / name):
            replace_file(folder / name, partial(_dequantize, gguf, folder, stored))
            _record(folder, [name])
    return VARIANT if name == ROUNDED_WEIGHTS else None


def has_copy(folder: Path) -> bool:
    """True if weights were once written into the folder of a GGUF file."""
    return not {WEIGHTS, ROUNDED_WEIGHTS}.isdisjoint(read_checks(folder))


def _dequantize(gguf: Path, folder: Path, dtype: "torch.dtype", target: Path) -> None:
    """Write the weights of a GGUF file; raises BaseModelError if it has changed meanwhile."""
    from safetensors.torch import save_file

    if not folder.name.startswith(file_digest(gguf, fresh=True)[:16]):
        raise BaseModelError(
            f"{gguf}: is no longer the file that {folder} was made from",
            hint="run the command again; if it is damaged, delete it and fetch it again",
        )
    _check_space(gguf, target.parent, dtype)
    with _gguf_errors(gguf):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=dtype,  # tensor by tensor: there is never a copy in fp32
            trust_remote_code=False,
            local_files_only=True,
            use_kernels=False,
        )
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    refuse_odd_values(gguf, state)
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    announce(f"writing the unpacked copy of {gguf.name}")
    save_file(state, target, metadata={"format": "pt"})


def refuse_odd_values(source: Path, named: Mapping[str, "Tensor"]) -> None:
    """Raise BaseModelError for weights that are not finite."""
    import torch

    # One tensor for all weights: the GPU is waited for only once.
    finite = torch.stack([all_finite(weight) for weight in named.values()])
    broken = next((name for name, ok in zip(named, finite.tolist(), strict=True) if not ok), None)
    if broken:
        raise BaseModelError(
            f"{source}: NaN or infinite values in {broken}",
            hint="its files are damaged: fetch them again; or load it in bfloat16 or float32",
        )


def _check_space(gguf: Path, folder: Path, dtype: "torch.dtype") -> None:
    """Raise OSError for a disk without space for the weights."""
    n_values = sum(math.prod(tensor.shape) for tensor in read_tensors(gguf).values())
    if shutil.disk_usage(folder).free < dtype.itemsize * n_values:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _warn_of_damage(folder: Path, damage: tuple[str, str] | None, gguf: Path) -> None:
    if damage is not None:
        name, reason = damage
        _log.warning("%s: damaged (%s), made again from %s", folder / name, reason, gguf.name)


@contextlib.contextmanager
def _in_cache(path: Path) -> Iterator[None]:
    """Turn errors of writing the cache into BaseModelError, with a hint how to move the cache."""
    try:
        yield
    except (BaseModelError, OutOfMemoryError):
        raise
    except (D2LError, *FILE_ERRORS) as error:
        refuse_shortage(error)
        reason = f"{path}: cannot be written ({getattr(error, 'strerror', None) or error})"
        raise BaseModelError(
            error.message if isinstance(error, D2LError) else reason,
            hint="free some space, or name another cache folder in D2L_CACHE_DIR",
        ) from error


def _restore_digits(tokenizer_json: Path) -> None:
    """Restore the digit splitting, which transformers' GGUF conversion drops.

    A file names its pre-tokenizer (`tokenizer.ggml.pre`); "smollm" splits every digit off
    before the byte-level step (llama.cpp, llama-vocab.cpp: LLAMA_VOCAB_PRE_TYPE_SMOLLM).
    """
    document = json.loads(tokenizer_json.read_text("utf-8"))
    byte_level = document["pre_tokenizer"]
    digits = {"type": "Digits", "individual_digits": True}
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, byte_level]}
    tokenizer_json.write_text(json.dumps(document, ensure_ascii=False), "utf-8")


def _name_plain_class(tokenizer_config: Path) -> None:
    """Name the class that takes tokenizer.json unchanged: all versions of transformers have it,
    while version 4 cannot load the classes that version 5 writes."""
    settings = json.loads(tokenizer_config.read_text("utf-8"))
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer_config.write_text(json.dumps(settings, ensure_ascii=False, indent=2), "utf-8")


def _check_magic(gguf: Path) -> None:
    try:
        with gguf.open("rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        raise BaseModelError(
            f"{gguf}: cannot be read ({error.strerror or error})",
            hint="a base is a model folder, a .gguf file or a hub name",
        ) from error
    if magic != b"GGUF":
        raise BaseModelError(
            f"{gguf}: not a GGUF file (it starts with {magic!r})",
            hint="a base is a model folder, a .gguf file or a hub name",
        )


@contextlib.contextmanager
def _gguf_errors(gguf: Path) -> Iterator[Callable[[str], Any]]:
    """Turn the GGUF readers' errors on damaged or unsupported files into one line; yield gguf's
    reader, which transformers uses, too, and which reads a file once for both."""
    import gguf as reading
    from transformers import modeling_gguf_pytorch_utils

    # transformers has no switch for the progress bar of dequantizing, and takes gguf's reader.
    library: Any = modeling_gguf_pytorch_utils
    files: Any = reading
    bar, library.tqdm = library.tqdm, partial(_tell, gguf.name)
    slow, files.GGUFReader = files.GGUFReader, cache(_make_reader())
    with quiet_transformers():
        try:
            yield files.GGUFReader
        except Exception as error:  # tokenizers raises nothing narrower
            raise damaged(gguf, explain(error)) from error
        finally:
            library.tqdm, files.GGUFReader = bar, slow


@cache
def _make_reader() -> type:
    """Make gguf's reader on a plain array: the memory map makes an object of its own class for each
    of a vocabulary's words, which takes four times as long."""
    from gguf import GGUFReader

    class Reader(GGUFReader):
        def __setattr__(self, name: str, value: object) -> None:
            is_map = isinstance(value, np.memmap)
            super().__setattr__(name, np.asarray(value) if is_map else value)

    return Reader


def _tell(name: str, tensors: Sequence[Any], **_: object) -> Iterator[Any]:
    """Yield the tensors of a file, in place of a progress bar, and tell their bytes."""
    ends = [0, *accumulate(int(tensor.n_bytes) for tensor in tensors)]
    for done, tensor in zip(ends, tensors, strict=False):
        TOLD.get()(done // _MEGABYTE, ends[-1] // _MEGABYTE, f"unpacking {name}, once, in MB")
        yield tensor


def add_old_keys(config_json: Path) -> None:
    """Add transformers 4's `rope_theta`, `rope_scaling` and `architectures` to a config.json.

    transformers 5 writes the first two inside `rope_parameters`. Version 4, mlx-lm and others read
    only `rope_theta`, and silently use a default if it is missing. mistral.rs refuses a config
    without `architectures`, which transformers does not make of a GGUF file.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = json.loads(config_json.read_text("utf-8"))
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(config.get("model_type"))
    if causal is not None:
        config.setdefault("architectures", [causal])
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope and "rope_theta" not in config:
        config["rope_theta"] = rope["rope_theta"]
        rest = {key: value for key, value in rope.items() if key != "rope_theta"}
        if rest.get("rope_type", "default") != "default":
            config["rope_scaling"] = rest
    text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    config_json.write_text(text, "utf-8", newline="\n")


def _record(folder: Path, names: Iterable[str]) -> None:
    """Add the digests of these files of a folder to its `checks.json`."""
    checks = read_checks(folder) | {name: file_digest(folder / name, fresh=True) for name in names}
    files = {name: {"sha256": digest} for name, digest in checks.items()}
    text = json.dumps({"files": files}, indent=1, sort_keys=True) + "\n"
    replace_file(folder / CHECKS_FILE, lambda target: target.write_text(text, "utf-8"))


def read_checks(folder: Path) -> dict[str, str]:
    """Read the digests of a folder's files by name; none if they cannot be read."""
    try:
        files = json.loads((folder / CHECKS_FILE).read_text("utf-8"))["files"]
        return {name: str(checks["sha256"]) for name, checks in files.items()}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return {}


def find_damage(
    folder: Path, names: Iterable[str], *, full: bool = False
) -> tuple[str, str] | None:
    """Find the first file that differs from its digest: its name and a reason; None if all are
    sound. A sound file is read once, or always with `full`."""
    checks = read_checks(folder)
    for name in names:
        if name not in checks:
            return (name, "it has no digest")
        try:
            digest = file_digest(folder / name, fresh=full)
        except (OSError, ValueError) as error:
            refuse_shortage(error)
            return (name, getattr(error, "strerror", None) or str(error))
        if digest != checks[name]:
            return (name, "its digest differs")
    return None
