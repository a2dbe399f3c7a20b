"""The orders service: a real HTTP server on 127.0.0.1, run as a process of its own.

Prints the port it listens on, then serves until its standard input is closed.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EXPORT_LINES = 60_000  # about 2 MB: far more than a client takes off the wire before it is asked for


class OrdersHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together, without waiting for the client's acknowledgement in between

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        number = path.removeprefix("/orders/")
        if number.isdecimal():
            self.reply(200, json.dumps({"number": int(number), "state": "shipped"}))
        elif path == "/export":
            self.reply(200, "number;state;customer;total\n" + "4711;shipped;somebody;0000012.50\n" * EXPORT_LINES)
        elif path == "/busy":
            self.reply(503, "come back later")
        else:
            self.reply(404, "no such order")

    def reply(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Stay silent: the output belongs to pytest."""


class OrdersServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *args: object) -> None:
        """Stay silent: clients that hang up half-way are what this server is for."""


if __name__ == "__main__":
    with OrdersServer(("127.0.0.1", 0), OrdersHandler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        print(server.server_port, flush=True)
        sys.stdin.read()
        server.shutdown()
