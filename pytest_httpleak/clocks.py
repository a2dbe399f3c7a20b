"""The clocks of the machine, and its sleep, for all that measures or waits while a test may have put others in their place.

Tools that freeze time look through the attributes of all modules for the functions of `time`. So they are bound here in
a class, before any test is imported: a wait whose end never comes would hang the suite.
"""

from __future__ import annotations

import time


class Real:
    """The functions of `time` as they were when the plugin was loaded; all in seconds."""

    monotonic = staticmethod(time.monotonic)
    perf_counter = staticmethod(time.perf_counter)
    thread_time = staticmethod(time.thread_time)
    sleep = staticmethod(time.sleep)
