"""Ways to a server: `python network.py FOLDER` prints its ports as JSON, and ends when its standard input is closed.

tls: HTTPS with the certificate in data/localhost.pem. h2: HTTP/2 without TLS. proxy: forwards, and tunnels with
CONNECT, save to `refused.test`. socks: SOCKS5, the same. plain, and http.sock in FOLDER: HTTP/1.1, and WebSockets.
All answer `ok`, or 4 MB where the path says /big; /hang never answers.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import ssl
import sys
from pathlib import Path

BIG = b"x" * 4_000_000
Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


async def serve_http(reader: Reader, writer: Writer) -> None:
    while head := await read_head(reader):
        if b"/hang" in head.partition(b"\r\n")[0]:
            await reader.read()
            break
        if b"upgrade: websocket" in head.lower():
            await serve_websocket(head, reader, writer)
            break
        body = BIG if b"/big" in head.partition(b"\r\n")[0] else b"ok"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()


async def serve_websocket(head: bytes, reader: Reader, writer: Writer) -> None:
    lines = (line.partition(b": ") for line in head.split(b"\r\n"))
    key = next(value for name, _, value in lines if name.lower() == b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    upgrade = b"HTTP/1.1 101 Upgraded\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    writer.write(upgrade + b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept)
    await reader.read()


async def serve_proxy(reader: Reader, writer: Writer) -> None:
    while head := await read_head(reader):
        method, target, _ = head.split(b" ", 2)
        if method != b"CONNECT":
            body = BIG if target.endswith(b"/big") else b"forwarded"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        elif target.startswith(b"refused.test"):
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        else:
            host, _, port = target.decode().rpartition(":")
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            await tunnel(reader, writer, host, int(port))
            return


async def serve_socks(reader: Reader, writer: Writer) -> None:
    _, methods = await reader.readexactly(2)
    await reader.readexactly(methods)
    writer.write(b"\x05\x00")
    kind = (await reader.readexactly(4))[3]
    size = 4 if kind == 1 else (await reader.readexactly(1))[0]
    host = await reader.readexactly(size)
    port = int.from_bytes(await reader.readexactly(2))
    name = ".".join(map(str, host)) if kind == 1 else host.decode()
    if name == "refused.test":
        writer.write(b"\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00")
        return
    writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
    await tunnel(reader, writer, name, port)


async def serve_h2(reader: Reader, writer: Writer) -> None:
    import h2.connection
    import h2.events
    from h2.config import H2Configuration

    state = h2.connection.H2Connection(H2Configuration(client_side=False))
    state.initiate_connection()
    writer.write(state.data_to_send())
    while data := await reader.read(65536):
        for event in state.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                path = dict(event.headers)[b":path"]
                if path == b"/hang":
                    continue
                state.send_headers(event.stream_id, [(":status", "200")])
                # /big never ends: a part of the body, which is enough to leave the stream open
                state.send_data(event.stream_id, b"a part" if path == b"/big" else b"ok", end_stream=path != b"/big")
            elif isinstance(event, h2.events.DataReceived):
                state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        writer.write(state.data_to_send())
        await writer.drain()


async def tunnel(reader: Reader, writer: Writer, host: str, port: int) -> None:
    upstream_reader, upstream_writer = await asyncio.open_connection(host, port)
    try:
        await asyncio.gather(pump(reader, upstream_writer), pump(upstream_reader, writer))
    finally:
        upstream_writer.close()


async def pump(reader: Reader, writer: Writer) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def read_head(reader: Reader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def closing(serve):  # type: ignore[no-untyped-def]
    async def handle(reader: Reader, writer: Writer) -> None:
        try:
            await serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has hung up
        finally:
            writer.close()

    return handle


async def main(folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("data") / "localhost.pem")
    ports = {}
    for name, serve, tls in (
        ("tls", serve_http, context),
        ("plain", serve_http, None),
        ("h2", serve_h2, None),
        ("proxy", serve_proxy, None),
        ("socks", serve_socks, None),
    ):
        server = await asyncio.start_server(closing(serve), "127.0.0.1", 0, ssl=tls)
        ports[name] = server.sockets[0].getsockname()[1]
    await asyncio.start_unix_server(closing(serve_http), folder / "http.sock")
    print(json.dumps(ports), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # whoever is still being served is not interested any more


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
