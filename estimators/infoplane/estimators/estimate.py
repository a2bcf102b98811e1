"""The record every estimator answers with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Unit = Literal["nats", "bits", "ratio", "1"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimated number with all that is needed to judge it.

    Attributes:
        value: The estimate in ``unit``; NaN when ``undefined`` is not empty.
        unit: ``"nats"``, ``"bits"``, ``"ratio"`` (0 to 1) or ``"1"`` (a plain number).
        n: Rows, or items, that the value rests on.
        estimator: Identifier of the estimator, e.g. ``"heldout_ksg"``.
        version: Grows whenever the same input would give another value.
        null_mean: Mean of the value under independence, where that is measured.
        null_sd: Sample standard deviation of the same, when there are two or more draws.
        ceiling: Largest value that the estimator can be trusted to report.
        saturated: True when the value is so near the ceiling that it no longer moves.
        band: Lower and upper limit; the estimator's docstring says of which kind.
        undefined: Why there is no value: ``"n"``, ``"constant"``, ``"nan"``, ``"classes"`` ...
        parameters: Settings that are part of the metric's identity (k, r ...).
    """

    value: float
    unit: Unit
    n: int
    estimator: str
    version: int
    null_mean: float | None = None
    null_sd: float | None = None
    ceiling: float | None = None
    saturated: bool = False
    band: tuple[float, float] | None = None
    undefined: str = ""
    parameters: Mapping[str, float | int | str] = field(default_factory=dict)

    @classmethod
    def missing(
        cls,
        reason: str,
        *,
        unit: Unit,
        n: int,
        estimator: str,
        version: int,
        parameters: Mapping[str, float | int | str] | None = None,
    ) -> Estimate:
        """Return an estimate without a value.

        Args:
            reason: Short word that says why, e.g. ``"n"`` for too few rows.
            unit: Unit the value would have had.
            n: Rows that were available.
            estimator: Identifier of the estimator.
            version: Its version.
            parameters: Its settings.

        Raises:
            ValueError: If ``reason`` is empty; it would read as a defined value.
        """
        if not reason:
            raise ValueError("reason: expected a short word, got ''")
        return cls(
            value=math.nan,
            unit=unit,
            n=n,
            estimator=estimator,
            version=version,
            undefined=reason,
            parameters=dict(parameters or {}),
        )

    @property
    def defined(self) -> bool:
        """True when the estimate carries a value."""
        return not self.undefined
