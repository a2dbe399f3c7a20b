"""Blocking calls: httpx for orders, urllib3 for the big export, http.client to see whether anyone is there."""

import contextlib
import http.client

import httpx
import urllib3


class OrdersClient:
    """Reads orders over one httpx client, which lives as long as this object."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=5)

    def state(self, number: int) -> str:
        return str(self.http.get(f"/orders/{number}").raise_for_status().json()["state"])

    def export(self) -> httpx.Response:
        """All orders as CSV, not yet read. Close it."""
        request = self.http.build_request("GET", "/export")
        return self.http.send(request, stream=True)  # planted: responses

    def close(self) -> None:
        self.http.close()


def export_header(pool: urllib3.PoolManager, url: str) -> list[str]:
    """The column names of the export: its first line, whatever its size."""
    with contextlib.closing(pool.request("GET", f"{url}/export", preload_content=False)) as response:
        return response.read(200).decode().splitlines()[0].split(";")


def is_alive(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    with contextlib.closing(connection):
        connection.request("GET", "/orders/1")
        return connection.getresponse().status == 200
