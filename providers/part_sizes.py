"""Sizes of the parts of an upload: they grow, so that a stream of any length fits into the parts allowed."""

from dataclasses import dataclass, replace

from providers.errors import TooLarge


@dataclass(frozen=True, slots=True)
class PartPlan:
    """The sizes of the parts of one upload, for every attempt at it. Parts count from 1."""

    first_bytes: int
    largest_bytes: int
    grow_every: int
    """The size doubles after this many parts, up to `largest_bytes`."""
    most_parts: int

    def size_of(self, number: int) -> int:
        return min(self.first_bytes << ((number - 1) // self.grow_every), self.largest_bytes)

    def for_source(self, size_bytes: int | None, most_bytes: int) -> "PartPlan":
        """Return the plan for a source of this size, no part larger than `most_bytes`. Raises `TooLarge`."""
        first_bytes, largest_bytes = min(self.first_bytes, most_bytes), min(self.largest_bytes, most_bytes)
        plan = replace(self, first_bytes=first_bytes, largest_bytes=largest_bytes)
        return plan if size_bytes is None else plan.equal(size_bytes)

    def equal(self, size_bytes: int) -> "PartPlan":
        """Return the plan for a known length: parts of one size, as many as fit.

        Raises `TooLarge` when they would have to be larger than `largest_bytes`.
        """
        needed = -(-size_bytes // self.most_parts)
        if needed > self.largest_bytes:
            raise too_large(self.largest_bytes * self.most_parts)
        part = max(self.first_bytes, needed)
        return PartPlan(part, part, self.grow_every, self.most_parts)


def too_large(most_bytes: int) -> TooLarge:
    return TooLarge(f"the archive is larger than the {most_bytes} bytes that this store can take in parts")
