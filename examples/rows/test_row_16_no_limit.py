import httpx


def test_pool_without_a_limit():
    httpx.Client(limits=httpx.Limits(max_keepalive_connections=20)).close()  # which leaves max_connections out


def test_pool_without_a_limit_mended():
    httpx.Client(limits=httpx.Limits(max_connections=50, max_keepalive_connections=20)).close()
