"""README of an exported folder: how to load it, word for word; opens no file.

Each target has a text below. Tests run the code in these texts unchanged.
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import PurePath

from d2l.adapters.card import literal, quote
from d2l.bases.catalog import find_known
from d2l.version import __version__

ADAPTER_FILE = "adapter.gguf"
MODEL_FILE = "model.gguf"


@dataclass(frozen=True)
class ExportFacts:
    """Facts for the texts of an export: the adapter's folder, the base as adapters call it, the
    name or path of the base's GGUF file (or None), the written folder or file, as the lines reach
    it, and whether prompts begin with an opening."""

    adapter: str
    base: str
    base_file: str | None
    out: str
    seats: bool

    @property
    def gguf(self) -> str:
        """GGUF file of the base, as commands spell it."""
        return self.base_file or f"{PurePath(self.base).name}.gguf"


def load_line(facts: ExportFacts, to: str) -> str:
    """Write the shell line that loads the export."""
    single = facts.out.endswith(".gguf")
    source = facts.adapter if single else facts.out
    template = shlex.quote(f"{source}/chat_template.jinja")
    gguf, base, out = map(shlex.quote, (facts.gguf, facts.base, facts.out))
    lora = out if single else shlex.quote(f"{facts.out}/{ADAPTER_FILE}")
    modelfile = shlex.quote(f"{facts.out}/Modelfile")
    return {
        "gguf": f"llama-server -m {gguf} --lora {lora}"
        + (f" --jinja --chat-template-file {template}" if facts.seats else ""),
        "ollama": f"ollama create {_model_name(facts.out)} -f {modelfile}",
        "mlx": f"mlx_lm.server --model {base} --adapter-path {out}"
        + (f' --chat-template "$(cat {template})"' if facts.seats else ""),
        "uniform": _load_sglang(facts, _model_name(facts.out)),
        "merged": f"vllm serve {out}",
    }[to]


def write_readme(facts: ExportFacts, to: str) -> str:
    """Write the README of an exported folder; its lines are run in the folder, wherever it is."""
    name = _model_name(facts.out)
    facts = replace(facts, adapter=".", out=".")
    bodies: dict[str, Callable[[ExportFacts], tuple[str, str]]] = {
        "gguf": _gguf,
        "ollama": lambda _: _ollama(name),
        "mlx": _mlx,
        "uniform": lambda facts: _uniform(facts, name),
        "merged": _merged,
    }
    title, body = bodies[to](facts)
    prompt = (
        "\nThe memory hangs on the prompt's first tokens (the opening, in `d2l.json`). What is "
        "shown above puts them there; a prompt without them cannot read the memory. A system "
        "message of your own follows the opening.\n"
        if facts.seats
        else "\nAsk with the base's own chat template: one user turn, no system text.\n"
    )
    return (
        f"# {title}\n\nExported by d2l {__version__} for {quote(facts.base)}. `d2l.json` says from "
        f"which adapter. Run the lines below in this folder.\n\n{body}{prompt}"
    )


def _gguf(facts: ExportFacts) -> tuple[str, str]:
    template = (
        f'params.chat_template = Path({literal(facts.out)}, "chat_template.jinja")'
        '.read_text("utf-8")\nparams.use_jinja = True\n'
        if facts.seats
        else ""
    )
    imports = "from pathlib import Path\n\n" if facts.seats else ""
    known = find_known(facts.base)
    where = f"; `d2l bases fetch {known.alias}` prints it" if known else ""
    adapter = literal(f"{facts.out}/{ADAPTER_FILE}")
    return "LoRA adapter for llama.cpp", (
        f"`{ADAPTER_FILE}` is the adapter. The base is not in the folder: it is a GGUF file of the "
        f"same model. Put {quote(facts.gguf)} here, or its path in place of its name{where}.\n\n"
        f"```sh\n{load_line(facts, 'gguf')}\n```\n\n"
        "In Python, with llama.cpp in the package `xllamacpp`:\n\n"
        f"```python\n{imports}import xllamacpp\n\n"
        "params = xllamacpp.CommonParams()\n"
        f"params.model.path = {literal(facts.gguf)}\n"
        f"params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo({adapter}, 1.0)]\n"
        f"{template}params.n_ctx = 4096\nparams.n_parallel = 1\n"
        "server = xllamacpp.Server(params)\n"
        'turns = [{"role": "user", "content": "Ask something."}]\n'
        'request = {"messages": turns, "max_tokens": 40, "temperature": 0}\n'
        "reply = server.handle_chat_completions(request)\n"
        'print(reply["choices"][0]["message"]["content"])\n```\n'
    )


def _ollama(name: str) -> tuple[str, str]:
    return "Ollama model", (
        f"`{MODEL_FILE}` is the base's file with the adapter's delta added, since Ollama 0.34.1 "
        "and later refuse adapters. `Modelfile` adds the chat template. Nothing is downloaded.\n\n"
        f'```sh\nollama create {name} -f Modelfile\nollama run {name} "Ask something."\n```\n'
    )


def _mlx(facts: ExportFacts) -> tuple[str, str]:
    own = (
        f"model, _ = load({literal(facts.base)}, adapter_path={literal(facts.out)})\n"
        f"tokenizer = load_tokenizer(Path({literal(facts.out)}))\n"
    )
    base = f"model, tokenizer = load({literal(facts.base)}, adapter_path={literal(facts.out)})\n"
    imports = (
        "from pathlib import Path\n\nfrom mlx_lm import generate, load\n"
        "from mlx_lm.utils import load_tokenizer\n"
        if facts.seats
        else "from mlx_lm import generate, load\n"
    )
    return "LoRA adapter for mlx-lm", (
        f"```sh\n{load_line(facts, 'mlx')}\n```\n\n```python\n{imports}\n"
        f"{own if facts.seats else base}"
        'turns = [{"role": "user", "content": "Ask something."}]\n'
        "prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True)\n"
        "print(generate(model, tokenizer, prompt, max_tokens=40))\n```\n\n"
        "mlx-lm wants one rank for all modules, so each has that of the one that needs most, and "
        "the file is larger than the adapter.\n"
    )


def _uniform(facts: ExportFacts, name: str) -> tuple[str, str]:
    return "LoRA adapter for SGLang", (
        f"```sh\n{_load_sglang(facts, name)}\n```\n\nAsk SGLang for the model "
        f"{quote(f'{facts.base}:{name}')}. It wants one rank for all modules, and it joins modules "
        "of a layer to one. Zeros fill up missing ranks and modules, so the file is larger, and "
        "answers the same, also in PEFT and vLLM.\n"
    )


def _load_sglang(facts: ExportFacts, name: str) -> str:
    base, out = shlex.quote(facts.base), shlex.quote(facts.out)
    template = shlex.quote(f"{facts.out}/chat_template.jinja")
    line = f"python -m sglang.launch_server --model-path {base} --lora-paths {name}={out}"
    return line + (f" --chat-template {template}" if facts.seats else "")


def _merged(facts: ExportFacts) -> tuple[str, str]:
    out = literal(facts.out)
    return "Model with the adapter merged in", (
        "An ordinary model folder: the base with the adapter's delta added to its weights. It "
        "needs no LoRA support, and it can be converted and quantized as any model.\n\n"
        f"```sh\n{load_line(facts, 'merged')}\n```\n\n"
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f"tokenizer = AutoTokenizer.from_pretrained({out})\n"
        f"model = AutoModelForCausalLM.from_pretrained({out})\n"
        'turns = [{"role": "user", "content": "Ask something."}]\n'
        "prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, "
        'return_dict=True, return_tensors="pt")\n'
        "output = model.generate(**prompt, max_new_tokens=40, do_sample=False)\n"
        'answer = output[0, prompt["input_ids"].shape[1] :]\n'
        "print(tokenizer.decode(answer, skip_special_tokens=True))\n```\n"
    )


def _model_name(out: str) -> str:
    """Make a name for engines: lower case, of letters, digits and dashes."""
    name = PurePath(out).name.lower()
    plain = "".join(c if c.isalnum() and c.isascii() else "-" for c in name)
    return re.sub("-(ollama|uniform)$", "", plain).strip("-") or "document"
