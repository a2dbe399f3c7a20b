"""Records of facts: immutable, compared by their values, made from annotated fields."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar, dataclass_transform


@dataclass_transform(frozen_default=True)
class Facts:
    """The base of a record, whose annotations are its fields; those with a value in the class may be left out.

    It is to a frozen dataclass what it is to a type checker, but takes a twentieth of the time to be defined: every run
    imports a dozen of these, and makes few. A subclass is not to be derived from, nor to have class variables.
    """

    FIELDS: ClassVar[tuple[str, ...]] = ()
    NAMES: ClassVar[frozenset[str]] = frozenset()
    REQUIRED: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        cls.FIELDS = tuple(cls.__annotations__)
        cls.NAMES = frozenset(cls.FIELDS)
        cls.REQUIRED = cls.NAMES - vars(cls).keys()

    def __init__(self, *values: Any, **named: Any) -> None:
        fields, given = self.FIELDS, self.__dict__
        given.update(zip(fields, values))  # noqa: B905  # to say that they may differ in length doubles what this takes
        if not named and len(values) == len(fields):  # as most are made
            return
        given.update(named)
        if len(given) != len(values) + len(named) or not self.REQUIRED <= given.keys() <= self.NAMES:
            missing = ", ".join(sorted(self.REQUIRED - given.keys()))
            raise TypeError(
                f"{type(self).__name__}({', '.join(fields)}) was given {len(values)} values and "
                f"{', '.join(named) or 'no names'}" + (f"; it lacks {missing}" if missing else "")
            )

    def values(self) -> dict[str, Any]:
        """All fields in their order, by name."""
        return {name: getattr(self, name) for name in self.FIELDS}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return self.values() == other.values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.values().values()))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.values().items())
        return f"{type(self).__name__}({fields})"


F = TypeVar("F", bound=Facts)


def replace(record: F, **changes: Any) -> F:
    """The same record with some fields changed."""
    return type(record)(**{**record.__dict__, **changes})
