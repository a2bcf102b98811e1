"""First and second moments about zero: an exact, mergeable summary of rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Count, sum and sum of outer products of rows of width d.

    Merging is addition, hence associative and commutative up to float64 rounding (about
    1e-15 relative). Memory: 8 (d^2 + d) bytes. Moments about zero lose digits in the
    covariance when the mean is far larger than the spread: the relative error is about
    1e-16 |mean|^2 / variance.

    Attributes:
        n: Number of rows; a float, so that weighted rows fit.
        total: Sum of the rows, shape ``(d,)``, float64.
        outer: Sum of the rows' outer products, shape ``(d, d)``, float64.
    """

    n: float
    total: FloatArray
    outer: FloatArray

    def __post_init__(self) -> None:
        """Check the shapes.

        Raises:
            ValueError: If ``outer`` is not ``(d, d)`` for a ``total`` of ``(d,)``.
        """
        object.__setattr__(self, "total", np.asarray(self.total, dtype=np.float64))
        object.__setattr__(self, "outer", np.asarray(self.outer, dtype=np.float64))
        d = self.total.shape[0] if self.total.ndim == 1 else -1
        if self.outer.shape != (d, d):
            raise ValueError(
                f"outer: expected shape (d, d) for total of shape (d,), "
                f"got {self.outer.shape} and {self.total.shape}"
            )

    @classmethod
    def zero(cls, d: int) -> Moments:
        """Return the moments of no rows: the identity of `merge`."""
        return cls(0.0, np.zeros(d), np.zeros((d, d)))

    @classmethod
    def of_rows(cls, x: npt.NDArray[Any]) -> Moments:
        """Return the moments of rows ``x`` of shape ``(n, d)``; cost O(n d^2), float64.

        Raises:
            ValueError: If ``x`` has not two dimensions.
        """
        if x.ndim != 2:
            raise ValueError(f"x: expected shape (n, d), got {x.shape}")
        rows = np.asarray(x, dtype=np.float64)
        return cls(float(rows.shape[0]), rows.sum(axis=0), rows.T @ rows)

    @classmethod
    def of_triangle(cls, n: float, total: npt.NDArray[Any], triangle: npt.NDArray[Any]) -> Moments:
        """Return the moments whose outer products have this upper triangle, in the order of rows.

        Raises:
            ValueError: If ``triangle`` is not ``(d (d + 1) / 2,)`` for a ``total`` of ``(d,)``.
        """
        d = total.shape[0] if total.ndim == 1 else 0
        if total.ndim != 1 or triangle.shape != (d * (d + 1) // 2,):
            raise ValueError(
                f"triangle: expected shape (d (d + 1) / 2,) for total of shape (d,), "
                f"got {triangle.shape} and {total.shape}"
            )
        return cls(n, total, np.asarray(triangle, dtype=np.float64)[_places_of_square(d)])

    @property
    def triangle(self) -> FloatArray:
        """Upper triangle of ``outer`` in the order of rows, shape ``(d (d + 1) / 2,)``; a copy."""
        return self.outer.ravel()[_places_of_triangle(self.d)]

    @property
    def d(self) -> int:
        """Width of a row."""
        return int(self.total.shape[0])

    def merge(self, other: Moments) -> Moments:
        """Return what `of_rows` gives for both sets of rows together.

        Raises:
            ValueError: If the widths differ.
        """
        if self.d != other.d:
            raise ValueError(f"d: cannot merge moments of width {self.d} and {other.d}")
        return Moments(self.n + other.n, self.total + other.total, self.outer + other.outer)

    __add__ = merge

    def mean(self) -> FloatArray:
        """Return the mean row, shape ``(d,)``; zeros when there are no rows."""
        return self.total / self.n if self.n > 0 else np.zeros_like(self.total)

    def covariance(self) -> FloatArray:
        """Return the unbiased covariance, shape ``(d, d)``; NaN when n is at most 1."""
        if self.n <= 1:
            return np.full_like(self.outer, np.nan)
        mean = self.mean()
        centred = self.outer - self.n * np.outer(mean, mean)
        return (centred + centred.T) / (2.0 * (self.n - 1.0))


@lru_cache(maxsize=8)
def _places_of_triangle(d: int) -> npt.NDArray[np.intp]:
    """Return where the elements of the upper triangle are in a square."""
    rows, columns = np.triu_indices(d)
    return rows * d + columns


@lru_cache(maxsize=8)
def _places_of_square(d: int) -> npt.NDArray[np.intp]:
    """Return where the elements of a symmetric square are in its upper triangle."""
    places = np.zeros((d, d), np.intp)
    rows, columns = np.triu_indices(d)
    places[rows, columns] = places[columns, rows] = np.arange(rows.size)
    return places
