"""Facts about families of base models: module paths and sizes, templates, and activations to read.

A config in, facts out; opens no file and loads no weights. The `model_type` of the base's
`config.json` names its `Family`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from d2l.errors import BaseModelError

ATTENTION = ("k_proj", "o_proj", "q_proj", "v_proj")
MLP = ("down_proj", "gate_proj", "up_proj")
#: Attention by blocks of rows (`attention.py`), as transformers knows it.
BLOCKS = "d2l_blocks"


@dataclass(frozen=True)
class DocumentTemplate:
    """The text around a document when the base reads it for Doc-to-LoRA: empty system turn.

    Source of the three public strings: checkpoint-formats of SakanaAI/doc-to-lora,
    chat_templates/ at commit baa85db. The document goes in stripped.
    """

    before: str
    after: str


@dataclass(frozen=True)
class Reading:
    """Activations to keep of one pass of the base.

    `hidden_states` are indices into the states that a Hugging Face decoder returns: 0 is the
    embedding output, i the output of layer i - 1, and `n_layers` the last one after the final
    norm. Only the first `n_layers` decoder layers are needed, so no more are loaded.
    """

    n_layers: int
    hidden_states: tuple[int, ...]
    key_value_layers: tuple[int, ...] = ()
    skip_tokens: int = 0  # leading tokens that are read for context only


@dataclass(frozen=True)
class Family:
    """An architecture. `document_template` None: derived from the tokenizer's chat template."""

    model_type: str
    description: str
    attention: str  # implementation for transformers: "sdpa" unless the family needs BLOCKS
    document_template: DocumentTemplate | None = None
    #: (prefix ids, suffix ids) around inner chunks, where the public code lists them by model
    #: name instead of deriving them (SakanaAI/doc-to-lora, ctx_to_lora/data/definitions.py).
    affixes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] | None = None
    #: Name of the architecture in llama.cpp, and true if its converter permutes the rows of q_proj
    #: and k_proj for its own rotary order (ggml-org/llama.cpp, convert_hf_to_gguf.py: LlamaModel,
    #: which also takes Mistral, Gemma2Model, Qwen3Model).
    gguf_arch: str = "llama"
    gguf_permutes: bool = False

    def module_shape(self, config: Any, module: str) -> tuple[int, int]:
        """(d_in, d_out) of a linear layer, from the base's config."""
        hidden, inner = int(config.hidden_size), int(config.intermediate_size)
        heads = int(config.num_attention_heads)
        head_dim = int(getattr(config, "head_dim", None) or hidden // heads)
        kv = int(getattr(config, "num_key_value_heads", None) or heads) * head_dim
        shapes = {
            "q_proj": (hidden, heads * head_dim),
            "k_proj": (hidden, kv),
            "v_proj": (hidden, kv),
            "o_proj": (heads * head_dim, hidden),
            "gate_proj": (hidden, inner),
            "up_proj": (hidden, inner),
            "down_proj": (inner, hidden),
        }
        if module not in shapes:
            raise BaseModelError(
                f"the {self.model_type} family has no module {module!r}",
                hint=f"known modules: {', '.join(sorted(shapes))}",
            )
        return shapes[module]


def module_path(layer: int, module: str) -> str:
    """Name of a linear layer of a decoder: all families here share one layout."""
    parent = "self_attn" if module in ATTENTION else "mlp"
    return f"model.layers.{layer}.{parent}.{module}"


def find_family(model_type: str) -> Family:
    """Find a family by the `model_type` of a base's config; raises BaseModelError."""
    if model_type not in FAMILIES:
        raise BaseModelError(
            f"base models of type {model_type!r} are not supported",
            hint=f"supported: {', '.join(sorted(FAMILIES))}",
        )
    return FAMILIES[model_type]


FAMILIES: dict[str, Family] = {
    "gemma2": Family(
        "gemma2",
        "Gemma 2 (soft-capped attention, computed in blocks)",
        attention=BLOCKS,
        document_template=DocumentTemplate(
            before="<bos><start_of_turn>user\n\n\n", after="<end_of_turn>\n<start_of_turn>model\n"
        ),
        affixes={"google/gemma-2-2b-it": ((2, 106, 1645, 110), (107, 108, 106, 2516, 108))},
        gguf_arch="gemma2",
    ),
    "mistral": Family(
        "mistral",
        "Mistral 7B and relatives",
        attention="sdpa",
        document_template=DocumentTemplate(before="<s> [INST] \n\n", after=" [/INST] "),
        affixes={
            "mistralai/Mistral-7B-Instruct-v0.2": (
                (1, 733, 16289, 28793, 28705, 13, 13),
                (733, 28748, 16289, 28793),
            )
        },
        gguf_permutes=True,
    ),
    "qwen2": Family(
        "qwen2", "Qwen 2 and 2.5 (biases on q, k and v)", attention="sdpa", gguf_arch="qwen2"
    ),
    "qwen3": Family(
        "qwen3",
        "Qwen 3 (dense)",
        attention="sdpa",
        document_template=DocumentTemplate(
            before="<|im_start|>system\n<|im_end|>\n<|im_start|>user\n",
            after="<|im_end|>\n<|im_start|>assistant\n",
        ),
        affixes={
            "Qwen/Qwen3-4B-Instruct-2507": (
                (151644, 8948, 198, 151645, 198, 151644, 872, 198),
                (151645, 198, 151644, 77091, 198),
            )
        },
        gguf_arch="qwen3",
    ),
    "llama": Family(
        "llama", "Llama 2 and 3, SmolLM2 and relatives", attention="sdpa", gguf_permutes=True
    ),
}
