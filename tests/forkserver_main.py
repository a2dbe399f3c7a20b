"""A process that has imported pytest and starts runs of it as forks of itself; see `forkserver.py`, which starts it.

It has imported what HTTP libraries import as well, where the plugin does not watch it: a run of four takes a quarter less.
It has read the entry points of all that is installed, and a run ends without taking apart the modules that it was given.

It reads a request from each line of its standard input and answers with the run's exit status when that is over. Frames of this
file are at the bottom of the stacks of those runs, so it is started under a name that no user's code has.
"""

import atexit
import contextlib
import functools
import gc
import importlib
import importlib.metadata
import json
import os
import runpy
import sys
import threading

from _pytest.config import default_plugins

BESIDE = """
attr certifi charset_normalizer click email.generator email.parser email.policy encodings.idna frozenlist hmac http idna.core
h11 h2.connection mimetypes multidict netrc outcome pickle propcache pygments queue rich.live rich.markup rich.syntax rich.table
sniffio socksio sortedcontainers typing_extensions yarl zipfile
"""

for name in default_plugins:  # which every run imports
    importlib.import_module(f"_pytest.{name}")
for name in BESIDE.split():
    with contextlib.suppress(ImportError):  # is not installed
        importlib.import_module(name)
is_measured = "coverage" in sys.argv
if is_measured:
    import coverage

path = sys.path[1:]  # without the directory that it was started in
# For one plugin that is named, pytest reads the entry points of all that is installed.
distributions = importlib.metadata.distributions
installed = list(distributions(path=path))
entry_points = functools.cached_property(importlib.metadata.PathDistribution.entry_points.fget)
entry_points.__set_name__(importlib.metadata.PathDistribution, "entry_points")
importlib.metadata.PathDistribution.entry_points = entry_points
importlib.metadata.distributions = lambda **context: distributions(**context) if context else installed
for each in installed:
    each.entry_points  # noqa: B018

gc.collect()
gc.freeze()  # so that a fork need not copy all of this to collect its own garbage
while request := sys.stdin.readline():
    run = json.loads(request)
    child = os.fork()
    if not child:
        break
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
else:
    sys.exit()

os.chdir(run["cwd"])
os.environ.clear()
os.environ.update(run["env"])
for number, name in enumerate((os.devnull, run["stdout"], run["stderr"])):
    opened = os.open(name, os.O_WRONLY if number else os.O_RDONLY)
    os.dup2(opened, number)
    os.close(opened)
if not run["whole_heap"]:
    gc.unfreeze = lambda: None  # what keeps a leak is not from before the fork
sys.argv[:] = run["argv"]
sys.path[:] = [run["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *path]
if is_measured:
    coverage.process_startup()
try:
    runpy.run_module("pytest", run_name="__main__", alter_sys=True)
except SystemExit as end:
    if isinstance(end.code, int):
        # All that the interpreter does at its end, but for taking apart modules, most of which are from before the fork.
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code)
    raise
