import httpx
import pytest


@pytest.mark.httpleak(max_clients=2)
def test_client_for_each_call(server):
    for number in range(5):
        with httpx.Client() as client:  # closed, and yet a new connection for each call
            client.get(f"{server}/orders/{number}")


@pytest.mark.httpleak(max_clients=2)
def test_client_for_each_call_mended(server):
    with httpx.Client() as client:
        for number in range(5):
            client.get(f"{server}/orders/{number}")
