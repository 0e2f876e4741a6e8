"""Export of parts: an adapter for each part in one folder, and the index for the router.

The adapters come from `change.parts`; this writes them as PEFT folders, or as GGUF files.
"""

import contextlib
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from d2l.adapters import info as names
from d2l.adapters.card import quote
from d2l.adapters.exported_parts import ExportIndex, name_manual, name_parts, write_index
from d2l.adapters.info import AdapterInfo, read_info
from d2l.adapters.parts import read_parts
from d2l.adapters.peft_config import VLLM_RANKS
from d2l.adapters.peft_folder import AdapterContent, write_adapter
from d2l.bases.catalog import find_known
from d2l.errors import AdapterError
from d2l.files.atomic import building
from d2l.files.ownership import refuse_existing
from d2l.files.printable import printable
from d2l.runtimes import export as single
from d2l.runtimes import writers
from d2l.runtimes.adapter_facts import Facts
from d2l.runtimes.export import ExportResult
from d2l.runtimes.export_options import ExportOptions
from d2l.runtimes.rules import pick_rank
from d2l.version import __version__

#: Targets and what they write.
TARGETS: Final = {
    "parts": "a PEFT folder for each part, for vLLM",
    "parts-gguf": "a GGUF adapter for each part, for llama.cpp",
}
_README = """# Parts of {name}

Exported by d2l {version}: {n_parts:,} adapters for {base}, one for each part of the document. \
`index.json` has the place and the text of each part. An engine loads the parts; d2l chooses \
one for each question:

```sh
{engine}
d2l serve . --upstream {upstream}
```

Ask d2l's address for the model `{name}`. The reply's field `d2l` names the page.{more}
"""
_VLLM = (
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=true VLLM_PLUGINS=lora_filesystem_resolver "
    "VLLM_LORA_RESOLVER_CACHE_DIR={out} vllm serve {base} --enable-lora --max-loras 4 "
    "--max-lora-rank {rank}"
)
_LLAMA = (
    "llama-server -m {base} --lora-init-without-apply "
    "$(printf -- '--lora %s ' {out}/{name}-part-*.gguf)"
)
_MORE_PEFT = """

- vLLM loads a part at its first request. It must serve the base by the name in the parts' \
`adapter_config.json`.
- SGLang: `for part in {name}-part-*; do d2l export $part --to uniform -o uniform/$part; done`, \
then `python -m sglang.launch_server --model-path {base} --lora-paths \
$(cd uniform; for part in *; do echo "$part=uniform/$part"; done){template}`.
- mistral.rs 0.9.5, by its source: `mistralrs serve -p 8000 -m {base} --lora-max-adapters \
{n_parts} --lora-max-rank {rank} $(for part in {name}-part-*; do echo "--lora $part=$part"; done)\
{jinja}`."""


@dataclass(frozen=True)
class PartsPlan:
    """Plan of an export of parts, checked and not written."""

    info: AdapterInfo
    index: ExportIndex
    out: Path
    options: ExportOptions
    warnings: tuple[str, ...] = ()

    @property
    def has_opening(self) -> bool:
        """True if prompts begin with an opening, which the chat template writes."""
        provenance = self.info.provenance
        return provenance is not None and provenance.prompt.opening is not None

    @property
    def load(self) -> str:
        """Shell line that loads the parts into an engine."""
        return self._load(shlex.quote(str(self.out)))

    def _load(self, out: str) -> str:
        template = f"{out}/{names.CHAT_TEMPLATE}"
        if self.options.to == "parts-gguf":
            more = f" --jinja --chat-template-file {template}" if self.has_opening else ""
            known = find_known(self.index.base)
            base = f'"$(d2l bases fetch {known.alias})"' if known else "BASE.gguf"
            return _LLAMA.format(base=base, out=out, name=self.index.name) + more
        more = f" --chat-template {template}" if self.has_opening else ""
        rank = pick_rank(self.info.rank, VLLM_RANKS) or VLLM_RANKS[-1]
        return _VLLM.format(out=out, base=shlex.quote(self.index.base), rank=rank) + more

    def describe(self) -> tuple[dict[str, Any], list[str]]:
        """Describe what is exported: as values by name, and in lines."""
        parts = [part.name for part in self.index.parts]
        return {"base": self.index.base, "parts": parts}, [
            f"base        {self.index.base}",
            f"parts       {len(parts):,}: {parts[0]} to {parts[-1]}",
            f"writes      {self.out}",
        ]

    def write_readme(self) -> str:
        """Write the README of the folder; its lines are run in the folder."""
        peft = self.options.to == "parts"
        template = f" --chat-template {names.CHAT_TEMPLATE}" if self.has_opening else ""
        more = _MORE_PEFT.format(
            base=shlex.quote(self.index.base),
            template=template,
            jinja=template.replace("--chat-template", "--jinja-explicit"),
            name=self.index.name,
            n_parts=len(self.index.parts),
            rank=self.info.rank,
        )
        return _README.format(
            name=self.index.name,
            version=__version__,
            n_parts=len(self.index.parts),
            base=quote(self.index.base),
            engine=self._load('"$PWD"' if peft else "."),
            upstream=f"http://localhost:{8000 if peft else 8080}/v1 --port 9000",
            more=more if peft else "",
        )


