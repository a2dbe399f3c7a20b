"""A process that has imported pytest and starts runs of it as forks of itself; see `forkserver.py`, which starts it.

It has imported what HTTP libraries import as well, where the plugin does not watch it: a run of four takes a quarter less.

It reads a request from each line of its standard input and answers with the run's exit status when that is over. Frames of this
file are at the bottom of the stacks of those runs, so it is started under a name that no user's code has.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import sys

from _pytest.config import default_plugins

BESIDE = """
attr certifi charset_normalizer click email.generator email.parser email.policy encodings.idna frozenlist hmac http idna.core
mimetypes multidict netrc pickle propcache pygments queue rich.live rich.markup rich.syntax rich.table typing_extensions
yarl zipfile
"""

for name in default_plugins:  # which every run imports
    importlib.import_module(f"_pytest.{name}")
for name in BESIDE.split():
    with contextlib.suppress(ImportError):  # is not installed
        importlib.import_module(name)
is_measured = "coverage" in sys.argv
if is_measured:
    import coverage

gc.collect()
gc.freeze()  # so that a fork need not copy all of this to collect its own garbage
path = sys.path[1:]  # without the directory that it was started in
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
sys.argv[:] = run["argv"]
sys.path[:] = [run["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *path]
if is_measured:
    coverage.process_startup()
runpy.run_module("pytest", run_name="__main__", alter_sys=True)
