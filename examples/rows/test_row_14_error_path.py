import contextlib
import http.client

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


def order(address):
    connection = http.client.HTTPConnection(*address, timeout=5)
    connection.request("GET", "/orders/1")
    body = connection.getresponse().read()
    connection.close()  # not where one of the steps above fails
    return body


def test_each_step_fails_in_turn(httpleak, address):
    httpleak.sweep(lambda: order(address))


def order_closing(address):
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=5)) as connection:
        connection.request("GET", "/orders/1")
        return connection.getresponse().read()


def test_each_step_fails_in_turn_mended(httpleak, address):
    print(httpleak.sweep(lambda: order_closing(address)))
