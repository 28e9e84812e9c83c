"""`python -m agent` is the command `edge-backup`."""

import sys

from agent.cli import main

sys.exit(main())
