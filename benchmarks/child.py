"""Runs one command and prints what it took: wall, user and system seconds, peak memory in KiB, status.

A script of its own, for an interpreter that has imported nothing: Linux counts the memory of the process
that starts a command into the command's own peak, so that the starter has to be small. It takes 8 to 10
MiB; a smaller peak cannot be told from that.
"""

import os
import sys
import time


def main(argv: list[str]) -> None:
    # Whatever the command prints goes to stderr; stdout is for the figures.
    quiet = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_DUP2, 2, 1)]
    started_s = time.monotonic()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=quiet)
    _, status, used = os.wait4(pid, 0)
    wall_s = time.monotonic() - started_s
    print(wall_s, used.ru_utime, used.ru_stime, used.ru_maxrss, os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main(sys.argv[1:])
