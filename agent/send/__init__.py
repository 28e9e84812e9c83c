"""`edge-backup send`: sends one command to a device, and follows it to its end.

The exit status is 0 when the device did it, 1 when it refused or failed or did not say in time, 2 when
the command line cannot be used, 130 after Ctrl-C. Nothing heavy is imported before the command line was read.
"""

import sys

from agent.cli import EXIT_INTERRUPTED
from agent.send.arguments import parse_arguments


def main(argv: list[str]) -> int:
    """Run `edge-backup send argv…` and return the exit status."""
    try:
        order = parse_arguments(argv)
        from agent.send.talk import talk

        return talk(order)
    except KeyboardInterrupt:
        sys.stderr.write("edge-backup send: interrupted; the device continues\n")
        return EXIT_INTERRUPTED
