"""Lines of a budget as a table, and as a dated page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

COLUMNS = ("what", "measured", "budget", "", "how")


@dataclass(frozen=True)
class Line:
    """One number and what it may be.

    Attributes:
        unit: `ratio` is printed in per cent.
        budget: largest allowed; None = no budget.
    """

    what: str
    value: float
    budget: float | None
    unit: str
    how: str

    @property
    def is_broken(self) -> bool:
        """Return whether the budget is exceeded; also by a NaN."""
        return self.budget is not None and not self.value <= self.budget

    def cells(self) -> tuple[str, ...]:
        """Return the line as texts."""
        allowed = "" if self.budget is None else f"<= {self.text(self.budget)}"
        verdict = "" if self.budget is None else ("**over**" if self.is_broken else "ok")
        return self.what, self.text(self.value), allowed, verdict, self.how

    def text(self, value: float) -> str:
        """Return `value` with its unit."""
        return f"{value:.2%}" if self.unit == "ratio" else f"{value:.1f} {self.unit}"


def table(lines: Sequence[Line]) -> str:
    """Return a Markdown table."""
    rows = [COLUMNS, tuple("-" * max(len(column), 1) for column in COLUMNS)]
    rows += [line.cells() for line in lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def page(header: Mapping[str, str], lines: Sequence[Line]) -> str:
    """Return the page of one run."""
    facts = "\n".join(f"- {name}: `{value}`" for name, value in header.items() if name != "date")
    return f"# What the agent costs, {header['date']}\n\n{facts}\n\n{table(lines)}\n"
