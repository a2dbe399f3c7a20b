"""Makes any text harmless before it is shown: no control characters, no query values, no userinfo, no headers.

Names and URLs come from the tested program, and so perhaps from whoever it talks to. Nothing else in this package
shows a text that has not been through here.
"""

from __future__ import annotations

import re
from typing import Final

# Longest piece of one text that is shown; a URL may be as long as its sender likes.
MAX_SHOWN: Final = 400
_HIDDEN: Final = "***"

# A port may still be a placeholder in a line of code: {port}, {self.port:d}, %s.
_PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}|%[sd]")
_AUTHORITY: Final = re.compile(r"""(?:\[[^\]]*\]|[^:]*)(?::\d*)?[.,;:!?)\]}>'"]*""")
_TRAILING: Final = re.compile(r"""[.,;)\]}>'"]*\Z""")

# In prose a URL ends at white space: a raw path may hold any other character, a quotation mark too.
_URL: Final = re.compile(r"://(?P<authority>[^\s/?#]*)(?P<path>[^\s?#]*)(?P<rest>[?#]\S*)?")
_QUERY: Final = re.compile(r"(?<=[\w/.~%*)\]}-])\?(?P<query>[\w%\[~&+*=.-]\S*)")

# In code it ends at the quotation mark that closes its string.
_CODE_URL: Final = re.compile(r"""://(?P<authority>[^\s/?#"'`]*)(?P<path>[^\s?#"'`]*)(?P<rest>[?#][^\s"'`]*)?""")
_CODE_QUERY: Final = re.compile(r"""\?[\w.%\[\]{}-]+=[^\s"'`]*""")

# Arguments of every HTTP library that carry headers, query values or credentials.
_SECRET_ARGUMENT: Final = re.compile(r"\b(?:headers|params|auth|cookies)\s*=\s*[\w.]*")
_SECRET_HEADER: Final = re.compile(
    r"""(authorization|cookie|x-api-key)(["']?\]?\s*[:,=]\s*)"""
    r"""(?:[bfru]{0,2}"[^"]*"?|[bfru]{0,2}'[^']*'?|[^"',)]+)""",
    re.IGNORECASE,
)
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}


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
    return _QUERY.sub(_hide_query, _URL.sub(_hide_parts, text))


def redact_code(line: str) -> str:
    """A line of source code without the secrets that may be written in it: URLs, headers, parameters, credentials."""
    line = _CODE_QUERY.sub(f"?{_HIDDEN}", _CODE_URL.sub(_hide_code_parts, line))
    return _SECRET_HEADER.sub(rf"\1\2{_HIDDEN}", _hide_arguments(line))


def safe(text: str, *, limit: int | None = MAX_SHOWN) -> str:
    """`text` as it may be shown anywhere: plain, redacted, and cut to `limit` characters; None for no limit."""
    return _cut(redact_url(plain(text)), limit)  # in this order: an escaped line end can end no URL too early


def safe_name(text: str, *, limit: int | None = MAX_SHOWN) -> str:
    """A test id or path as it may be shown: plain and cut, but not redacted, because it has to be found again."""
    return _cut(plain(text), limit)


def safe_code(line: str) -> str:
    """A line of source code as it may be shown, without its indentation."""
    return _cut(redact_code(plain(line.strip().replace("\t", "    "))), MAX_SHOWN // 2)


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else text[: limit - 3] + "..."


def _hide_parts(match: re.Match[str]) -> str:
    rest = match["rest"] or ""
    return _without_userinfo(match, _hidden_query(rest[1:]) if rest.startswith("?") else _trailing(rest))


def _hide_code_parts(match: re.Match[str]) -> str:
    return _without_userinfo(match, f"?{_HIDDEN}" if (match["rest"] or "").startswith("?") else "")


def _without_userinfo(match: re.Match[str], rest: str) -> str:
    authority = match["authority"].rpartition("@")[2]
    if not _AUTHORITY.fullmatch(_PLACEHOLDER.sub("0", authority)):
        return f"://{_HIDDEN}"  # perhaps the beginning of a password with a slash in it
    return f"://{authority}{match['path']}{rest}"


def _hide_query(match: re.Match[str]) -> str:
    return _hidden_query(match["query"])


def _hidden_query(query: str) -> str:
    trailing = _trailing(query)
    return "?" + (_HIDDEN if len(trailing) < len(query) else "") + trailing


def _trailing(text: str) -> str:
    match = _TRAILING.search(text)
    return match[0] if match else ""


def _hide_arguments(line: str) -> str:
    done = 0
    pieces: list[str] = []
    for match in _SECRET_ARGUMENT.finditer(line):
        if match.start() < done:
            continue
        end = _end_of_literal(line, match.end())
        if end > match.end():
            opening = line[match.end()]
            call = opening == "(" and line[match.end() - 1] not in "= "
            pieces += [line[done : match.end()], f"({_HIDDEN})" if call else _HIDDEN]
            done = end
    return "".join(pieces) + line[done:]


def _end_of_literal(line: str, start: int) -> int:
    """Where the brackets or the string that begin at `start` end; `start` where neither does."""
    closing: list[str] = []
    quote = ""
    at = start
    while at < len(line):
        char = line[at]
        if quote:
            at += char == "\\"
            if char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
        elif char in _CLOSING:
            closing.append(_CLOSING[char])
        elif closing and char == closing[-1]:
            closing.pop()
        elif not closing:
            return start
        at += 1
        if not quote and not closing:
            return at
    return len(line)
