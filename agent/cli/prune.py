"""`edge-backup prune`: the running agent removes old archives, and this says which."""

import argparse

from agent.base.text import printable
from agent.cli.api_client import Agent, Value
from agent.cli.local import EXIT_OK, EXIT_REFUSED, local_parser, run_local, write_value
from agent.send.progress import size_text


def prune(argv: list[str]) -> int:
    """Print what was removed from each destination; 1 when one failed, 0 also when one is not there now."""

    def act(agent: Agent, options: argparse.Namespace) -> int:
        value = agent.post("/prune", {"dryRun": options.dry_run})
        going_on = ["still running: the agent's log names what it removes"] if value["running"] else []
        text = "\n".join(
            [
                *going_on,
                *(_place_lines(destination, dry_run=options.dry_run) for destination in value["places"]),
            ]
        )
        write_value(value, text, as_json=options.json)
        return EXIT_REFUSED if any(destination["failed"] for destination in value["places"]) else EXIT_OK

    parser = local_parser("prune", "Remove archives that no rule of retention.* and no retention date keeps.")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    return run_local(parser, argv, act)


def _place_lines(destination: Value, *, dry_run: bool) -> str:
    removed, kept, problem = destination["removed"], destination["kept"], destination["problem"]
    did = "would remove" if dry_run else "removed"
    size_bytes = destination["freed"]
    freed = f", {size_text(size_bytes)} {'would be ' if dry_run else ''}freed" if size_bytes else ""
    lines = [f"{destination['place']}: {problem or f'{did} {len(removed)}, {kept} stay{freed}'}"]
    lines += [f"  {note}"] if (note := destination["note"]) else []
    return "\n".join(printable(line) for line in [*lines, *(f"  {name}" for name in removed)])
