import httpx


class Signing(httpx.BaseTransport):
    """Adds a signature to each request, and leaves the rest to the stock transport."""

    def __init__(self):
        self.inner = httpx.HTTPTransport()

    def handle_request(self, request):
        request.headers["x-signature"] = "..."
        return self.inner.handle_request(request)  # and close() is missing


def test_transport_that_cannot_be_closed(server):
    with httpx.Client(transport=Signing(), base_url=server) as client:
        client.get("/orders/1")
        KEPT.append(client)


class Closing(Signing):
    def close(self):
        self.inner.close()


def test_transport_that_cannot_be_closed_mended(server):
    with httpx.Client(transport=Closing(), base_url=server) as client:
        client.get("/orders/1")
        KEPT.append(client)


KEPT = []
