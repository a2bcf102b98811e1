"""Started by every Python process below `infoplane run`: installs the import hook, then the next sitecustomize.

Any interpreter may come by, also one that is old or has no infoplane: such a one goes on without us.
"""

import os
import sys


def _install():  # type: ignore[no-untyped-def] # read by old interpreters, too
    try:
        from infoplane.agent.run.patches import install
    except (ImportError, SyntaxError):
        return
    try:
        install()
    except Exception as error:  # noqa: BLE001 - the process goes on
        sys.stderr.write("infoplane: not attached: %r\n" % (error,))  # noqa: UP031


def _chain():  # type: ignore[no-untyped-def]
    """Run the sitecustomize that this one hides; its errors are Python's to report, as without us."""
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    here = os.path.dirname(os.path.abspath(__file__))
    others = [place for place in sys.path if os.path.abspath(place) != here]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


_install()  # type: ignore[no-untyped-call]
_chain()  # type: ignore[no-untyped-call]
