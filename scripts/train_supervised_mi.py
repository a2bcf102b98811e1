"""Trains the supervised estimator of mutual information and writes its weights and its page.

    nice -n 15 python scripts/train_supervised_mi.py [--data DIR] [--quick]

Features of the training sets are computed once and kept in --data; the run continues where an
earlier one was stopped. --quick trains a toy on a few sets, for the tests; it writes to the paths
it is given and never over the shipped files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from supervised_mi.datasets import BLOCK, Split, load  # noqa: E402
from supervised_mi.families import TRAINED, UNSEEN  # noqa: E402
from supervised_mi.plan import FULL, QUICK, Plan  # noqa: E402
from supervised_mi.report import page  # noqa: E402
from supervised_mi.training import Trained, train  # noqa: E402

from infoplane.estimators.mutual_information.supervised import checkpoint  # noqa: E402
from infoplane.estimators.mutual_information.supervised.estimate import VERSION  # noqa: E402
from infoplane.estimators.mutual_information.supervised.network import Sizes  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> Trained:
    """Train, write the weights, measure, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/tmp/supervised-mi"))
    parser.add_argument("--date", default="2026-11-25")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--page", type=Path)
    options = parser.parse_args(arguments)
    if options.quick and not (options.checkpoint and options.page):
        parser.error("--quick needs --checkpoint and --page")
    plan = QUICK if options.quick else FULL
    torch.set_num_threads(1)
    data = load(options.data, plan.training, TRAINED)
    trained = train(
        data, load(options.data, plan.validation, TRAINED), epochs=plan.epochs, seed=options.seed
    )
    path = options.checkpoint or checkpoint.PATH
    write(path, plan, data, trained, options)
    with path.open("rb") as file:
        weights = checkpoint.read(file)
    constant = float(data.truth.median())
    text = page(plan, facts(plan, data, trained), weights, constant=constant, date=options.date)
    target = options.page or ROOT / "benchmarks" / "estimators" / f"supervised-{options.date}.md"
    target.write_text(text)
    return trained


def write(
    path: Path, plan: Plan, data: Split, trained: Trained, options: argparse.Namespace
) -> None:
    """Write the weights with the training distribution's exact splits."""
    metadata: dict[str, Any] = {
        "version": VERSION,
        "ceiling": float(data.truth.max()),
        "date": options.date,
        "seed": options.seed,
        "epochs": plan.epochs,
        "sets_per_seed": BLOCK,
        "splits": {
            name: [getattr(plan, name).start, getattr(plan, name).stop]
            for name in ("training", "validation", "seen", "unseen")
        },
        "families": {"training": list(TRAINED), "unseen": list(UNSEEN)},
    }
    sizes = Sizes(statistics=data.features.statistics.shape[-1])
    with path.open("wb") as file:
        checkpoint.write(file, trained.network, sizes, metadata)


def facts(plan: Plan, data: Split, trained: Trained) -> dict[str, object]:
    """Return what the page says about the training."""

    def split(seeds: range) -> str:
        sets = len(seeds) * BLOCK
        return f"seeds {seeds.start:,} to {seeds.stop - 1:,}, {BLOCK} sets each: {sets:,} sets"

    zeros = float((data.truth == 0).float().mean())
    parameters = sum(p.numel() for p in trained.network.parameters())
    return {
        "training": split(plan.training),
        "validation, watched only": split(plan.validation),
        "test, families of training": split(plan.seen),
        "test, other families": split(plan.unseen),
        "families of training": ", ".join(TRAINED),
        "other families": ", ".join(UNSEEN),
        "rows, columns": "64 to 512 (30 % of seeds 512, else log-uniform), 1 to 32 a side, log-uniform, half equal",
        "truth": f"0 to {float(data.truth.max()):.2f} nats, {100 * zeros:.0f} % exactly 0",
        "network": f"{parameters:,} parameters, AdamW, {plan.epochs} epochs",
        "validation loss (pinball, nats)": f"{trained.losses[0]:.4f} before, {trained.losses[-1]:.4f} after",
        "time to train": f"{trained.seconds:.0f} s, processor {trained.processor_seconds:.0f} s, features not counted",
    }


if __name__ == "__main__":
    main()
