"""The HTTP/1.1 server of the tests: `python server.py` prints its port, and ends when its standard input is closed.

With the name of a PEM file as argument it speaks TLS.

/ok, /big (4 MB), /status/NNN, /204, /redirect, /close, /reset (part of a body), /hang, /slow, /chunked (endless),
/count, /xmlrpc, /dropped (its connection is closed when somebody asks for /drop).
"""

from __future__ import annotations

import json
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xmlrpc.client import dumps

BIG = b"x" * 4_000_000
stopping = threading.Event()
counts = {"connections": 0, "requests": 0}
dropped: list[socket.socket] = []


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and a small body leave in one segment

    def setup(self) -> None:
        super().setup()
        counts["connections"] += 1

    def log_message(self, *args: object) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        counts["requests"] += path not in ("/count", "/drop")
        if path == "/big":
            self.reply(200, BIG)
        elif path == "/count":
            self.reply(200, json.dumps(counts).encode())
        elif path.startswith("/status/"):
            self.reply(int(path.rpartition("/")[2]), b"status")
        elif path in ("/204", "/304"):
            self.reply(int(path[1:]))
        elif path == "/redirect":
            self.reply(302, b"moved", Location="/ok")
        elif path == "/close":
            self.close_connection = True
            self.reply(200, b"bye", Connection="close")
        elif path == "/dropped":
            dropped.append(self.connection)
            self.reply(200, b"ok")
        elif path == "/drop":
            while dropped:
                dropped.pop().shutdown(socket.SHUT_RDWR)
            self.reply(200, b"ok")
        elif path == "/hang":
            stopping.wait(30)
        elif path == "/slow":
            stopping.wait(0.3)
            self.reply(200, b"slow")
        elif path == "/xmlrpc":
            self.reply(200, dumps(("pong",), methodresponse=True).encode(), Content_Type="text/xml")
        elif path in ("/reset", "/chunked"):
            self.endless(path == "/chunked")
        else:
            self.reply(200, b"ok")

    def endless(self, chunked: bool) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", "1000")))
        self.end_headers()
        self.wfile.write(b"" if chunked else b"a part")
        while chunked and not stopping.wait(0.02):
            self.wfile.write(b"5\r\nchunk\r\n")
            self.wfile.flush()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET


class Server(ThreadingHTTPServer):
    """Says nothing of clients that hang up."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    stopping.set()
