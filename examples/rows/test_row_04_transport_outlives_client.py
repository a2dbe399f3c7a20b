import httpx


def test_transport_outlives_its_client(server):
    transport = httpx.HTTPTransport()
    transport.handle_request(httpx.Request("GET", f"{server}/orders/1")).read()
    KEPT.append(transport)  # nobody calls close(): its idle connection stays


def test_transport_outlives_its_client_mended(server):
    with httpx.HTTPTransport() as transport:
        transport.handle_request(httpx.Request("GET", f"{server}/orders/1")).read()


KEPT = []
