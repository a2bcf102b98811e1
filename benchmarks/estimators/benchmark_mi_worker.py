"""Times benchmark-mi's KSG on request; runs in the package's own environment.

Reads lines "FILE K" with arrays x and y in FILE.npz, answers each with a line of JSON: value,
wall and processor seconds.
"""

import json
import sys
import time

import numpy as np
from bmi.estimators.ksg import KSGEnsembleFirstEstimator

for line in sys.stdin:
    path, k = line.split()
    with np.load(path) as held:
        x, y = held["x"], held["y"]
    estimator = KSGEnsembleFirstEstimator(neighborhoods=(int(k),), standardize=False)
    wall, busy = time.perf_counter(), time.process_time()
    value = estimator.estimate(x, y)
    answer = {
        "value": float(value),
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - busy,
    }
    print(json.dumps(answer), flush=True)
