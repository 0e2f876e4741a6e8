"""A server of the shelf, and a client of it."""

from collections.abc import Iterator

import openai
import pytest

from tests.serving import Running, Shelf, running


@pytest.fixture(scope="module")
def server(shelf: Shelf) -> Iterator[Running]:
    with running(shelf) as found:
        yield found


@pytest.fixture
def client(server: Running) -> Iterator[openai.OpenAI]:
    with server.client() as found:
        yield found
