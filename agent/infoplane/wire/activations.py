"""Activation functions that records name, by number: numbers are never reused."""

from __future__ import annotations

from typing import Final

FUNCTIONS: Final = ("unknown", "relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid")


def function_named(number: int) -> str:
    """Return the name of a function, `unknown` for a number of a newer agent."""
    return FUNCTIONS[number] if 0 <= number < len(FUNCTIONS) else FUNCTIONS[0]