def prepare(adapter: Path, out: Path, options: ExportOptions, *, called: Path) -> PartsPlan:
    """Plan the export of an adapter's parts; raises AdapterError if it has none."""
    info = read_info(adapter)
    parts = read_parts(info)
    if parts is None:
        raise AdapterError(
            f"{called}: has no parts", hint="compile the document again with --parts"
        )
    base = str(info.config.get("base_model_name_or_path") or "")
    suffix = ".gguf" if options.to == "parts-gguf" else ""
    index = name_parts(name_manual(called), base, parts.records, suffix=suffix)
    warnings = Facts(info).warn_of_base() if options.to == "parts" else ()
    return PartsPlan(info, index, out, options, warnings)


def write(plan: PartsPlan, contents: Iterable[AdapterContent]) -> ExportResult:
    """Write the parts' adapters, given in order, whole or not at all; raises D2LError."""
    out, options = plan.out, plan.options
    refuse = partial(refuse_export, out, force=options.force)
    with building(out, refuse) as folder:
        for part, content in zip(plan.index.parts, contents, strict=True):
            target = folder / part.path
            if options.to == "parts-gguf":
                _write_gguf(content, target, options)
            else:
                dtype = options.dtype or content.dtype
                write_adapter(content, target, dtype=dtype, called=part.name)
                _share_tokenizer(folder / plan.index.parts[0].path, target)
            if plan.has_opening and part is plan.index.parts[0]:  # the same for all parts
                template = content.texts[names.CHAT_TEMPLATE]
                (folder / names.CHAT_TEMPLATE).write_text(template, "utf-8", newline="\n")
        write_index(plan.index, folder)
        card = printable(plan.write_readme())
        (folder / names.CARD).write_text(card, "utf-8", newline="\n")
        writers.write_record(plan.info, folder, options.to, options.dtype)
    files = {
        stat.st_ino: stat for path in out.rglob("*") if (stat := path.stat()) and path.is_file()
    }
    size = sum(stat.st_size for stat in files.values())  # a file with several links once
    return ExportResult(out, options.to, size, plan.load, plan.warnings)


def refuse_export(out: Path, *, force: bool) -> None:
    """Refuse an `out` that parts may not be written to; raises AdapterError."""
    refuse_existing(out, force=force, own_names=writers.own_names, error=AdapterError)


def _write_gguf(content: AdapterContent, path: Path, options: ExportOptions) -> None:
    with tempfile.TemporaryDirectory(prefix="d2l-part-") as folder:
        adapter = write_adapter(content, Path(folder, path.stem))
        own = ExportOptions("gguf", options.base, options.dtype, offline=options.offline)
        single.run(adapter, path, own)


def _share_tokenizer(first: Path, folder: Path) -> None:
    """Replace a part's tokenizer files, which have megabytes, by hard links to the first part's.
    File systems without links keep the copies."""
    for name in names.TOKENIZER if folder != first else ():
        source, target = first / name, folder / name
        if target.is_file() and source.read_bytes() == target.read_bytes():
            with contextlib.suppress(OSError):
                link = folder / f"{name}.link"
                os.link(source, link)
                shutil.move(link, target)
