import httpx
import pytest


def fetch(client, path):
    response = client.send(client.build_request("GET", path), stream=True)
    response.raise_for_status()  # raises, and nobody is left to close what was sent
    with response:
        return response.read()


def test_error_before_the_with(client):
    with pytest.raises(httpx.HTTPStatusError):
        fetch(client, "/nowhere")


def test_error_before_the_with_mended(client):
    with pytest.raises(httpx.HTTPStatusError), client.stream("GET", "/nowhere") as response:
        response.raise_for_status()
