"""`infoplane run -- COMMAND`: training under the agent with no change to its code.

launch          flags -> environment, then the command in place of this process
autoload        a folder for PYTHONPATH; its sitecustomize starts the hook in every Python process below
imports         calls a function when a module has been imported
patches         what is done to DeepSpeed, Transformers and Lightning

The base install is enough: `python -m infoplane.agent.run -- COMMAND` is the same as `infoplane run`.
"""
