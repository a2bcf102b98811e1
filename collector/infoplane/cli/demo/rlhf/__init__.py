"""The preference demo: a reward model and a policy trained on comparisons that a program can check, watched live."""
