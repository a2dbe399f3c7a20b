"""What the user's modules have bound before the watch began, as with `from sqlite3 import connect` in a `conftest.py`."""

from __future__ import annotations

import contextlib
import os
import sys
from types import ModuleType
from typing import Any

from pytest_httpleak.asking import attributes_of, is_a
from pytest_httpleak.patches import Patches
from pytest_httpleak.sites import is_user_module


def bind_again(patches: Patches, rootdir: str) -> None:
    """Let names in the user's modules stand for what stands now for a function of C, or for a class that is in C."""
    stand_ins = patches.of_modules()
    root = rootdir.rstrip(os.sep) + os.sep
    for name, module in list(sys.modules.items()):
        # Those that are nothing else can be asked at once; there are hundreds, in each run.
        names = module.__dict__ if type(module) is ModuleType else attributes_of(module)
        file: Any = names.get("__file__")
        if is_a(file, str) and file.startswith(root) and is_a(module, ModuleType) and is_user_module(name, file):
            for attribute, value in list(names.items()):
                stand_in = stand_ins.get(id(value))
                if stand_in is not None:
                    with contextlib.suppress(Exception):  # a class of somebody's, which lets nothing be set
                        patches.put(module, attribute, stand_in)
