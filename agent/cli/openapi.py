"""`edge-backup openapi`: the description of the HTTP API, for tools that make clients or tests from it."""

import argparse
import json
import sys

from agent.cli import EXIT_OK


def openapi(argv: list[str]) -> int:
    from agent.faces.http.api.openapi import openapi as document

    argparse.ArgumentParser(
        prog="edge-backup openapi", description="Print the description of the HTTP API (OpenAPI 3.1)."
    ).parse_args(argv)
    sys.stdout.write(json.dumps(document(), indent=2, ensure_ascii=False) + "\n")
    return EXIT_OK
