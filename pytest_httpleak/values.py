"""The objects of a wider fixture through which it may make what it needs only when a test asks for it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from itertools import islice
from types import BuiltinFunctionType, FunctionType, GeneratorType, MappingProxyType, MethodType, ModuleType
from typing import Any, Final

from pytest_httpleak.asking import MAPPINGS, attributes_of, defined_in, is_a, module_of, mro_of

_OF_THE_INTERPRETER: Final = (FunctionType, MethodType, GeneratorType, BuiltinFunctionType, type)
_SEQUENCES: Final = (list, tuple, set, frozenset)
_CONTAINERS: Final = (*_SEQUENCES, *MAPPINGS, MappingProxyType)
_BASES: Final = ("abc", "builtins", "typing", "unittest")
_LEVELS: Final = 3
_MOST_ELEMENTS: Final = 1000


class Place:
    """A class or module as it is before a fixture is set up, which may put something there."""

    __slots__ = ("_before", "_thing")

    def __init__(self, thing: object) -> None:
        self._thing = thing
        self._before = {name: id(value) for name, value in attributes_of(thing).items()}

    def new_names(self) -> tuple[object, list[str]]:
        """The class or module, and the names by which it has something that it had not before."""
        now = attributes_of(self._thing)
        return self._thing, [name for name, value in now.items() if self._before.get(name) != id(value)]


class Values:
    """What a fixture has given or put somewhere: its value, what was in that from the start, and what it has put in places.

    What a test puts into a list or dict later is the test's; what another fixture puts there is the fixture's, too. So is
    what `finalizers` end. None of these is kept alive but the value itself.
    """

    __slots__ = ("_finalizers", "_known", "_places", "_value")

    def __init__(
        self,
        value: object,
        places: list[tuple[object, list[str]]] | None = None,
        finalizers: Callable[[], list[object]] = list,
    ) -> None:
        self._value = value
        self._places = places or []
        self._finalizers = finalizers
        self._known: dict[int, Callable[[], object] | None] = {}
        self.learn(set())

    def elements(self) -> set[int]:
        """The identities of what is in them now."""
        return set(map(id, self._inside()))

    def learn(self, before: set[int]) -> None:
        """Take what has come since for what was there from the start."""
        self._known.update((id(each), _reference(each)) for each in self._inside() if id(each) not in before)

    def _is_known(self, element: object) -> bool:
        """Whether it was there, and not another one at the same address."""
        if id(element) not in self._known:
            return False
        reference = self._known[id(element)]
        return reference is None or reference() is element

    def can_grow(self) -> bool:
        """Whether more may be put into one of them."""
        return any(is_a(root, _CONTAINERS) for root in self._roots())

    def now(self) -> list[object]:
        """Those of them that are still there and may make something."""
        found = [*self._roots(), *filter(self._is_known, self._inside()), *self._finalizers()]
        return [each for each in found if _may_make(each)]

    def contain(self, thing: object) -> bool:
        """Whether something is in a list, tuple, set or dict among them, whoever has put it there."""
        return any(element is thing for element in self._inside())

    def _inside(self) -> Iterator[object]:
        for root in self._roots():
            yield from _elements(root)

    def _roots(self) -> list[object]:
        put = (attributes_of(place).get(name) for place, names in self._places for name in names)
        return [self._value, *put]


def places_of(thing: object) -> list[Place]:
    """A class, with the classes that it inherits from, or a module, as a fixture is about to find it."""
    if not is_a(thing, type):
        return [Place(thing)]
    cls: Any = thing
    return [Place(base) for base in mro_of(cls) if base.__module__.partition(".")[0] not in _BASES]


def _reference(thing: object) -> Callable[[], object] | None:
    return weakref.ref(thing) if type(thing).__weakrefoffset__ else None


def _elements(value: Any) -> list[object]:
    """What is in a list, tuple, set or dict, and in those that are in it; of very many, those that are least deep."""
    found: list[object] = []
    level = [value]
    for _ in range(_LEVELS):
        containers = (each for each in level if is_a(each, _CONTAINERS))
        level = list(islice((part for each in containers for part in _parts(each)), _MOST_ELEMENTS - len(found)))
        found += level
    return found


def _parts(value: Any) -> list[object]:
    """The parts as they are stored, whatever a class of somebody's makes of that."""
    if is_a(value, MappingProxyType):
        value = next((each for each in gc.get_referents(value) if is_a(each, dict)), {})
    kind = next(kind for kind in (*_SEQUENCES, *MAPPINGS) if is_a(value, kind))
    return list(islice(kind.values(value) if kind in MAPPINGS else kind.__iter__(value), _MOST_ELEMENTS))


def _may_make(value: object) -> bool:
    """Whether something may be made through an object: not a plain value, module or policy, which makes loops for anybody."""
    if is_a(value, _OF_THE_INTERPRETER):
        return True
    if is_a(value, ModuleType) or any("set_event_loop" in defined_in(base) for base in mro_of(type(value))):
        return False
    # A proxy of C says that its class is one of the interpreter's.
    if any("__wrapped__" in defined_in(base) for base in mro_of(type(value))):
        return True
    return value is not None and not module_of(value).startswith(("_pytest", "builtins"))
