"""What can leak, what it was when it was judged, and what becomes of it."""

import enum


class Kind(enum.StrEnum):
    """What can leak, from the most telling kind to the barest; one cause is one finding of the first kind that fits."""

    RESPONSES = "responses"
    CLIENTS = "clients"
    CONNECTIONS = "connections"
    LOOPS = "loops"
    TASKS = "tasks"
    THREADS = "threads"
    SOCKETS = "sockets"
    FDS = "fds"


class State(enum.StrEnum):
    """What a leaked resource was when it was judged."""

    OPEN = "open"
    PEAK = "peak"
    COLLECTED = "collected"
    PENDING = "pending"
    RUNNING = "running"


class Verdict(enum.StrEnum):
    """What becomes of one finding."""

    LEAKED = "leaked"
    KNOWN = "known"
    TOLERATED = "tolerated"
    IGNORED = "ignored"
    WARNED = "warned"


class Outcome(enum.StrEnum):
    """What becomes of one test or fixture, whatever its own result."""

    CLEAN = "clean"
    LEAKED = "leaked"
    TOLERATED = "tolerated"
    KNOWN = "known"
    WARNED = "warned"
    UNCHECKED = "unchecked"
