"""`d2l serve --upstream` before llama.cpp's own server, from the package xllamacpp."""

import gc
import importlib.util
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import openai
import pytest

from d2l.adapters.exported_parts import read_index
from tests.bases.gguf_samples import write_gguf
from tests.serve.test_parts import MANUALS, QUESTIONS
from tests.serve.test_upstream import export_parts, routing
from tests.serving import N_TOKENS, Shelf, say, user

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
HOPPER, LANTERN = QUESTIONS["mill"]
KEEPER = "Who is the keeper?"
KEY = "the engine's"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """GGUF adapters of three parts, and the base in quantized types."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("llama.cpp is not installed, so nothing is said of it: pip install xllamacpp")
    root = tmp_path_factory.mktemp("llama")
    pages = (*MANUALS["mill"], "The keeper is Anton Reyes.")
    shelf = export_parts(root, "parts-gguf", pages, repeats=2)
    return Shelf(shelf.folder, write_gguf(root / "base.gguf"))


@contextmanager
def llama_server(exported: Shelf) -> Iterator[str]:
    """Its address, with all parts loaded and none applied, as the README of the parts says."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(exported.base)
    params.lora_adapters = [  # in another order than the parts'
        xllamacpp.CommonAdapterLoraInfo(str(exported.folder / part.path), 1.0)
        for part in reversed(read_index(exported.folder).parts)
    ]
    params.lora_init_without_apply, params.use_jinja = True, True
    params.chat_template = (exported.folder / "chat_template.jinja").read_text("utf-8")
    params.api_keys = [KEY]
    params.n_ctx, params.n_parallel, params.warmup = 1024, 1, False
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    try:
        yield str(server.listening_address)
    finally:
        del server
        gc.collect()


def ask(client: openai.OpenAI, question: str, *, stream: bool, **more: Any) -> tuple[str, Any]:
    """An answer, and d2l's own field."""
    request: Any = {"model": "mill", "messages": user(question), "max_tokens": N_TOKENS}
    reply: Any = client.chat.completions.create(
        **request, temperature=0, stream=stream, extra_body=more
    )
    if not stream:
        return reply.choices[0].message.content, reply.model_extra.get("d2l")
    chunks = list(reply)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    return text, chunks[-1].model_extra.get("d2l")


@pytest.mark.parametrize("stream", [False, True])
def test_llama_cpp_answers_from_the_part_that_is_cited(stream: bool, exported: Shelf) -> None:
    """The last question comes to a part while the engine keeps its prompt as another part read it:
    what the engine keeps must not be taken for this part's."""
    asked = ((HOPPER, {}, 0), (LANTERN, {}, 1), (KEEPER, {}, 2), (HOPPER, {"page": "p. 3"}, 2))
    with (
        llama_server(exported) as address,
        routing(exported.folder, address) as server,
        server.client(api_key=KEY) as client,
        openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as direct,
    ):
        replies = [ask(client, question, stream=stream, d2l=wish) for question, wish, _ in asked]
        texts = []
        for question, _, n in asked:
            own = {"lora": [{"id": 2 - n, "scale": 1.0}], "cache_prompt": False}
            texts.append(ask(direct, question, stream=stream, **own)[0])
    assert [text for text, _ in replies] == texts
    first = [cited["parts"][0] for _, cited in replies]  # an engine may refuse, and cites no part
    assert [(part["part"], part["page"]) for part in first] == [(n, n + 1) for *_, n in asked]
    assert texts[0] != texts[3]  # one question, of two pages


def test_an_engine_that_wants_a_key_gets_the_clients(exported: Shelf) -> None:
    """And without one its refusal is no sign of an engine without a list of adapters."""
    with llama_server(exported) as address, routing(exported.folder, address) as server:
        with server.client(api_key="another") as client, pytest.raises(openai.AuthenticationError):
            say(client, "mill", HOPPER)
        with server.client(api_key=KEY) as client:
            first, other = (
                say(client, "mill", HOPPER, extra_body={"d2l": {"page": page}})
                for page in ("p. 1", "p. 3")
            )
    assert first != other


def test_an_engine_that_is_stopped_is_told(exported: Shelf) -> None:
    with ExitStack() as engine:
        address = engine.enter_context(llama_server(exported))
        with routing(exported.folder, address) as server, server.client(api_key=KEY) as client:
            say(client, "mill", HOPPER)
            engine.close()
            with pytest.raises(openai.InternalServerError, match="cannot be reached") as caught:
                say(client, "mill", HOPPER)
    assert caught.value.status_code == 502
