"""What keeps an object alive: the shortest path to it from a module, a class, a fixture, a frame or a task.

Every question is a scan of the heap, so only leaks that are about to be reported are asked about, within a limit of
processor time, which does not depend on what else the machine has to do: a long one where the answer decides, a short
one where it only explains.

A search passes over what `gc.freeze` has set aside, where the dicts of all modules may be, so whoever searches takes it
back first: that takes no time. It is not frozen again, for that would keep the garbage of the whole run.
"""

from __future__ import annotations

import functools
import gc
import signal
import sys
import threading
import types
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

from pytest_httpleak.asking import attribute, is_a, module_of, referents_of, referrers_of
from pytest_httpleak.clocks import Real
from pytest_httpleak.probes.fields import (
    is_by_class,
    is_cell,
    is_mapping,
    is_queue,
    is_shared_state,
    is_stack,
    may_be_field,
)
from pytest_httpleak.probes.paths import Root, Step, frame_at, of_thread, owner_of, root_of, task_at
from pytest_httpleak.probes.ways import Way, is_users, leads_to_class, steps_from
from pytest_httpleak.userfiles import is_of_asyncio

_LEVELS: Final = 8  # that are told
_USERS_LEVELS: Final = 5  # to a place of the user's, where one of a library's is nearer
_MOST_LEVELS: Final = 16  # that are searched for an answer that decides: an application keeps its routes that deep
_WIDEST: Final = 400
_USERS_WIDEST: Final = 100
_TO_PREFER: Final = 0.1  # seconds
_AT_ONCE: Final = 200  # dicts that one scan of the heap is asked for
_OWN: Final = "pytest_httpleak"
# What must be ended with the program is listed in them, whoever has forgotten it.
_REGISTRARS: Final = ("billiard.", "concurrent.", "multiprocess.", "multiprocessing.")  # with the forks of the last
_FACTORY: Final = defaultdict.__dict__["default_factory"].__get__  # without a question to the object
_SKIPPED: Final = (types.TracebackType, types.BuiltinFunctionType)


GIVEN_UP: Final = Root("", "?")  # the answer of a search that there was no time to end


def process_wide(thing: object, way: Way | None = None, *, seconds: float = 5.0) -> Root | None:
    """The module or class attribute, or the cached function, that holds `thing` through attributes alone; else None.

    Such a client is made once and lives as long as the process. A list or dict on the way makes it a registry, which
    can grow, so it does not count; one by class, as of singletons, cannot, nor one of classes, nor a tuple with names or
    unlike parts. A `defaultdict` that has made what it holds, and an `ExitStack`, is a part of whatever ends it, but grows
    where it is a module's or class's. A class or cached function that a call has made, as a test may or a mock does, is a
    part of the way, and no end. What a library has made itself it may also keep in a container of its own: `packages` are
    those that made `thing`. A variable of its own in a function's closure is an attribute of that function. The `way` says
    where it may also end, or may not. `GIVEN_UP` where that could not be told in `seconds` of processor time.
    """
    way = way or Way()
    if id(thing) in way.ends:
        return Root(module_of(thing), "", thing)
    return _climb(thing, way, seconds)


def held_by(thing: object, *, seconds: float = 0.3) -> str | None:
    """What still refers to `thing`, in words: `module attribute app.api._last`; None if that cannot be told in time.

    A place of the user's is told before one of a library's, which may be nearer, if it is no more than a few steps away; and
    a place of the process before what pytest has of the test and lets go of.
    """
    current, states = _as_current_loop(thing), _states_of_tasks()
    root = _climb(thing, Way(is_any=True, aside=current | states), seconds)
    if root is None and current:
        root = _climb(thing, Way(is_any=True, aside=states), seconds)
    if root is GIVEN_UP:
        return None
    if root is None:
        return _held_by_handler(thing, seconds)
    better = None
    if root.module and not is_users(root.module):
        better = _climb(thing, Way(is_any=True, is_users=True, aside=current | states), _TO_PREFER)
    elif not root.module and root.own is not None:
        better = _climb(thing, Way(is_any=True, aside=current | states | _with_dict(root.own)), _TO_PREFER)
    return root.text if better is None or not better.module else better.text


