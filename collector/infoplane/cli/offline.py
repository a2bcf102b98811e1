"""The offline door: estimates of arrays in files, through the registry's own sources."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.estimate.compute import estimates_by_metric
from infoplane.collector.metrics import Context, Metric, Source
from infoplane.estimators import Estimate
from infoplane.wire import ConfigurationError

_ESTIMATOR: Final = "estimator"
_BOOLEANS: Final = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}


class OfflineEstimate:
    """Computes one metric from files.

    Args:
        metric: of the registry.
        settings: `key=value` texts; `estimator` chooses the source, the others are its options.
        device: where torch computes.
        seed: of everything random.

    Raises:
        ConfigurationError: a setting is not `key=value`, or names an estimator the metric does not have.
    """

    def __init__(
        self, metric: Metric, settings: Sequence[str], *, device: str = "cpu", seed: int = 0
    ) -> None:
        self._metric = metric
        self._options = dict(_pair(text) for text in settings)
        self._estimator = self._options.pop(_ESTIMATOR, None)
        self._device = device
        self._seed = seed
        known = sorted({source.estimator for source in metric.sources if source.need.arrays})
        if not known:
            raise ConfigurationError("metric", metric.name, "a metric that is computed from arrays")
        if self._estimator not in (None, *known):
            raise ConfigurationError(_ESTIMATOR, self._estimator, f"one of {', '.join(known)}")

    def of_file(self, path: Path) -> dict[str, Any]:
        """Return the estimate of one file as JSON-ready fields.

        Raises:
            ConfigurationError: names the file, what was found and what was expected.
        """
        arrays = read_arrays(path)
        source = self._metric.source_for(arrays, self._estimator)
        if source is None:
            raise ConfigurationError(str(path), sorted(arrays), self._wanted())
        try:
            value = source.need.load(arrays)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error.key}", error.value, error.expected) from None
        options = self._typed(source)
        context = Context(self._device, [self._seed], options, [{}])
        try:
            (found,) = estimates_by_metric(self._metric, source, [value], context)
        except ValueError as error:
            raise ConfigurationError(
                str(path), options, f"input that fits the estimator: {error}"
            ) from None
        return fields_of(self._metric, found[self._metric.name])

    def _typed(self, source: Source) -> dict[str, Any]:
        """Return the source's options with the user's values, each of the type of its default."""
        options = dict(source.options)
        for key, text in self._options.items():
            if key not in options:
                expected = ", ".join((_ESTIMATOR, *sorted(options)))
                raise ConfigurationError(key, text, f"a setting of {source.estimator}: {expected}")
            options[key] = _as_type_of(options[key], key, text)
        return options

    def _wanted(self) -> str:
        fitting = [
            " + ".join(source.need.arrays)
            for source in self._metric.sources
            if source.need.arrays and self._estimator in (None, source.estimator)
        ]
        return f"a file with the arrays {' or '.join(dict.fromkeys(fitting))}"


def read_arrays(path: Path) -> Mapping[str, NDArray[Any]]:
    """Return the arrays of an .npz file.

    Raises:
        ConfigurationError: there is no such file, it is no .npz, or an array is empty or holds no numbers.
    """
    if not path.is_file():
        raise ConfigurationError("file", str(path), "an existing .npz file")
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ConfigurationError(
            "file", str(path), f"an .npz file of plain arrays ({error})"
        ) from None
    for name, array in arrays.items():
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_):
            raise ConfigurationError(f"{path}: {name}", str(array.dtype), "an array of numbers")
        if array.size == 0:
            raise ConfigurationError(
                f"{path}: {name}", f"shape {array.shape}", "an array that is not empty"
            )
    return arrays


def fields_of(metric: Metric, estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as the fields that `--json` promises."""
    fields: dict[str, Any] = {
        "metric": metric.name,
        "value": None if estimate.undefined else float(estimate.value),
        "unit": estimate.unit,
        "n": int(estimate.n),
        "null_mean": estimate.null_mean,
        "null_sd": estimate.null_sd,
        "ceiling": estimate.ceiling,
        "saturated": bool(estimate.saturated),
        "band": None if estimate.band is None else list(estimate.band),
        "estimator": estimate.estimator,
        "version": estimate.version,
    }
    if estimate.undefined:
        fields["undefined"] = estimate.undefined
    return fields


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ConfigurationError("--set", text, "KEY=VALUE")
    return key.strip(), value.strip()


def _as_type_of(default: Any, key: str, text: str) -> Any:
    """Return `text` as the type that `default` has; bool before int, as it is one."""
    if isinstance(default, bool):
        if text.lower() not in _BOOLEANS:
            raise ConfigurationError(key, text, "true or false")
        return _BOOLEANS[text.lower()]
    kinds: tuple[tuple[type[Any], str], ...] = ((int, "a whole number"), (float, "a number"))
    for kind, expected in kinds:
        if isinstance(default, kind):
            try:
                return kind(text)
            except ValueError:
                raise ConfigurationError(key, text, expected) from None
    return text
