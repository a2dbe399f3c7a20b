import http.client

import pytest


@pytest.mark.httpleak(mode="warn", reason="only its record is wanted here")
def test_leak_in_the_records(address):
    connection = http.client.HTTPConnection(*address)
    connection.connect()
    KEPT.append(connection)


KEPT = []
