"""The server as its clients see it: OpenAI's own client package, raw requests, and many at once."""

import json
import re
import shutil
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from d2l.serve.web import MAX_BODY_BYTES
from tests import tiny
from tests.serving import (
    ADAPTERS,
    BASE,
    N_TOKENS,
    QUESTIONS,
    Running,
    Shelf,
    chat_body,
    running,
    say,
    send,
    user,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- models -------------------------------------------------------------------------------------


def test_the_base_and_every_adapter_are_models(client: openai.OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert list(models) == [BASE, *sorted(ADAPTERS)]
    assert client.models.retrieve("pump").model_extra == {"parent": BASE, "root": "pump.lora"}
    assert client.models.retrieve(BASE).model_extra == {"parent": None, "max_model_len": 512}


def test_a_folder_that_comes_goes_or_changes_is_seen_without_a_restart(
    shelf: Shelf, tmp_path: Path
) -> None:
    folder = tmp_path / "adapters"
    shutil.copytree(shelf.folder / "note.lora", folder / "note.lora")
    with running(shelf, folder) as server, server.client() as client:
        before = say(client, "note", QUESTIONS[0])
        assert before == shelf.load("note").ask(QUESTIONS[0])
        with pytest.raises(openai.NotFoundError):
            say(client, "pump", QUESTIONS[0])
        shutil.copytree(shelf.folder / "pump.lora", folder / "pump.lora")
        assert [model.id for model in client.models.list()] == [BASE, "note", "pump"]
        after = say(client, "pump", QUESTIONS[0])
        assert after == shelf.load("pump").ask(QUESTIONS[0]) != before
        shutil.rmtree(folder / "note.lora")
        shutil.copytree(shelf.folder / "copper.lora", folder / "note.lora")  # compiled anew
        assert say(client, "note", QUESTIONS[0]) == shelf.load("copper").ask(QUESTIONS[0])
        shutil.rmtree(folder / "pump.lora")
        assert [model.id for model in client.models.list()] == [BASE, "note"]
        with pytest.raises(openai.NotFoundError):
            say(client, "pump", QUESTIONS[0])


def test_what_cannot_be_served_is_left_out_and_told_once(shelf: Shelf, tmp_path: Path) -> None:
    folder = tmp_path / "adapters"
    for name in ("note.lora", "other.lora", "broken.lora", "twin.lora", "twin"):
        shutil.copytree(shelf.folder / "note.lora", folder / name)
    config = json.loads((folder / "other.lora" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "another/base"
    (folder / "other.lora" / "adapter_config.json").write_text(json.dumps(config))
    (folder / "broken.lora" / "adapter_config.json").write_text("{")
    (folder / "notes.txt").write_text("no folder")
    with running(shelf, folder) as server, server.client() as client:
        for _ in range(2):
            assert [model.id for model in client.models.list()] == [BASE, "note", "twin"]
        told = sorted(remark.removeprefix(f"{folder}/") for remark in server.remarks)
    assert [remark.partition(":")[0] for remark in told] == [
        "broken.lora",
        "other.lora",
        "twin.lora",
    ]
    assert told[1] == f"other.lora: left out (is for another/base, not for {BASE})"
    assert told[2] == "twin.lora: left out (the name twin is taken)"


# ---- answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ADAPTERS)
def test_answers_are_those_of_ask_whole_and_streamed(
    name: str, client: openai.OpenAI, shelf: Shelf
) -> None:
    adapted = shelf.load(name)
    for question in QUESTIONS[:3]:
        expected = adapted.ask(question)
        assert say(client, name, question) == expected
        assert say(client, f"{name}.lora", question) == expected
        chunks = list(
            client.chat.completions.create(
                model=name,
                messages=user(question),
                max_tokens=N_TOKENS,
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
        assert "".join(pieces) == expected
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.prompt_tokens == len(adapted.prompt(question))
        assert chunks[-2].choices[0].finish_reason in ("stop", "length")


def test_the_base_answers_by_its_own_name_and_template(client: openai.OpenAI, shelf: Shelf) -> None:
    adapted = shelf.load("pump")
    assert say(client, "pump", QUESTIONS[0]) != say(client, BASE, QUESTIONS[0])
    assert say(client, BASE, QUESTIONS[0]) == adapted.ask_alone(QUESTIONS[0])


def test_a_document_goes_into_the_bases_prompt_as_ask_puts_it(
    client: openai.OpenAI, shelf: Shelf, server: Running
) -> None:
    adapted = shelf.load("pump")
    expected, _ = adapted.ask_with_document(QUESTIONS[0], tiny.DOCUMENT)
    for document in ({"text": tiny.DOCUMENT}, {"adapter": "pump"}):
        assert say(client, BASE, QUESTIONS[0], extra_body={"document": document}) == expected
    long = {"document": {"text": tiny.DOCUMENT * 20}}
    reply = client.chat.completions.create(
        model=BASE, messages=user(QUESTIONS[0]), max_tokens=N_TOKENS, extra_body=long
    )
    expected, left_out = adapted.ask_with_document(QUESTIONS[0], tiny.DOCUMENT * 20)
    assert reply.choices[0].message.content == expected
    assert reply.model_extra == {"document": {"tokens_left_out": left_out}}
    assert send(server, "/documents/pump")[2]["characters"] == len(tiny.DOCUMENT)
    with pytest.raises(openai.BadRequestError, match="one question to the base"):
        say(client, "pump", "?", extra_body={"document": {"text": "x"}})


@pytest.mark.slow
def test_two_hundred_requests_of_eight_clients_are_answered_as_ask_does(
    shelf: Shelf, server: Running
) -> None:
    expected = {}
    for name in ADAPTERS:
        adapted = shelf.load(name)
        expected |= {(name, question): adapted.ask(question) for question in QUESTIONS}
    assert len(set(expected.values())) > 20
    jobs = [list(expected)[n * 7 % len(expected)] for n in range(200)]  # adapters take turns

    def work(own: list[tuple[str, str]]) -> list[tuple[tuple[str, str], str]]:
        with server.client() as client:
            return [(job, say(client, *job)) for job in own]

    with ThreadPoolExecutor(8) as pool:
        done = [pair for pairs in pool.map(work, [jobs[n::8] for n in range(8)]) for pair in pairs]
    assert len(done) == 200
    assert {job for job, _ in done} == set(expected)
    assert [job for job, answer in done if answer != expected[job]] == []


def test_a_system_message_stands_behind_the_opening_and_turns_follow(
    client: openai.OpenAI, shelf: Shelf
) -> None:
    words = len(shelf.load("pump").opening) - len(tiny.encode(f"<|im_start|>system\n{tiny.SYSTEM}"))
    opening = tiny.SYSTEM + "".join(f" {word}" for word in tiny.WORDS[:words])
    turns = [
        {"role": "system", "content": "Be short."},
        *user("Where?"),
        {"role": "assistant", "content": "Here."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "why?"}],
        },
    ]
    reply = client.chat.completions.create(model="pump", messages=turns, max_tokens=3)  # type: ignore[arg-type]
    prompt = (
        f"<|im_start|>system\n{opening}\nBe short.<|im_end|>\n<|im_start|>user\nWhere?<|im_end|>\n"
        "<|im_start|>assistant\nHere.<|im_end|>\n<|im_start|>user\nAnd why?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == len(tiny.encode(prompt))


def test_an_answer_ends_before_a_stop_text(client: openai.OpenAI, shelf: Shelf) -> None:
    whole = shelf.load("harbor").ask(QUESTIONS[0])
    stop = whole[4:7]
    reply = client.chat.completions.create(
        model="harbor", messages=user(QUESTIONS[0]), max_tokens=N_TOKENS, stop=["never", stop]
    )
    expected = whole[: whole.index(stop)].rstrip()
    assert reply.choices[0].message.content == expected
    assert reply.choices[0].finish_reason == "stop"
    chunks = client.chat.completions.create(
        model="harbor", messages=user(QUESTIONS[0]), max_tokens=N_TOKENS, stop=stop, stream=True
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == expected


def test_a_seed_makes_sampling_the_same_again(client: openai.OpenAI, shelf: Shelf) -> None:
    words = [say(client, "harbor", "?", temperature=1.5, seed=seed) for seed in (1, 1, 2)]
    assert words[0] == words[1] != words[2]
    adapted = shelf.load("harbor")
    adapted.options = replace(shelf.asking, temperature=1.5)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert adapted.ask("?") == words[0]


def test_log_probabilities_are_those_of_the_model(client: openai.OpenAI, shelf: Shelf) -> None:
    reply = client.chat.completions.create(
        model="pump", messages=user("Where?"), max_tokens=3, logprobs=True, top_logprobs=4
    )
    assert reply.choices[0].logprobs is not None
    content = reply.choices[0].logprobs.content or []
    adapted = shelf.load("pump")
    ids = torch.tensor([adapted.prompt("Where?")])
    with torch.inference_mode():
        row = adapted.model(input_ids=ids).logits[0, -1].log_softmax(-1)
    top = row.topk(4)
    assert [t.logprob for t in content[0].top_logprobs] == pytest.approx(
        top.values.tolist(), abs=1e-4
    )
    assert content[0].logprob == content[0].top_logprobs[0].logprob  # greedy
    assert len(content) <= 3


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, None),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "7"}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"frequency_penalty": 0.5}, None),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"stop": [""]}, "stop.0"),
        ({"stop": "x" * 257}, "stop.0"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"document": {}}, "document"),
        ({"messages": [{"role": "user", "content": "word " * 600}]}, "messages"),
    ],
)
def test_malformed_requests_are_told_what_is_wrong(
    change: dict[str, Any], param: str | None, server: Running
) -> None:
    status, _, body = send(server, "/v1/chat/completions", chat_body(**change))
    assert status == 400
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["message"]
    assert param is None or body["error"]["param"] == param


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tools", [{}], "tools are not supported"),
        ("functions", [{}], "functions are not supported"),
        ("response_format", {"type": "json_object"}, "response_format is not supported"),
        ("n", 2, "n is not supported"),
    ],
)
def test_what_would_change_an_answer_and_is_not_supported_is_refused_in_plain_words(
    name: str, value: Any, message: str, server: Running
) -> None:
    status, _, body = send(server, "/v1/chat/completions", chat_body(**{name: value}))
    error = {"message": message, "type": "invalid_request_error", "param": name}
    assert (status, body["error"]) == (400, {**error, "code": "unsupported_parameter"})


