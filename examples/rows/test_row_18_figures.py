import pytest
import urllib3


@pytest.mark.httpleak(mode="warn", reason="only its figures are wanted here")
def test_leak_in_the_figures(server):
    pool = urllib3.PoolManager(timeout=5)
    pool.request("GET", f"{server}/orders/1")
    KEPT.append(pool)


KEPT = []
