"""GGUF files as bases: found where a package ships one, dequantized once into the cache.

A GGUF path in, a model folder out. Reading and dequantizing is transformers' and gguf's work.
"""

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import save_file

from d2l.bases.old_keys import add_old_keys
from d2l.bases.quiet import explain, quiet_transformers
from d2l.errors import BaseModelError
from d2l.files.atomic import building, replace_file
from d2l.files.cache import cache_dir, file_digest

#: Bumped when the folders made from a GGUF file change, so that old ones are not used.
_LAYOUT = 3


def unpacked_folder(gguf: Path) -> Path:
    """Where the folder that is made from a GGUF file lies, whether it is there or not."""
    return cache_dir() / "bases" / f"{file_digest(gguf)[:16]}-v{_LAYOUT}"


def prepare_folder(gguf: Path) -> Path:
    """Make (once) a folder with config and tokenizer of a GGUF file; weights come later."""
    _check_magic(gguf)
    folder = unpacked_folder(gguf)
    if (folder / "config.json").is_file():
        return folder
    place: dict[str, Any] = {
        "pretrained_model_name_or_path": gguf.parent,
        "gguf_file": gguf.name,
        "trust_remote_code": False,
        "local_files_only": True,
    }
    with _gguf_errors(gguf):
        config = transformers.AutoConfig.from_pretrained(**place)
        tokenizer = transformers.AutoTokenizer.from_pretrained(**place)
    with building(folder) as temporary, quiet_transformers():
        _plain_config(config).save_pretrained(temporary)
        add_old_keys(temporary / "config.json")
        tokenizer.save_pretrained(temporary)
        _restore_pretokenizer(gguf, temporary / "tokenizer.json")
        _name_plain_class(temporary / "tokenizer_config.json")
    return folder


def ensure_weights(gguf: Path, folder: Path) -> None:
    """Dequantize to fp32 (once) into `folder`: exact, since every quantized value is one."""
    weights = folder / "model.safetensors"
    if weights.is_file():
        return
    with _gguf_errors(gguf):
        model = transformers.AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            trust_remote_code=False,
            local_files_only=True,
        )
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    try:
        replace_file(weights, lambda target: save_file(state, target, metadata={"format": "pt"}))
    except (OSError, SafetensorError) as error:
        raise BaseModelError(
            f"{weights}: cannot be written ({explain(error)})",
            hint="make room there, or name another cache folder in D2L_CACHE",
        ) from error


def _plain_config(config: Any) -> Any:
    """A config that describes the dequantized folder instead of the GGUF file."""
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def _restore_pretokenizer(gguf: Path, tokenizer_json: Path) -> None:
    """Put back the digit splitting that transformers' GGUF conversion drops.

    The file names its pre-tokenizer (`tokenizer.ggml.pre`); "smollm" splits every digit off
    before the byte-level step (llama.cpp, llama-vocab.cpp: LLAMA_VOCAB_PRE_TYPE_SMOLLM).
    """
    from gguf import GGUFReader

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    if field is None or field.contents() != "smollm":
        return
    document = json.loads(tokenizer_json.read_text("utf-8"))
    byte_level = document["pre_tokenizer"]
    digits = {"type": "Digits", "individual_digits": True}
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, byte_level]}
    tokenizer_json.write_text(json.dumps(document, ensure_ascii=False), "utf-8")


def _name_plain_class(tokenizer_config: Path) -> None:
    """Name the class that takes tokenizer.json as it is: every transformers knows it, while
    version 4 cannot load the classes that version 5 writes."""
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
def _gguf_errors(gguf: Path) -> Iterator[None]:
    """Turn what the GGUF readers raise on damaged or unsupported files into one clear line."""
    # The bar of the dequantizing loop is a tqdm that knows no switch of transformers.
    with quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        try:
            yield
        except Exception as error:  # tokenizers raises nothing narrower
            raise BaseModelError(
                f"{gguf}: this GGUF file is damaged or of an unsupported architecture",
                hint=explain(error),
            ) from error
