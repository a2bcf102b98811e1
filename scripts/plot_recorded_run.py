"""Draws the pictures of docs/estimators.md, "A recorded run", from three recordings of the demo.

    infoplane demo --no-fault --record DIR/true
    infoplane demo --no-fault --shuffle-labels --record DIR/shuffled
    infoplane demo --fault collapse --record DIR/collapse
    scripts/plot_recorded_run.py DIR

Windows are replayed through the estimates. The same recordings give the same bytes.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from infoplane.collector.drivers.replay import replay
from infoplane.collector.estimate.compute import EstimateSettings
from infoplane.collector.estimate.machine import estimate_stage
from infoplane.collector.metrics import METRICS
from infoplane.wire.log import read_log
from infoplane.wire.topics import RESULTS, WINDOWS, Names

INFORMATION = "diffusion_spectral_mi_bits"
COLLAPSING = {
    "von_neumann_entropy_nats": ("von Neumann entropy", "nats"),
    "diffusion_spectral_entropy_bits": ("diffusion spectral entropy", "bits"),
    "manifold_capacity_ratio": ("manifold capacity (MMCR)", "ratio"),
}
IN_TABLE = (*COLLAPSING, "manifold_spread")
LAST_BLOCK = "03/block"
BASELINE = 14  # windows before the fault that the line goes through
THRESHOLD = 5.0
SHOWN = (16, 40)  # windows of the collapse that are drawn
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"  # of Okabe and Ito: colour-blind safe
STYLE = {
    "svg.hashsalt": "infoplane",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}

Series = NDArray[np.float64]
Replayed = dict[tuple[str, str], Series]


def replayed(folder: Path, names: tuple[str, ...]) -> Replayed:
    """Return (metric, tap) -> one row (value, null) per window of the one log in `folder`."""
    (log,) = folder.glob("*.iplog")
    entries = [entry for entry in read_log(log) if entry.topic == Names().of(WINDOWS)]
    metrics = tuple(metric for metric in METRICS if metric.name in names)
    every_window = EstimateSettings(metrics, cadence=dict.fromkeys(names, 1))
    found: dict[tuple[str, str], dict[int, tuple[float, float]]] = defaultdict(dict)
    for sent in replay(entries, [estimate_stage(every_window)]):
        result = sent.message
        if sent.topic is RESULTS and not result.undefined:
            tap = {label.name: label.value for label in result.labels}["tap"]
            found[result.metric, tap][result.window] = (result.value, result.null_mean)
    last = max(window for windows in found.values() for window in windows)
    missing = (np.nan, np.nan)
    return {
        key: np.array([windows.get(window, missing) for window in range(last + 1)])
        for key, windows in found.items()
    }


def line_and_noise(values: Series, fault: int) -> tuple[Series, float]:
    """Return the line through the windows before the fault, and the robust noise about it."""
    before = np.arange(fault - BASELINE, fault)
    line = np.polyval(np.polyfit(before, values[before], 1), np.arange(len(values)))
    left = (values - line)[before]
    return line, 1.4826 * float(np.median(np.abs(left - np.median(left))))


def scores(values: Series, fault: int) -> Series:
    """Return the robust z of every window."""
    line, noise = line_and_noise(values, fault)
    return (values - line) / noise


def draw_labels(true: Replayed, shuffled: Replayed) -> Figure:
    """Draw what the last block tells about the next byte, over the run."""
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for run, name, colour in ((true, "true labels", BLUE), (shuffled, "shuffled labels", ORANGE)):
        values, null = run[INFORMATION, LAST_BLOCK].T
        axes.plot(values, color=colour, marker="o", markersize=2.5, linewidth=1.4)
        axes.plot(null, color=colour, linestyle=":", linewidth=1)
        axes.annotate(
            name, (len(values) - 0.5, values[-5:].mean()), color=colour, va="center", clip_on=False
        )
    axes.annotate("dotted: null", (12, 0.05), color=GREY)
    axes.set(
        xlabel="window (8 steps each)",
        ylabel="bits",
        title="DSMI(Z;Y): last block and the next byte's bucket",
        xlim=(-1, 58),
    )
    axes.set_xticks(range(0, 50, 10))
    return figure


def _draw_values(axes: Axes, values: Series, fault: int) -> None:
    windows = np.arange(SHOWN[0], SHOWN[1] + 1)
    line, noise = line_and_noise(values, fault)
    low, high = (line + side * THRESHOLD * noise for side in (-1, 1))
    axes.fill_between(windows, low[windows], high[windows], color=GREY, alpha=0.25, linewidth=0)
    axes.plot(windows, line[windows], color=GREY, linestyle="--", linewidth=1)
    axes.plot(windows, values[windows], color=BLUE, marker="o", markersize=2.5, linewidth=1.4)


def _draw_scores(axes: Axes, taps: dict[str, Series], fault: int) -> None:
    windows = np.arange(SHOWN[0], SHOWN[1] + 1)
    for tap, values in sorted(taps.items()):
        strong = tap == LAST_BLOCK
        style = {"color": BLUE, "linewidth": 1.6, "zorder": 3} if strong else {"color": GREY}
        axes.plot(windows, np.abs(scores(values, fault))[windows], **{"linewidth": 0.7, **style})
    axes.axhline(THRESHOLD, color=ORANGE, linestyle="--", linewidth=1)
    axes.set(yscale="log", ylim=(0.05, 500), xlabel="window (8 steps each)")
    axes.minorticks_off()


def draw_collapse(run: Replayed, fault: int) -> Figure:
    """Draw values at the last block, and |z| at every tap, around the fault."""
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    grid = figure.subplots(2, len(COLLAPSING), sharex=True)
    for (name, (title, unit)), (above, below) in zip(COLLAPSING.items(), grid.T, strict=True):
        taps = {tap: rows[:, 0] for (metric, tap), rows in run.items() if metric == name}
        _draw_values(above, taps[LAST_BLOCK], fault)
        _draw_scores(below, taps, fault)
        above.set(title=title, ylabel=unit)
        for axes in (above, below):
            axes.axvline(fault, color=ORANGE, linewidth=1)
    (first, below), (_, right) = grid[:, 0], grid[:, -1]
    first.annotate("fault", (fault + 0.4, first.get_ylim()[1]), color=ORANGE, va="top")
    first.annotate("last block", (16.5, first.get_ylim()[0] * 1.02), color=BLUE, va="bottom")
    below.set_ylabel("|z|")
    below.annotate("threshold 5", (16, 6), color=ORANGE)
    right.annotate("last block", (33, 19), color=BLUE, va="top")
    right.annotate("other taps", (33, 100), color=GREY)
    return figure


def table(run: Replayed, fault: int) -> Iterator[str]:
    """Yield rows of values at the last block, and of the range of |z| over taps."""
    for name in IN_TABLE:
        taps = {tap: rows[:, 0] for (metric, tap), rows in run.items() if metric == name}
        at = taps[LAST_BLOCK]
        shown = [at[fault - 4 : fault].mean(), *at[fault : fault + 3], at[-1]]
        z = np.abs([scores(values, fault)[fault + 1 : fault + 3] for values in taps.values()])
        ranges = [f"{low:.1f} to {high:.0f}" for low, high in zip(z.min(0), z.max(0), strict=True)]
        yield f"| `{name}` | " + " | ".join([*(f"{value:.2f}" for value in shown), *ranges]) + " |"


def main() -> None:
    """Replay the recordings, write both pictures and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="holds true, shuffled and collapse")
    parser.add_argument("--fault", type=int, default=30, help="window in which it begins")
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    mpl.rcParams.update(STYLE)
    collapse = replayed(given.folder / "collapse", IN_TABLE)
    labels = [replayed(given.folder / name, (INFORMATION,)) for name in ("true", "shuffled")]
    pictures = {"labels": draw_labels(*labels), "collapse": draw_collapse(collapse, given.fault)}
    given.out.mkdir(parents=True, exist_ok=True)
    for name, figure in pictures.items():
        path = given.out / f"recorded-run-{name}.svg"
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        print(path)
    print("\n".join(table(collapse, given.fault)))


if __name__ == "__main__":
    main()
