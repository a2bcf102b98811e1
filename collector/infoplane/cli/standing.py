"""`infoplane local`: a pipeline that stands until it is stopped."""

from __future__ import annotations

from infoplane.cli.output import emit, emit_json, say
from infoplane.cli.pipeline import InterruptedStart, Pipeline, PipelineOptions
from infoplane.cli.signals import stop_on_signals


def run_local(options: PipelineOptions, *, as_json: bool) -> int:
    """Run until a signal; return the exit code.

    Raises:
        ChildError: a service ended.
        TransportError: there is no broker, or it ended.
    """
    with stop_on_signals() as stop, Pipeline(options) as pipeline:
        try:
            pipeline.start(stop, say)
        except InterruptedStart:
            return stop.exit_code
        _print_environment(pipeline, as_json=as_json)
        while not stop.wait(1.0):
            pipeline.check()
        return stop.exit_code


def _print_environment(pipeline: Pipeline, *, as_json: bool) -> None:
    if as_json:
        emit_json({"page": pipeline.page, "environment": pipeline.environment})
        return
    say(f"page: {pipeline.page}")
    say("Set this for the training job, and call attach(engine) in it; Ctrl-C ends everything:")
    for name, value in pipeline.environment.items():
        emit(f"export {name}={value}")
