"""The demo: a real two-rank training job, watched live, with a fault in the middle."""
