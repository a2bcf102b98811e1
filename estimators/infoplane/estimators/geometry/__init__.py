"""Geometry of representations: spectra and linearly usable information."""
