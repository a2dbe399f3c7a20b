"""The third-party suites: where each comes from, what it needs, and which of its tests cannot run on loopback alone."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Suite:
    """One source distribution with tests in it.

    `install` are requirements beside the distribution itself, and `arguments` are pytest's, both divided by spaces.
    `deselect` maps a node id, as `--deselect` takes it, or the bare name of a test wherever it is, to the reason.
    `setup` is Python code that runs before the suite is collected, as the suite's own runner would do.
    `timeout` is in seconds, for one run.
    """

    name: str
    version: str
    install: str
    arguments: str = "tests"
    extras: str = ""
    deselect: dict[str, str] = field(default_factory=dict)
    setup: str = ""
    timeout: int = 900

    @property
    def requirement(self) -> str:
        """The distribution under test, as pip takes it."""
        return f"{self.name}{self.extras}=={self.version}"


_BEYOND = "waits for an address beyond the machine"

SUITES: tuple[Suite, ...] = (
    Suite(
        "urllib3",
        "2.8.0",
        install=(
            "anyio[trio]>=4.8 h2>=4.1 httpx>=0.28.1 hypercorn>=0.15 pysocks>=1.7.1 pytest>=8.3.4 "
            "pytest-socket>=0.7 pytest-timeout>=2.3.1 quart>=0.20 quart-trio>=0.12 trio>=0.27 cryptography>=44 "
            "idna>=3.10 pyopenssl>=25 trustme>=1.2.1"
        ),
        arguments="test --ignore=test/contrib/emscripten -m 'not requires_network'",
        deselect={"test_http2_probe_blocked_per_thread": _BEYOND + ", and hangs where that is refused at once"},
        timeout=1500,
    ),
    Suite(
        "requests",
        "2.34.2",
        install="pytest pytest-httpbin==2.1.0 httpbin~=0.10.0 pytest-mock pysocks trustme",
        deselect={
            "tests/test_requests.py::TestTimeout::test_connect_timeout": _BEYOND,
            "tests/test_requests.py::TestTimeout::test_total_timeout_connect": _BEYOND,
        },
    ),
    Suite(
        "aiohttp",
        "3.14.5",
        install=(
            "pytest freezegun pytest-mock pytest-timeout pytest-xdist pytest-cov proxy.py>=2.4.4rc5 trustme "
            "blockbuster re-assert brotli isal uvloop zlib-ng aiodns"
        ),
        arguments=(
            "-o addopts= tests/test_client_functional.py tests/test_connector.py tests/test_client_session.py "
            "tests/test_client_ws_functional.py"
        ),
        timeout=1200,
    ),
    Suite(
        "httpcore",
        "1.0.9",
        extras="[asyncio,http2,socks,trio]",
        install="pytest pytest-httpbin==2.1.0 httpbin~=0.10.0 pytest-trio==0.8.0",
    ),
    Suite(
        "httpx",
        "0.28.1",
        extras="[brotli,cli,http2,socks,zstd]",
        install="pytest<9 chardet trio trustme uvicorn cryptography",
    ),
    Suite(
        "starlette",
        "1.10.0",
        extras="[full]",
        install="pytest httpx2[zstd]>=2 blockbuster importlib-metadata opentelemetry-sdk trio pytest-codspeed",
    ),
    Suite(
        "uvicorn",
        "0.54.0",
        extras="[standard]",
        install=(
            "pytest pytest-mock pytest-codspeed trustme cryptography httpx2 a2wsgi==1.10.10 wsproto==1.3.2 pytest-xdist"
        ),
        arguments="-o addopts= tests",
    ),
    Suite(
        "tornado",
        "6.6.1",
        install="pytest pycurl",
        arguments="--pyargs tornado.test -p no:logging",
        setup="import logging; logging.getLogger('tornado.access').setLevel(logging.CRITICAL)",
    ),
    Suite(
        "requests-mock",
        "1.12.1",
        install="pytest testtools purl requests-futures fixtures",
    ),
    Suite(
        "responses",
        "0.26.3",
        install="pytest pytest-asyncio pytest-httpserver tomli-w",
        arguments="responses/tests",
    ),
    Suite(
        "aioresponses",
        "0.7.9",
        install="pytest pytest-asyncio ddt yarl aiohttp<3.13",
    ),
    Suite(
        "pytest-httpx",
        "0.36.2",
        install="pytest pytest-asyncio",
    ),
    Suite(
        "requests-cache",
        "1.3.3",
        extras="[all]",
        install="pytest pytest-rerunfailures requests-mock responses tenacity time-machine rich psutil",
        arguments="tests/unit",
    ),
    Suite(
        "flask",
        "3.1.3",
        extras="[async]",
        install="pytest<9 asgiref greenlet python-dotenv",
    ),
    Suite(
        "werkzeug",
        "3.1.9",
        install="pytest cffi cryptography ephemeral-port-reserve pytest-timeout watchdog",
        deselect={"reload": "a reloader in a process of its own, which never ends here, with or without the plugin"},
    ),
    Suite(
        "vcrpy",
        "9.4.2",
        install="pytest pytest-asyncio pytest-httpbin aiohttp boto3 httplib2 httpx requests tornado urllib3",
        arguments="tests -m 'not online'",
    ),
    Suite(
        "google-auth",
        "2.63.0",
        extras="[aiohttp,requests,urllib3,pyopenssl,reauth,enterprise_cert]",
        install=(
            "pytest pytest-asyncio pytest-localserver flask freezegun grpcio mock oauth2client responses aioresponses"
        ),
    ),
    Suite(
        "anyio",
        "4.16.0",
        extras="[trio]",
        install=(
            "blockbuster coverage exceptiongroup hypothesis psutil pytest>=9 pytest-mock pytest-timeout trustme "
            "truststore uvloop"
        ),
        arguments="tests -m 'not network'",
        deselect={"ipv6": "needs a name for the IPv6 loopback, which a machine may not have"},
    ),
    Suite(
        "pytest-asyncio",
        "1.5.0",
        install="pytest hypothesis coverage",
    ),
    Suite(
        "botocore",
        "1.44.8",
        install="pytest jsonschema",
        arguments=(
            "tests/unit/test_http_session.py tests/unit/test_http_client_exception_mapping.py "
            "tests/unit/test_awsrequest.py tests/unit/test_endpoint.py tests/unit/test_stub.py tests/unit/test_utils.py "
            "tests/unit/test_credentials.py tests/unit/test_tokens.py tests/functional/test_retry.py "
            "tests/functional/test_stub.py tests/functional/test_session.py tests/functional/test_s3.py "
            "tests/functional/test_config_provider.py tests/functional/test_h2_required.py"
        ),
    ),
    Suite(
        "pytest-httpserver",
        "1.2.0",
        install="pytest requests toml",
        arguments="tests -m 'not ssl'",
    ),
    Suite(
        "cheroot",
        "11.1.2",
        install=(
            "pytest pytest-mock jaraco.text jaraco.context portend requests requests-toolbelt requests-unixsocket "
            "trustme pyopenssl pytest-forked pytest-xdist pytest-cov pytest-rerunfailures pypytools"
        ),
        arguments="-o addopts= -p cheroot.test._pytest_plugin --pyargs cheroot.test",
    ),
    Suite(
        "websocket-client",
        "1.9.2",
        install="pytest python-socks wsaccel",
        arguments="websocket/tests",
    ),
    Suite(
        "trio",
        "0.35.0",
        install="pytest trustme pyopenssl cryptography async_generator",
        arguments="--pyargs trio._tests trio._core._tests -p trio._tests.pytest_plugin --skip-optional-imports",
    ),
)