def test_what_asks_for_nothing_is_ignored(server: Running) -> None:
    nothing = {"n": 1, "tools": [], "frequency_penalty": 0.0, "logit_bias": None, "user": "me"}
    assert send(server, "/v1/chat/completions", chat_body(**nothing))[0] == 200


def test_each_request_is_a_line_without_its_question(shelf: Shelf) -> None:
    lines: list[str] = []
    with running(shelf, report=lines.append) as server:
        for stream in (False, True):
            say_raw = chat_body(stream=stream)
            urllib.request.urlopen(
                urllib.request.Request(
                    f"{server.address}/v1/chat/completions",
                    say_raw,
                    {"Content-Type": "application/json"},
                ),
                timeout=60,
            ).read()
        send(server, "/v1/chat/completions", chat_body(model="no-such"))
        send(server, "/nowhere")
    answer = r"POST  /v1/chat/completions  200  pump  [\d,]+ \+ \d+ tokens  \d+\.\d s"
    assert [re.fullmatch(answer, line) is not None for line in lines] == [True, True, False, False]
    assert lines[2].startswith("POST  /v1/chat/completions  404  no-such  ")
    assert lines[3].startswith("GET  /nowhere  404  ")
    assert not [line for line in lines if "Where?" in line]


@pytest.mark.parametrize("body", [b"{", b"[]", b'"\xff"', b'{"model": "\\ud800"}', b"[" * 100_000])
def test_bodies_that_are_no_request_are_refused(body: bytes, server: Running) -> None:
    assert send(server, "/v1/chat/completions", body)[0] == 400
    assert send(server, "/health")[2]["status"] == "ok"


