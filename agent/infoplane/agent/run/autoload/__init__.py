"""The folder that `infoplane run` puts in front of PYTHONPATH. Python imports `sitecustomize` from it by itself."""
