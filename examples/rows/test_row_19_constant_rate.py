import requests


def test_session_for_each_call(httpleak, server):
    sessions = []

    def call():
        sessions.append(requests.Session())
        sessions[-1].get(f"{server}/orders/1", timeout=5)

    httpleak.soak(call, rate=200, seconds=0.5)


def test_session_for_each_call_mended(httpleak, server):
    with requests.Session() as session:
        done = httpleak.soak(
            lambda: session.get(f"{server}/orders/1", timeout=5), rate=200, seconds=0.5, concurrency=10, p99=2.0
        )
    print(f"{done.calls} calls at a constant rate, {done.missed} of them never begun")
