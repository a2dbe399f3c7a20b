"""Ignore patterns: which leaks are somebody else's, by the name of the resource or the file that made it."""

from fnmatch import fnmatchcase
from typing import Self

from pytest_httpleak.model.kinds import Kind
from pytest_httpleak.settings.wording import unknown

_CREATED = "created"


class Pattern:
    """One ignore pattern: `kind:glob` looks at a resource's names, `created:glob` (kind None) at its creation stack."""

    __slots__ = ("glob", "kind")

    def __init__(self, kind: Kind | None, glob: str) -> None:
        self.kind = kind
        self.glob = glob

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `threads:worker-*` or `created:*/vendored/*`; ValueError where the text is neither."""
        word, _, glob = (part.strip() for part in text.partition(":"))
        if not glob:
            raise ValueError(
                f"unusable pattern {text!r}; write a kind and a glob, as in 'threads:worker-*', "
                "or 'created:' and a glob for the files that create it"
            )
        if word == _CREATED:
            return cls(None, glob)
        try:
            return cls(Kind(word), glob)
        except ValueError:
            raise ValueError(f"unusable pattern {text!r}: {unknown('kind', word, (*Kind, _CREATED))}") from None

    def matches(self, kind: Kind, names: tuple[str, ...], files: tuple[str, ...]) -> bool:
        """Whether a resource is meant: one of its `names`, or one of the posix paths in its creation stack, `files`."""
        if self.kind is None:
            return any(fnmatchcase(file, self.glob) for file in files)
        return self.kind is kind and any(fnmatchcase(name, self.glob) for name in names)

    def __str__(self) -> str:
        return f"{_CREATED if self.kind is None else self.kind.value}:{self.glob}"
