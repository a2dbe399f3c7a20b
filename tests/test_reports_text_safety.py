"""Nothing that a report shows can act on a terminal, or give away a secret."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from report_samples import EVIL

from pytest_httpleak.reports.text_safety import MAX_SHOWN, plain, redact_code, redact_url, safe, safe_code, safe_name

any_text = st.text(st.characters(exclude_categories=()), max_size=60)
quickly = settings(deadline=None, max_examples=150)
secret = st.text("abcXYZ019!$&'()*+,;=:@/?[]\"%<>", min_size=1, max_size=12).map(lambda tail: f"s3cret{tail}")


# -- control characters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harmful", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x07\x00\x7f", r"\x07\x00\x7f"),
        ("\x9b2J", r"\x9b2J"),
        ("abc\u202egpj", r"abc\u202egpj"),
        ("\u2066x\u2069\u200b\ufeff", r"\u2066x\u2069\u200b\ufeff"),
        ("\u2028\u2029\u00a0", r"\u2028\u2029\xa0"),
        ("\udc80", r"\udc80"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_an_escape(harmful: str, shown: str) -> None:
    assert plain(harmful) == shown


@pytest.mark.parametrize("harmless", ["", "tests/test_a.py::test_b[x-1]", "naïve Grüße 東京 🐍", "C:\\new\\test"])
def test_harmless_text_stays_as_it_is(harmless: str) -> None:
    assert plain(harmless) == harmless


@quickly
@given(any_text)
@example(EVIL)
def test_plain_text_is_one_printable_line_that_can_be_encoded(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert not any(unicodedata.category(char).startswith("C") for char in shown)
    shown.encode()


@quickly
@given(any_text)
def test_making_text_safe_twice_changes_nothing(text: str) -> None:
    assert safe(safe(text)) == safe(text)


def test_a_long_text_is_cut_and_says_so() -> None:
    assert safe("x" * 10_000) == "x" * (MAX_SHOWN - 3) + "..."


def test_a_text_of_the_greatest_length_is_not_cut() -> None:
    assert safe("x" * MAX_SHOWN) == "x" * MAX_SHOWN


def test_a_long_text_is_whole_where_no_limit_is_set() -> None:
    assert safe("x" * 10_000, limit=None) == "x" * 10_000


# -- URLs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h/p?token=s3cret&b=1", "http://h/p?***"),
        ("http://h?s3cret", "http://h?***"),
        ("http://h/p?a=s3cret#s3cret", "http://h/p?***"),
        ("http://h/p#s3cret", "http://h/p"),
        ("http://user:s3cret@h:80/p", "http://h:80/p"),
        ("http://s3cret@h/p", "http://h/p"),
        ("http://user:s3@cret@h/p", "http://h/p"),
        ("http://user:s3/cret@h/p", "http://***"),
        ("http://user:s3cret@[::1]:80/p", "http://[::1]:80/p"),
        ("ws+unix://user:s3cret@h/?a=s3cret", "ws+unix://h/?***"),
        ("1http://user:s3cret@h", "1http://h"),
        ("/items?token=s3cret", "/items?***"),
        ("GET /items?s3cret [200]", "GET /items?*** [200]"),
        ('GET http://h/p?q="s3cret"<s3cret>= [200]', "GET http://h/p?*** [200]"),
        ("from http://a?x=s3cret to http://u:s3cret@b", "from http://a?*** to http://b"),
        ("fetch('http://h/p?a=s3cret')", "fetch('http://h/p?***')"),
        ("see http://h/p?a=s3cret.", "see http://h/p?***."),
    ],
)
def test_query_userinfo_and_fragment_of_a_url_are_gone(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    "harmless",
    [
        "GET http://127.0.0.1:8000/items?*** [200]",
        "http://[::1]:8000/a/b.c",
        "<PoolState httpx http://127.0.0.1:8000 [1 active, 2 idle, 0 waiting | max 10]>",
        "refused by http://127.0.0.1:8000: no answer",
        "'http://h', idle",
        "did you close it? it is open",
        "http://h/p?",
        "127.0.0.1:53122 -> 127.0.0.1:8000",
        "user@example.org",
        "colour #fff",
    ],
)
def test_text_without_a_secret_is_left_alone(harmless: str) -> None:
    assert redact_url(harmless) == harmless


@quickly
@given(secret, st.sampled_from(["http://h/p?{}", "GET /p?a={} [200]", "x http://h?a=b&c={} y", "<http://h:1/#{}>"]))
def test_no_query_or_fragment_survives(value: str, template: str) -> None:
    assert "s3cret" not in redact_url(template.format(value))


@quickly
@given(st.text("abc019!$&'()*+,;=:%", max_size=8))
def test_no_password_survives(tail: str) -> None:
    assert "s3cret" not in redact_url(f"GET http://user:s3cret{tail}@127.0.0.1:8000/p [200]")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("x.clients['http://h:80'].pool", "x.clients['http://h:80'].pool"),
        ("x['http://u:s3cret@h/p?a=s3cret'].pool[0]", "x['http://h/p?***'].pool[0]"),
        ("x['http://u:s3cret@h'].y[\"http://h/?s3cret='\"].z", "x['http://h'].y[\"http://h/?***'\"].z"),
        ("x['http://h/?a=s3cret s3cret'][1], variable 'y'", "x['http://h/?***'][1], variable 'y'"),
        (r"x['http://u:s3cret\'][\'@h'].y", "x['http://h'].y"),
        ("x[b'http://h?s3cret'].y", "x[b'http://h?***'].y"),
        ("x['http://h/p?a=s3cret, s3cret...].y", "x['http://h/p?***...].y"),
        ("x['/p?a=s3cret'], x['/p']", "x['/p?***'], x['/p']"),
        ("GET http://h/?a=x['s3cret'].s3cret [200]", "GET http://h/?*** [200]"),
        ("GET http://u:x['s3cret'].s3cret@h/ [200]", "GET http://h/ [200]"),
        ("GET http://u:x['s3cret']s3cret/@h/ [200]", "GET http://*** [200]"),
        ("x['http://u:']s3cret@h'].y", "x['http://h'].y"),
    ],
)
def test_a_path_goes_on_after_a_key_that_is_a_url(path: str, shown: str) -> None:
    assert redact_url(path) == shown
    assert redact_url(shown) == shown


@quickly
@given(secret, st.sampled_from(["http://h/p?a={}", "http://u:s3cret{}@h/", "/p?{}", "http://u:{}@h?x"]))
def test_no_secret_in_a_key_survives(value: str, template: str) -> None:
    key = template.format(value)
    shown = redact_url(f"module attribute app.clients[{key!r}].pool")
    assert "s3cret" not in shown


def test_many_keys_are_looked_through_in_no_time() -> None:
    safe("x['a']" * 50_000 + "['" * 50_000)


def test_an_escaped_line_end_does_not_end_a_url_too_early() -> None:
    assert safe("http://h/p?a=b\ns3cret") == "http://h/p?***"


def test_a_very_long_text_is_looked_through_in_no_time() -> None:
    safe("a" * 200_000 + "://" * 1000 + "?" * 1000)


# -- code --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('get("http://u:s3cret@h/p?t=s3cret")', 'get("http://h/p?***")'),
        ("get(f'{base}/items?token=s3cret')", "get(f'{base}/items?***')"),
        ("""get(f"http://user:{words['s3cret']}@{host}/")""", 'get(f"http://{host}/")'),
        ('get(f"http://{user}:{word}@{host}:{port:d}/?t={s3cret}")', 'get(f"http://{host}:{port:d}/?***")'),
        ('get(url, headers={"X-Key": "s3cret"}, timeout=1)', "get(url, headers=***, timeout=1)"),
        ('get(url, params={"a": ["s3cret", {"b": 1}]})', "get(url, params=***)"),
        ('get(url, auth=("user", "s3)cret"))', "get(url, auth=***)"),
        ('get(url, auth=BasicAuth("user", "s3cret"))', "get(url, auth=BasicAuth(***))"),
        (r'get(url, cookies="s3\"cret")', "get(url, cookies=***)"),
        ('get(url, headers={"a": "s3cret",', "get(url, headers=***"),
        ('client.headers["Authorization"] = "Bearer s3cret"', 'client.headers["Authorization"] = ***'),
        ("connection.putheader('Cookie', f's3cret')", "connection.putheader('Cookie', ***)"),
        (r'send(b"GET / HTTP/1.1\r\nAuthorization: Basic s3cret")', r'send(b"GET / HTTP/1.1\r\nAuthorization: ***")'),
        ('get(auth=("a", params={"s3cret": 1}))', "get(auth=***)"),
        ('get(url, {"token": "s3cret", "n": 1}, stream=True)', 'get(url, {"token": ***, "n": 1}, stream=True)'),
        ("request.add_header('X-Key', 's3cret')", "request.add_header('X-Key', ***)"),
        ('s.auth = "user", "s3cret"; s.get(url)', "s.auth = ***; s.get(url)"),
        ('query = "token=s3cret"; get(url + "?" + query)', 'query = "***"; get(url + "?" + query)'),
        ('get(url + "/items?token=%s" % "s3cret", stream=True)', 'get(url + "/items?***" % ***, stream=True)'),
        ('get("{}/items?token={}".format(url, "s3cret"))', 'get("{}/items?***".format(***))'),
        ('get(url + "/items?a=" + name + "s3c" + "ret")', 'get(url + "/items?***" + name + *** + ***)'),
        ('get("http:" + "//user:s3cret@" + host)', 'get("http:" + "//" + host)'),
    ],
)  # fmt: skip
def test_a_line_of_code_keeps_its_secrets(line: str, shown: str) -> None:
    assert redact_code(line) == shown


@pytest.mark.parametrize(
    "line",
    [
        "response = client.send(request, stream=True)",
        'response = client.get("http://127.0.0.1:8000/items", headers=headers, auth=auth)',
        'session.get(f"http://{host}:{port}/", params=None)',
        """session.get(f"http://127.0.0.1:{ports['http']}/a")""",
        """session.get(f"http://{environ['HOST']}:{port('http')}/a")""",
        'session.get("http://%s:%d/" % address)',
        'pattern = re.compile(r"https?://")',
        "x = a if b else c",
        'with open(root / "a.txt", encoding="utf-8") as file:',
        'sizes = {"small": 1, name: large}',
        'subprocess.run(["make", "-j4"], env=environ)',
        'raise ValueError(f"{key} is {value!r}")',
    ],
)
def test_a_line_of_code_without_secrets_is_left_alone(line: str) -> None:
    assert redact_code(line) == line


def test_a_very_long_line_of_code_is_looked_through_in_no_time() -> None:
    for text in ("x" * 200_000, '"a=' * 50_000, '{"a": "' * 50_000, '?***" + ' * 50_000):
        safe_code(text)


def test_a_line_of_code_is_shown_without_its_indentation() -> None:
    assert safe_code("\t    return\tget()\n") == "return    get()"


def test_an_escape_sequence_in_a_line_of_code_is_shown_as_text() -> None:
    assert safe_code("x = '\x1b[2J'") == r"x = '\x1b[2J'"


def test_a_test_id_is_not_redacted_so_that_it_can_be_found() -> None:
    assert safe_name("test_a.py::test_b[http://u:p@h/?a=b]") == "test_a.py::test_b[http://u:p@h/?a=b]"
