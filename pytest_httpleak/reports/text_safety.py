"""Makes any text harmless before it is shown: no control characters, no query values, no userinfo, no headers.

Names and URLs come from the tested program, and so perhaps from whoever it talks to. Nothing else in this package
shows a text that has not been through here.
"""

from __future__ import annotations

from typing import Final

# Longest piece of one text that is shown; a URL may be as long as its sender likes.
MAX_SHOWN: Final = 400


def plain(text: str) -> str:
    r"""`text` on one line, with every character that a terminal or a reader would not see as itself escaped visibly.

    That is control characters and escape sequences (C0, C1), line ends, marks that turn the direction of writing,
    invisible ones, and lone surrogates: `\x1b`, `\n`, `\u202e`. All that is left can be encoded as UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def redact_url(text: str) -> str:
    """`text` with the userinfo, the query and the fragment of every URL in it gone: `http://host/path?***`.

    A relative URL (`/path?a=b`) is found by its question mark. Doing it twice changes nothing.
    """
    if "://" not in text and "?" not in text:
        return text
    from pytest_httpleak.reports import redaction  # here, as its patterns take long to compile

    return redaction.without_secrets(text)


def redact_code(line: str) -> str:
    """A line of source code without the secrets that may be written in it: URLs, headers, parameters, credentials."""
    from pytest_httpleak.reports import redaction  # as above

    return redaction.code_without_secrets(line)


def safe(text: str, *, limit: int | None = MAX_SHOWN) -> str:
    """`text` as it may be shown anywhere: plain, redacted, and cut to `limit` characters; None for no limit."""
    return _cut(redact_url(plain(text)), limit)  # in this order: an escaped line end can end no URL too early


def safe_name(text: str, *, limit: int | None = MAX_SHOWN) -> str:
    """A test id or path as it may be shown: plain and cut, but not redacted, because it has to be found again."""
    return _cut(plain(text), limit)


def safe_code(line: str) -> str:
    """A line of source code as it may be shown, without its indentation."""
    return _cut(redact_code(plain(line.strip()[: 5 * MAX_SHOWN].replace("\t", "    "))), MAX_SHOWN // 2)


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else text[: limit - 3] + "..."
