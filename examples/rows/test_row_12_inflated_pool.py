import httpx


def test_connections_that_are_never_used_again(httpleak, server):
    with httpx.Client(base_url=server, limits=httpx.Limits(max_connections=10, max_keepalive_connections=0)) as client:
        for number in range(6):
            client.get(f"/orders/{number}")
        print(*(pool for pool in httpleak.pools() if pool.max_connections == 10))


def test_connections_that_are_never_used_again_mended(httpleak, server):
    with httpx.Client(base_url=server, limits=httpx.Limits(max_connections=10)) as client:
        for number in range(6):
            client.get(f"/orders/{number}")
        print(*(pool for pool in httpleak.pools() if pool.max_connections == 10))
