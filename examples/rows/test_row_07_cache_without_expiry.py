import pytest
import requests

SESSIONS = {}


@pytest.mark.httpleak(clients=1, reason="we know, and do not see that it adds up")
@pytest.mark.parametrize("tenant", range(9))
def test_session_for_each_tenant(server, tenant):
    session = SESSIONS.setdefault(tenant, requests.Session())
    session.get(f"{server}/orders/{tenant}", timeout=5)


@pytest.mark.parametrize("tenant", range(9))
def test_session_for_each_tenant_mended(server, tenant):
    with requests.Session() as session:
        session.get(f"{server}/orders/{tenant}", timeout=5)
