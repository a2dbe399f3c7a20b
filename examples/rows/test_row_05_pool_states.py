import httpx


def test_states_of_a_pool(httpleak, server):
    def show():
        print(*(pool for pool in httpleak.pools() if pool.max_connections == 10))

    with httpx.Client(limits=httpx.Limits(max_connections=10), base_url=server) as client:
        with client.stream("GET", "/export"), client.stream("GET", "/orders/1") as answer:
            show()
            answer.read()
            show()
        show()  # the export was not read to its end: its connection cannot be used again
