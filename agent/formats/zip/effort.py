"""The effort of compression: a fixed level, or `auto`, which adapts to the speed of the destination.

A slow destination (a network, a stick) leaves the compressor time to work harder, and then has less to take;
for a fast one the compressor had better do less. So `auto` goes a level up while the next one would still
keep the destination busy, and a level down while the present one does not. Both speeds are measured always.
"""

from dataclasses import dataclass

from agent.formats.zip.deflate import Deflater, deflater

AUTO = "auto"
_LADDER = ("fast", "balanced", "small")
_LOOK_EVERY_S = 0.1
_STEP_COSTS = 4
"""The next level is assumed to be this many times slower until it was tried."""
_FADING = 0.97  # weight of earlier measurements at each look: half of it is left after two seconds
_SHRINKS = 0.97  # content that does not shrink says nothing about a level: none spends time on it


@dataclass(slots=True)
class MeasuredLevel:
    """A level, and its measured speed on one thread."""

    deflater: Deflater
    read_bytes: int = 0
    written_bytes: int = 0
    busy_s: float = 0.0

    def did(self, read_bytes: int, written_bytes: int, busy_s: float) -> None:
        if written_bytes < _SHRINKS * read_bytes:
            self.read_bytes += read_bytes
            self.written_bytes += written_bytes
            self.busy_s += busy_s

    @property
    def makes_bytes_per_s(self) -> float:
        """Return how fast it makes the archive; 0 when it was not used yet."""
        return self.written_bytes / self.busy_s if self.busy_s else 0.0


class Effort:
    """Chooses the step for the next piece of work; a fixed level has only one."""

    def __init__(self, level: str, threads: int) -> None:
        self._threads = threads
        self.steps = [MeasuredLevel(deflater(step)) for step in (_LADDER if level == AUTO else (level,))]
        self._at = 0
        self._since_look_s = self._taken_bytes = self._taking_s = 0.0

    @property
    def step(self) -> MeasuredLevel:
        return self.steps[self._at]

    def taken(self, size_bytes: int, taking_s: float, passed_s: float) -> None:
        """Note that the destination took bytes in `taking_s`, `passed_s` after it had taken the last ones."""
        self._taken_bytes += size_bytes
        self._taking_s += taking_s
        self._since_look_s += passed_s
        if self._since_look_s >= _LOOK_EVERY_S and len(self.steps) > 1:
            self._look()

    def _look(self) -> None:
        made = self.step.makes_bytes_per_s * self._threads
        takes = self._taken_bytes / max(self._taking_s, 1e-6)
        if made and takes > made:
            self._at = max(self._at - 1, 0)
        elif made and self._at + 1 < len(self.steps):
            harder = self.steps[self._at + 1].makes_bytes_per_s * self._threads or made / _STEP_COSTS
            self._at += takes < harder
        self._taken_bytes *= _FADING
        self._taking_s *= _FADING
        self._since_look_s = 0.0
