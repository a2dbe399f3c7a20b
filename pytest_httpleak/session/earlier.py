"""What was bound before the watch began: by the user, as `from os import pipe` in a `conftest.py`, and by a few modules."""

from __future__ import annotations

import contextlib
import os
import sys
from types import ModuleType
from typing import Any, Final

from pytest_httpleak.asking import attributes_of, is_a, own_attribute
from pytest_httpleak.patches import Patches
from pytest_httpleak.userfiles import is_user_module

# Modules of the standard library that call `open` by a name of their own.
_OPENERS: Final = (("bz2", "_builtin_open"), ("tarfile", "bltn_open"), ("tokenize", "_builtin_open"))


def bind_again(patches: Patches, rootdir: str) -> None:
    """Let names in these modules stand for what stands now for a function of C, or for a class that is in C."""
    stand_ins = patches.of_modules()
    for name, attribute in _OPENERS:
        opener = own_attribute(sys.modules.get(name), attribute)
        if id(opener) in stand_ins:
            patches.put(sys.modules[name], attribute, stand_ins[id(opener)])
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
