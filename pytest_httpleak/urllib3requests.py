"""The wrapper for urllib3's `_make_request()`, made to measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytest_httpleak.patches import Wall
from pytest_httpleak.wrappers import Note, Notes, number_of_arguments


def request_wrapper(own: Wall, failed: Note, notes: Notes) -> Callable[..., Any] | None:
    """A wrapper for `_make_request()` of urllib3 2; to hand on whatever there is would cost more than all that is noted.

    The plugin's own notes need but a few of the arguments. Where there are others, it is not for them. `failed` is told the
    connection of a request that has raised, which is promised to the notes before it.
    """
    original = notes.original
    number = number_of_arguments(original)
    if not notes.are_own() or number != len(_ARGUMENTS) or original.__code__.co_varnames[:number] != _ARGUMENTS:
        return None
    return _made_to_measure(own, failed, notes)


def _made_to_measure(  # noqa: C901  # each call saved here is one less for every request
    own: Wall, failed: Note, notes: Notes
) -> Callable[..., Any]:
    original, before, after = notes.original, notes.before, notes.after

    def _make_request(  # noqa: C901, PLR0917  # as urllib3 has it
        self: Any,
        conn: Any,
        method: Any,
        url: Any,
        body: Any = None,
        headers: Any = None,
        retries: Any = None,
        timeout: Any = None,
        chunked: Any = False,
        response_conn: Any = None,
        preload_content: Any = True,
        decode_content: Any = True,
        enforce_content_length: Any = True,
    ) -> Any:
        __tracebackhide__ = True
        for wall, note in before:
            if wall.on:
                try:
                    note(self, conn, method, url, timeout=timeout, is_failure_told=True)
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
        try:
            response = original(
                self,
                conn,
                method,
                url,
                body,
                headers,
                retries,
                timeout,
                chunked,
                response_conn,
                preload_content,
                decode_content,
                enforce_content_length,
            )
        except BaseException:
            if own.on:
                try:
                    failed(conn)
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    own.fall(error)
            raise
        for wall, note in after:
            if wall.on:
                try:
                    note(response, self, conn)
                except RecursionError:
                    pass
                except Exception as error:  # noqa: BLE001  # this is the wall
                    wall.fall(error)
        return response

    _make_request.__defaults__ = original.__defaults__
    return _make_request


_ARGUMENTS = (
    "self",
    "conn",
    "method",
    "url",
    "body",
    "headers",
    "retries",
    "timeout",
    "chunked",
    "response_conn",
    "preload_content",
    "decode_content",
    "enforce_content_length",
)
