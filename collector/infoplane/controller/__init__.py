"""WATCH and what follows from it: detectors and verdicts."""
