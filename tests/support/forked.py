"""Actions that may end their process, in a child of the test's own."""

import os
from collections.abc import Callable


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
