"""How to end what a function of the standard library has opened: it knows better than the barest thing below."""

from __future__ import annotations

from typing import Final

from pytest_httpleak.model.findings import Suspect
from pytest_httpleak.model.kinds import Kind

_SERVER: Final = "use `async with server:`, or `server.close()` and `await server.wait_closed()`, in a `finally`"
_TRANSPORT: Final = "call `transport.close()` in a `finally`"
_THREADSAFE: Final = "`cancel()` the future that `run_coroutine_threadsafe()` has returned, or wait for its `result()`"
EXECUTOR: Final = "use `with ThreadPoolExecutor() as executor:`, or call `executor.shutdown()` in a `finally`"
PROCESS_EXECUTOR: Final = EXECUTOR.replace("Thread", "Process")
_LOOPS_EXECUTOR: Final = "shut the executor down; the loop's own: `await loop.shutdown_default_executor()`"
_POOL: Final = "use `with` on the pool, or call its `close()` and `join()` in a `finally`"
_HANDLER: Final = "call `handler.close()` in a `finally`, after `logger.removeHandler(handler)` where a logger has it"
_SUBPROCESS: Final = "call `await process.communicate()`, or end it with `process.kill()` and `await process.wait()`"
_RUNNER: Final = "use `with asyncio.Runner() as runner:`, or call `runner.close()` in a `finally`"
_LISTENER: Final = "call `listener.stop()` in a `finally`"
_PROXY: Final = "use `with xmlrpc.client.ServerProxy(...) as proxy:`"
_QUEUE: Final = "call `queue.close()` and `queue.join_thread()` in a `finally`"
_PROCESS: Final = "`join()` the process before the test ends, and `close()` it"
URLOPEN: Final = "use `with urlopen(...) as response:`, or read the body to its end"
_SIMPLE_QUEUE: Final = "call `queue.close()` in a `finally`"
_SHARED_MEMORY: Final = "call `memory.close()` in a `finally`, and `memory.unlink()` once nobody needs it any more"
_MANAGER: Final = "use `with multiprocessing.Manager() as manager:`, or call `manager.shutdown()` in a `finally`"

# What of the standard library made it, by kind, file and function (None for any): there the barest kinds have a better end.
_BY_MAKER: Final[tuple[tuple[Kind, str, tuple[str, ...] | None, str], ...]] = (
    (Kind.SOCKETS, "asyncio/streams.py", ("start_server", "start_unix_server"), _SERVER),
    (Kind.SOCKETS, "asyncio/base_events.py", ("create_server",), _SERVER),
    (Kind.SOCKETS, "asyncio/unix_events.py", ("create_unix_server",), _SERVER),
    (
        Kind.SOCKETS,
        "asyncio/streams.py",
        ("open_connection", "open_unix_connection"),
        "call `writer.close()`, then `await writer.wait_closed()`, in a `finally`",
    ),
    (Kind.SOCKETS, "asyncio/base_events.py", ("create_connection", "create_datagram_endpoint"), _TRANSPORT),
    (Kind.SOCKETS, "asyncio/unix_events.py", ("create_unix_connection",), _TRANSPORT),
    (Kind.SOCKETS, "socketserver.py", None, "use `with` on the server, or call `server.server_close()` in a `finally`"),
    (Kind.TASKS, "asyncio/tasks.py", ("run_coroutine_threadsafe",), _THREADSAFE),
    (
        Kind.TASKS,
        "asyncio/taskgroups.py",
        ("create_task",),
        "leave the `async with` block of its group, which waits for it; or cancel the task and await it",
    ),
    (Kind.THREADS, "concurrent/futures/thread.py", None, EXECUTOR),
    (Kind.THREADS, "concurrent/futures/process.py", None, PROCESS_EXECUTOR),
    (Kind.FDS, "concurrent/futures/process.py", None, PROCESS_EXECUTOR),
    (Kind.THREADS, "asyncio/base_events.py", ("run_in_executor",), _LOOPS_EXECUTOR),
    (Kind.LOOPS, "asyncio/runners.py", ("_lazy_init", "get_loop", "__enter__"), _RUNNER),
    (Kind.THREADS, "logging/handlers.py", ("start",), _LISTENER),
    (Kind.SOCKETS, "logging/handlers.py", None, _HANDLER),
    (Kind.SOCKETS, "xmlrpc/client.py", None, _PROXY),
    (Kind.SOCKETS, "urllib/request.py", None, URLOPEN),
    (
        Kind.SOCKETS,
        "ftplib.py",
        ("connect",),
        "use `with ftplib.FTP(...) as ftp:`, or call `ftp.close()` in a `finally`",
    ),
    (
        Kind.SOCKETS,
        "imaplib.py",
        None,
        "use `with imaplib.IMAP4(...) as imap:`, or call `imap.logout()` in a `finally`",
    ),
    (Kind.SOCKETS, "poplib.py", None, "call `pop.close()` in a `finally`"),
    (Kind.SOCKETS, "smtplib.py", None, "use `with smtplib.SMTP(...) as smtp:`, or call `smtp.close()` in a `finally`"),
    (Kind.CONNECTIONS, "xmlrpc/client.py", None, _PROXY),
    (Kind.THREADS, "multiprocessing/pool.py", None, _POOL),
    (Kind.THREADS, "multiprocessing/queues.py", None, _QUEUE),
    (Kind.FDS, "logging/__init__.py", ("__init__", "_open"), _HANDLER),
    (Kind.FDS, "asyncio/base_events.py", ("subprocess_exec", "subprocess_shell"), _SUBPROCESS),
    (Kind.FDS, "asyncio/subprocess.py", None, _SUBPROCESS),
    (Kind.FDS, "multiprocessing/process.py", None, _PROCESS),
    (Kind.FDS, "multiprocessing/managers.py", ("start",), _MANAGER),
    (Kind.FDS, "multiprocessing/pool.py", None, _POOL),
    (Kind.FDS, "multiprocessing/queues.py", None, _QUEUE),
    (Kind.FDS, "multiprocessing/context.py", ("SimpleQueue",), _SIMPLE_QUEUE),
    (Kind.FDS, "multiprocessing/shared_memory.py", None, _SHARED_MEMORY),
    (
        Kind.FDS,
        "subprocess.py",
        ("__init__",),
        "use `with subprocess.Popen(...) as process:`, or call `process.communicate()`",
    ),
    (Kind.FDS, "os.py", ("popen",), "use `with os.popen(...) as output:`, or `close()` what it has returned"),
)


def by_maker(suspect: Suspect) -> str | None:
    """What the stack says of the way it was made; the frame next to the user's line knows best."""
    found = None
    for site in suspect.stack:
        if site == suspect.created:
            break
        file = site.file.replace("\\", "/")
        for kind, end, functions, text in _BY_MAKER:
            is_frozen = file == f"<frozen {end.removesuffix('.py')}>"  # as `os` is from 3.11 on
            is_there = is_frozen or file.endswith(f"/{end}")
            if kind is suspect.kind and is_there and (functions is None or site.function in functions):
                found = text
    return found
