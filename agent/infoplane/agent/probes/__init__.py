"""Probes: what is captured besides the standard sketches of taps. One kind of capture per file.

A probe names its unit, reserves memory in the slot, hangs hooks into the model while a sampled micro-batch runs, and
turns the slot's bytes into the taps of a record. `PROBES` is the one list of them.
"""

from infoplane.agent.probes.base import Place, Probe, ProbeContext, Scene
from infoplane.agent.probes.registry import PROBES, build_probes

__all__ = ["PROBES", "Place", "Probe", "ProbeContext", "Scene", "build_probes"]
