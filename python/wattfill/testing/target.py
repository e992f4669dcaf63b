"""What people type: an allocator by name, and the laws that it is known to break."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from wattfill.errors import InputError
from wattfill.testing.laws import LAWS


def find_allocator(name: str) -> Callable[..., Any]:
    """Return the allocator, or the factory of one, that a name stands for.

    Parameters
    ----------
    name : str
        A module and something in it, ``module:function``, ``package.module:Class.method``; or a
        file and something in it, ``path/to/file.py:function``. Modules are found in the current
        folder, too.

    Raises
    ------
    InputError
        If there is no such thing, or it cannot be called.

    Examples
    --------
    >>> find_allocator("wattfill.testing:solve").__name__
    'solve'

    """
    place, _, path = name.rpartition(":")
    if not place or not path:
        raise InputError(f"an allocator is named as MODULE:FUNCTION, got {name!r}")
    found: Any = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    parts = path.split(".")
    for k, part in enumerate(parts, 1):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise InputError(f"{place} has no {'.'.join(parts[:k])!r}") from None
    if not callable(found):
        raise InputError(
            f"{name} must be a function or a factory of one, got {type(found).__name__}"
        )
    return found  # type: ignore[no-any-return]


def _load_module(name: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise InputError(f"there is no module {name!r}") from None
        raise _raised(name, error) from error


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise InputError(f"there is no file {str(path)!r}")
    # As where it is run: what lies beside it can be imported.
    sys.path.insert(0, str(path.parent.resolve()))
    name = path.stem if path.stem not in sys.modules else f"{path.stem} ({path})"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _raised(str(path), error) from error
    return module


def _raised(what: str, error: BaseException) -> InputError:
    return InputError(f"importing {what} raised {type(error).__name__}: {error}")


def expected_failures(options: Iterable[str]) -> dict[str, str]:
    """Return the laws that are expected to be broken, and why, from options as LAW=REASON.

    Raises
    ------
    InputError
        If one is no law, or has no reason.

    Examples
    --------
    >>> expected_failures(["equals-get-equal=first come, first served"])
    {'equals get equal': 'first come, first served'}

    """
    expected = {}
    for option in options:
        name, _, reason = (part.strip() for part in option.partition("="))
        name = name.replace("-", " ").replace("_", " ")
        if name not in LAWS:
            near = get_close_matches(name, LAWS, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InputError(f"an expected failure must name a law, got {name!r}{hint}")
        if not reason:
            raise InputError(f'an expected failure must have a reason, as in "{name}=REASON"')
        expected[name] = reason
    return expected
