def test_body_never_read(client):
    request = client.build_request("GET", "/export")
    client.send(request, stream=True)


def test_body_never_read_mended(client):
    with client.stream("GET", "/export") as response:
        assert response.read()