def test_unknown_models_paths_and_methods_have_their_status(
    client: openai.OpenAI, server: Running
) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        say(client, "no-such", "?")
    assert caught.value.code == "model_not_found"
    assert f"known here: {', '.join(sorted(ADAPTERS))}, {BASE}" in caught.value.message
    with pytest.raises(openai.NotFoundError, match="there is no model 'pumb'; did you mean 'pump'"):
        say(client, "pumb", "?")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("no-such")
    assert send(server, "/v1/nothing")[0] == 404
    assert send(server, "/v1/chat/completions")[0] == 405
    assert send(server, "/documents/no-such")[0] == 404


def test_a_body_of_fifty_megabytes_is_refused_and_the_server_lives(server: Running) -> None:
    with server.client() as client:
        for size in (MAX_BODY_BYTES, 50_000_000):
            with pytest.raises(openai.APIStatusError) as caught:
                say(client, "pump", "x" * size)
            assert caught.value.status_code == 413
        assert say(client, "pump", "Where?")


def test_pages_of_other_sites_get_nothing(server: Running) -> None:
    """Neither by a name that leads here, nor with what a form can send."""
    port = server.address.rpartition(":")[2]
    for host in ("evil.example", "localhost.evil.example", "a@b", "127.0.0.1:x", "::1", ""):
        assert send(server, "/v1/models", headers={"Host": host})[0] == 403, host
    for host in (f"localhost:{port}", "LOCALHOST", "127.0.0.1", f"[::1]:{port}"):
        assert send(server, "/v1/models", headers={"Host": host})[0] == 200, host
    form = {"Content-Type": "text/plain"}
    assert send(server, "/v1/chat/completions", chat_body(), headers=form)[0] == 415


def test_a_token_is_demanded_where_one_is_set(shelf: Shelf) -> None:
    with running(shelf, token="secret") as server:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic secret"}):
            status, told, body = send(server, "/v1/models", headers=headers)
            assert (status, body["error"]["code"]) == (401, "invalid_api_key")
            assert told["WWW-Authenticate".lower()] == "Bearer"
        with server.client(api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
            say(client, "pump", "?")
        with server.client(api_key="secret") as client:
            assert say(client, "pump", "Where?")
        assert send(server, "/health")[0] == 200
        with urllib.request.urlopen(server.address) as page:
            assert page.status == 200
        assert send(server, "/documents/pump")[0] == 401
