"""Actions that may end their process, in a child of the test's own; and many of them, in a small one."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name


def exit_of(act: Callable[[], object]) -> int:
    """Return the exit status of a child that does this."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def in_fresh_interpreter(function: Callable[..., None], *arguments: object) -> str:
    """Call a function of a module with texts in a new interpreter, and return what it printed.

    A process that runs tests is large, and a fork of it takes twenty times as long. Raises AssertionError
    with the function's traceback.
    """
    call = f"import sys; from {__name__} import called; called(*sys.argv[1:])"
    ended = subprocess.run(
        [sys.executable, "-c", call, f"{function.__module__}:{function.__name__}", *map(str, arguments)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def called(name: str, *arguments: str) -> None:
    """Call the function with this name; what the new interpreter does."""
    resolve_name(name)(*arguments)