def _with_dict(item: object) -> frozenset[int]:
    return frozenset((id(item), id(attribute(item, "__dict__"))))


def _held_by_handler(thing: object, seconds: float) -> str | None:
    """The same of what is called for a signal: code in C has it, of which the collector does not know."""
    known = ((signal.getsignal(number), getattr(number, "name", number)) for number in signal.valid_signals())
    names = {id(handler): f"handler of {name}" for handler, name in known if callable(handler)}
    root = _climb(thing, Way(is_any=True, ends=names), seconds) if names else None
    if root is None or id(root.end) not in names:
        return None
    return names[id(root.end)] + (f", its {root.text[1:]}" if root.text.startswith(".") else root.text)


def _states_of_tasks() -> frozenset[int]:
    """The identities of where anyio has what it knows of all tasks, which it forgets with them."""
    states = attribute(sys.modules.get("anyio._backends._asyncio"), "_task_states")
    return frozenset(id(part) for part in (states, attribute(states, "data")) if part is not None)


def _as_current_loop(thing: object) -> frozenset[int]:
    """The identity of where asyncio has a loop as the current one, which says least of all that may refer to it."""
    current = attribute(attribute(sys.modules.get("asyncio.events"), "_event_loop_policy"), "_local")
    is_current = attribute(current, "_loop", None) is thing
    return frozenset((id(attribute(current, "__dict__")),)) if is_current else frozenset()


def _climb(thing: object, way: Way, seconds: float) -> Root | None:
    gc.unfreeze()
    end = Real.thread_time() + seconds
    level = [Step(thing, "", None)]
    seen = {id(thing), id(level), *way.aside}
    if is_a(thing, threading.Thread):
        seen.add(id(getattr(threading, "_active", None)))  # that it runs is known
    last: Root | None = None
    is_told = way.is_any and not way.is_users  # also where it is no place that could be emptied
    for _ in range(_USERS_LEVELS if way.is_users else _LEVELS if way.is_any else _MOST_LEVELS):
        above: list[Step] = []
        fallback: Root | None = None
        steps = list(_referring(level, above, seen, way))
        owners_of = _owners_of(steps, end)
        if owners_of is None:
            return last or GIVEN_UP
        for step in steps:
            owners = owners_of.get(id(step.thing), [])
            root = root_of(step, owners)
            if root is not None:
                if way.may_end(root.module) and _may_lead_on(step, root.module, way, is_end=True):
                    text = of_thread(step, root) or root.text + step.path()
                    own = root.own if step.below is None else step.below.thing
                    place = f"{root.text}{step.text}"
                    return root._replace(text=text, through=step.classes(), place=place, own=own)
                continue
            part = _part(step, owners, seen, way)
            if part is not None and _may_lead_on(part, module_of(part.thing), way):
                if id(part.thing) in way.ends and not part.contains:
                    return Root(module_of(part.thing), part.path(), part.thing, through=part.classes())
                above.append(part)
                last = last or (_last(part) if is_told else None)
                fallback = fallback or (task_at(part) if is_told else None)
        if fallback is not None or not above:
            return fallback or last
        level = above[: _USERS_WIDEST if way.is_users else _WIDEST]
    return last


def _last(part: Step) -> Root | None:
    """A frame that only a traceback keeps: the answer where no other is found; not what asyncio itself has ended tasks by."""
    root = frame_at(part)
    return None if root is None or is_of_asyncio(part.thing.f_code.co_filename) else root


