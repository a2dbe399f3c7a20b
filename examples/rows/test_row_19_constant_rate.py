import time

import requests


def test_level_under_a_constant_rate(httpleak, server):
    before = httpleak.snapshot()
    with requests.Session() as session:
        for number in range(20):
            session.get(f"{server}/orders/{number}", timeout=5)
            time.sleep(0.005)  # 200 a second
        grown = httpleak.snapshot() - before
    print("sockets:", grown.sockets, "at most at once:", httpleak.peak("sockets"))
