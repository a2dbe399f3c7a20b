"""Finds the secrets in a text: the patterns, which a run that shows neither a URL nor a line of code does without."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

_HIDDEN: Final = "***"

# A port may still be a placeholder in a line of code: {port}, {self.port:d}, %s.
_PLACEHOLDER: Final = re.compile(r"\{[^{}]*\}|%[sd]")
_AUTHORITY: Final = re.compile(r"""(?:\[[^\]]*\]|[^:]*)(?::\d*)?[.,;:!?)\]}>'"]*""")
_TRAILING: Final = re.compile(r"""[.,;)\]}>'"]*\Z""")

# In prose a URL ends at white space: a raw path may hold any other character, a quotation mark too.
_URL: Final = re.compile(r"://(?P<authority>[^\s/?#]*)(?P<path>[^\s?#]*)(?P<rest>[?#]\S*)?")
_QUERY: Final = re.compile(r"(?<=[\w/.~%*)\]}-])\?(?P<query>[\w%\[~&+*=.-]\S*)")

# A key as Python writes it, in what leads to an object: `clients['http://127.0.0.1:8000'].pool`. It ends where its string
# does, or where it was cut: whoever writes such a path cuts its keys to less than a hundred characters.
_KEY: Final = re.compile(
    r"""\[[bf]?(?P<quote>['"])(?P<key>(?:\\.|(?!(?P=quote)).){0,100})(?:(?P=quote)|(?<=\.\.\.))\](?=[\s.,:;)\[\]]|\Z)"""
)
_MOST_KEYS: Final = 50

# In code it ends at the quotation mark that closes its string; a placeholder may have others of its own.
_CODE_URL: Final = re.compile(
    r"""://(?P<authority>(?:\{[^{}]*\}|[^\s/?#"'`])*)(?P<path>[^\s?#"'`]*)(?P<rest>[?#][^\s"'`]*)?"""
)
_CODE_QUERY: Final = re.compile(r"""\?[\w.%\[\]{}-]+=[^\s"'`]*""")

# Arguments of every HTTP library that carry headers, query values or credentials.
_SECRET_ARGUMENT: Final = re.compile(r"\b(?:headers|params|auth|cookies)\s*=\s*[\w.]*")
_SECRET_HEADER: Final = re.compile(
    r"""(authorization|cookie|x-api-key)(["']?\]?\s*[:,=]\s*)"""
    r"""(?:[bfru]{0,2}"[^"]*"?|[bfru]{0,2}'[^']*'?|[^"',)]+)""",
    re.IGNORECASE,
)
# The same without their names: the values of a dict that is written out, a header's second argument, a query in parts.
_STRING: Final = r"""(?:[bfru]{0,2}"(?:\\.|[^"\\])*"?|[bfru]{0,2}'(?:\\.|[^'\\])*'?)"""
_DICT_VALUE: Final = re.compile(rf"""([{{,]\s*{_STRING}\s*:\s*)({_STRING})""")
_ADDED_HEADER: Final = re.compile(rf"""(\.(?:add\w*_header|putheader|set_cookie)\(\s*{_STRING}\s*,\s*)({_STRING})""")
_PAIRS: Final = re.compile(r"""(?<![\w"'])([bfru]{0,2})(["'])[?&]?[\w.%\[\]-]+=(?:(?!\2)[^\s<>])+(?:\2|$)""")
_USERINFO: Final = re.compile(r"""(?<=["']//)[^\s/"'@]+@""")
_TUPLE: Final = re.compile(r"(\.(?:headers|params|auth|cookies)\s*=\s*\*\*\*)\s*,[^;]*")
# What is put into a text with a query: `"/items?token=***" % token`, `.format(token)`.
_FILLED: Final = re.compile(r"""(\?\*\*\*["']\s*(?:%\s*|\.format(?=\()))""")
_ADDED_TO_QUERY: Final = re.compile(rf"""(\?\*\*\*["'](?:\s*\+\s*[\w.*]+)*\s*\+\s*){_STRING}""")
_MOST_ADDED: Final = 20
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}


def without_secrets(text: str) -> str:
    """A text in prose with the userinfo, the query and the fragment of every URL in it gone."""
    pieces: list[str] = []
    done = 0
    for match in islice(_KEY.finditer(text), _MOST_KEYS):
        start, end = match.span("key")
        word = text[done:start].rsplit(None, 1)[-1]
        if "://" not in word and "?" not in word:  # else brackets and quotation marks are part of a URL
            pieces += [_prose(text[done:start]), _key(text[start:end])]
            done = end
    return "".join(pieces) + _prose(text[done:])


def _key(key: str) -> str:
    """A key with its secrets gone; white space ends no URL in it."""
    return _prose(_SPACE.sub("+", key) if "://" in key or _QUERY.search(key) else key)


_SPACE: Final = re.compile(r"\s")


def _prose(text: str) -> str:
    return _QUERY.sub(_hide_query, _URL.sub(_hide_parts, text))


def code_without_secrets(line: str) -> str:
    """A line of source code with the URLs, headers, parameters and credentials in it made harmless."""
    line = _CODE_QUERY.sub(f"?{_HIDDEN}", _CODE_URL.sub(_hide_code_parts, line))
    line = _SECRET_HEADER.sub(rf"\1\2{_HIDDEN}", _hide_after(_SECRET_ARGUMENT, line))
    line = _TUPLE.sub(r"\1", line)
    line = _PAIRS.sub(rf"\1\2{_HIDDEN}\2", _USERINFO.sub("", line))
    for pattern in (_DICT_VALUE, _ADDED_HEADER):
        line = pattern.sub(rf"\1{_HIDDEN}", line)
    for _ in range(_MOST_ADDED):
        line, number = _ADDED_TO_QUERY.subn(rf"\1{_HIDDEN}", line)
        if not number:
            break
    return _hide_after(_FILLED, line)


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


def _hide_after(pattern: re.Pattern[str], line: str) -> str:
    done = 0
    pieces: list[str] = []
    for match in pattern.finditer(line):
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