def _owners_of(steps: list[Step], end: float) -> dict[int, list[Any]] | None:
    """By the identities of the dicts among them, what refers to each; None where that takes too long.

    A scan of the heap takes as much longer as it is asked for more of them, and cannot be ended.
    """
    mappings = list({id(step.thing): step.thing for step in steps if is_a(step.thing, dict)}.values())
    owners: dict[int, list[Any]] = {id(mapping): [] for mapping in mappings}
    for at in range(0, len(mappings) + 1, _AT_ONCE):
        if Real.thread_time() > end:
            return None
        asked = mappings[at : at + _AT_ONCE]
        keys = set(map(id, asked))
        for owner in referrers_of(asked):
            for key in {id(part) for part in referents_of(owner)} & keys:
                owners[key].append(owner)
    return owners


def _may_lead_on(step: Step, module: str, way: Way, *, is_end: bool = False) -> bool:
    """Whether the way may go on from a step of that module, or end there: to a container only from what it belongs to."""
    below = step.below
    if is_end and not way.is_any and _is_ended_by_its_keeper(step):
        return False
    if step.contains or below is None or not below.contains:
        return True
    is_nested = below.below is not None and below.below.contains
    if not is_nested and may_be_field(step.thing, below.thing):
        return True
    if not is_end or way.is_any:
        return way.may_contain(module)
    is_list_of_all = way.in_cells and not is_cell(below.thing)
    return way.may_contain(module) and not is_list_of_all and not module.startswith(_REGISTRARS)


def _referring(level: list[Step], above: list[Step], seen: set[int], way: Way) -> Iterator[Step]:
    """Whatever refers to the objects of a level, and has not been seen yet."""
    by_id = {id(step.thing): step for step in level}
    for referrer in referrers_of(step.thing for step in level):
        if id(referrer) not in seen and not is_a(referrer, _SKIPPED) and not _is_ours(referrer, by_id, level, above):
            seen.add(id(referrer))
            yield from steps_from(referrer, by_id, way)


def _part(step: Step, owners: list[Any], seen: set[int], way: Way) -> Step | None:
    """The step to go on from; one of a mapping or queue has what its own container contains."""
    part = _with_attributes(step, owners, seen)
    below = None if part is None or way.is_any else part.below
    if part is None or below is None or not below.contains:
        return part
    if not (is_a(below.thing, dict) and is_mapping(part.thing)) and not is_queue(part.thing):
        return part
    part.contains = True
    below.contains = below.below is not None and below.below.contains  # one in another stays that
    return part


def _with_attributes(step: Step, owners: list[Any], seen: set[int]) -> Step | None:
    """The same step, or an object in the place of the dict of its attributes; None where that has been seen."""
    if not is_a(step.thing, dict):
        return step
    if any(is_shared_state(step.thing, owner) for owner in owners):
        step.read_as_attribute()
        return step
    part = owner_of(step, owners)
    if part.thing is step.thing:
        part.contains = not (is_by_class(part.thing) or _has_made(part) or leads_to_class(part.below))
        return part
    if id(part.thing) in seen:
        return None
    seen.add(id(part.thing))
    return part


def _has_made(step: Step) -> bool:
    """Whether a step is a dict that makes what it has by itself, when it is first asked for it, and of the class below."""
    factory: Any = _FACTORY(step.thing) if is_a(step.thing, defaultdict) else None
    while is_a(factory, functools.partial):
        factory = factory.func
    return factory is not None and step.below is not None and factory is type(step.below.thing)


def _is_ended_by_its_keeper(step: Step | None) -> bool:
    """Whether the way has passed such a dict or an `ExitStack`: whoever has that ends what is in it, and it can grow."""
    while step is not None and not (_has_made(step) or is_stack(step.thing)):
        step = step.below
    return step is not None


def _is_ours(referrer: Any, *ours: object) -> bool:
    if any(referrer is each for each in ours):
        return True
    if is_a(referrer, types.FrameType):
        return str(referrer.f_globals.get("__name__", "")).startswith(_OWN)
    return module_of(referrer).startswith((_OWN, "weakref"))
