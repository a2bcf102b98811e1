"""KSG of benchmark-mi on given pairs; runs in an environment with that package.

    python benchmark_mi.py IN.npz OUT.npz

IN holds `names`, and for every name NAME_x, NAME_y and NAME_k; OUT holds NAME, the estimate.
"""

import sys

import numpy as np
from bmi.estimators.ksg import KSGEnsembleFirstEstimator

with np.load(sys.argv[1]) as held:
    found = {}
    for name in held["names"]:
        estimator = KSGEnsembleFirstEstimator(
            neighborhoods=(int(held[f"{name}_k"]),), standardize=False
        )
        found[str(name)] = estimator.estimate(held[f"{name}_x"], held[f"{name}_y"])
np.savez(sys.argv[2], **{name: np.asarray(value) for name, value in found.items()})
