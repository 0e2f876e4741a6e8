"""A folder of adapters → the lines that serve all of them in an engine for load.

One base, one chat template: that of the adapter with the longest opening, which begins as every
shorter one does.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from d2l.adapters.info import is_adapter, read_info
from d2l.errors import AdapterError
from d2l.runtimes.catalog import VLLM_RANKS
from d2l.runtimes.facts import Facts
from d2l.runtimes.rules import pick_rank

#: Adapters that answer at a time in one batch of vLLM, at most.
_BATCH = 4


def describe_fleet(folder: Path, engine: str) -> str:
    """Shell lines; raises AdapterError where there is no adapter, or more than one base."""
    facts = _read_all(folder)
    bases = sorted({adapter.base_name for adapter in facts})
    if len(bases) > 1:
        raise AdapterError(
            f"{folder}: its adapters are for {len(bases)} bases ({', '.join(bases)})",
            hint="a server has one base: put them into a folder each",
        )
    return "\n".join(ENGINES[engine](folder, facts))


def _read_all(folder: Path) -> list[Facts]:
    folders = [folder] if is_adapter(folder) else sorted(filter(is_adapter, _list_below(folder)))
    if not folders:
        raise AdapterError(
            f"{folder}: no adapter here",
            hint="make one with `d2l compile DOCUMENT -o FOLDER/NAME.lora`",
        )
    return [Facts(read_info(path)) for path in folders]


def _list_below(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise AdapterError(
            f"{folder}: cannot be listed ({error.strerror})",
            hint="name a folder of adapters, or one adapter",
        ) from error


def _find_template(facts: Sequence[Facts]) -> str | None:
    """The chat template of the adapter with the longest opening."""
    with_own = [adapter for adapter in facts if adapter.template is not None]
    return max(with_own, key=_count_opening).template if with_own else None


def _count_opening(adapter: Facts) -> int:
    made = adapter.info.provenance
    opening = None if made is None else made.prompt.opening
    return 0 if opening is None else len(opening.ids)


def _template_option(facts: Sequence[Facts], option: str) -> str:
    template = _find_template(facts)
    return f" {option} {shlex.quote(template)}" if template is not None else ""


def _write_vllm(folder: Path, facts: Sequence[Facts]) -> list[str]:
    """With its filesystem resolver, which finds adapters that come later by their folder's name."""
    ranks = [adapter.rank for adapter in facts]
    rank = pick_rank(max(ranks), VLLM_RANKS)
    if rank is None:
        raise AdapterError(
            f"{folder}: has an adapter of rank {max(ranks)}, and vLLM takes {VLLM_RANKS[-1]}",
            hint="make it with --max-rank",
        )
    base = shlex.quote(facts[0].base_name)
    place = folder.resolve()
    place = place.parent if is_adapter(folder) else place
    batch = min(_BATCH, len(facts))
    return [
        "export VLLM_ALLOW_RUNTIME_LORA_UPDATING=True VLLM_PLUGINS=lora_filesystem_resolver",
        f"export VLLM_LORA_RESOLVER_CACHE_DIR={shlex.quote(str(place))}",
        f"vllm serve {base} --enable-lora --max-lora-rank {rank} --max-loras {batch}"
        + _template_option(facts, "--chat-template"),
        f"# model: the folder's name, such as {facts[0].info.folder.resolve().name}",
    ]


def _write_sglang(folder: Path, facts: Sequence[Facts]) -> list[str]:
    del folder
    base = shlex.quote(facts[0].base_name)
    paths = " ".join(shlex.quote(f"{adapter.name}={adapter.info.folder}") for adapter in facts)
    rank = max(adapter.rank for adapter in facts)
    return [
        f"python -m sglang.launch_server --model-path {base} --enable-lora --lora-paths {paths} "
        f"--max-lora-rank {rank} --max-loras-per-batch {min(_BATCH, len(facts)) + 1}"
        + _template_option(facts, "--chat-template"),
        f"# model: BASE:ADAPTER, such as {facts[0].base_name}:{facts[0].name}",
    ]


def _write_llama_server(folder: Path, facts: Sequence[Facts]) -> list[str]:
    del folder
    exports = [
        f"d2l export {shlex.quote(str(adapter.info.folder))} --to gguf -o {adapter.name}.gguf"
        for adapter in facts
    ]
    loras = " ".join(f"--lora {adapter.name}.gguf" for adapter in facts)
    numbers = ", ".join(f"{n} {adapter.name}" for n, adapter in enumerate(facts))
    return [
        *exports,
        f"llama-server -m BASE.gguf {loras} --lora-init-without-apply"
        + _template_option(facts, "--jinja --chat-template-file"),
        f'# every request chooses by number: "lora": [{{"id": 0, "scale": 1.0}}] ({numbers})',
    ]


ENGINES: Mapping[str, Callable[[Path, Sequence[Facts]], list[str]]] = {
    "vllm": _write_vllm,
    "sglang": _write_sglang,
    "llama-server": _write_llama_server,
}
