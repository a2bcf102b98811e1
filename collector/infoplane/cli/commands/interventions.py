"""`infoplane interventions list|history|check|schema|keygen`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infoplane.cli.flags import Bootstrap, ConfigFile, Json, Prefix, settings_from
from infoplane.cli.output import emit, emit_json, emit_table, say

if TYPE_CHECKING:
    from infoplane.controller.policy import Policy

app = typer.Typer(
    name="interventions",
    help="Check policies, and show what was done to runs.",
    no_args_is_help=True,
)
Run = Annotated[str | None, typer.Option("--run", help="This run only.")]


@app.command("list")
def list_interventions(
    run: Run = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """List every intervention with what it has come to, and the step at which each rank applied it."""
    from infoplane.cli.audit_trail import intervention_fields, read_audit, steps
    from infoplane.collector.interventions import gather

    entries = read_audit(settings_from(config, bootstrap, prefix).kafka, run)
    found = gather(entries)
    strange = sum(not entry.id for entry in entries)
    if strange:
        say(f"refused because no known key had signed it: {strange}, see history")
    if as_json:
        emit_json([intervention_fields(one) for one in found])
        return
    rows = [
        (one.id, one.head.rule, one.head.action, one.value, one.head.mode, one.stage, steps(one))
        for one in found
    ]
    emit_table(("ID", "RULE", "ACTION", "VALUE", "MODE", "STAGE", "APPLIED AT STEP"), rows)


@app.command("history")
def history(
    run: Run = None,
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Print the audit trail in order; --json gives one line an entry, with its evidence."""
    from infoplane.cli.audit_trail import clock, entry_fields, read_audit

    entries = read_audit(settings_from(config, bootstrap, prefix).kafka, run)
    fields = [entry_fields(entry) for entry in entries]
    if as_json:
        for one in fields:
            emit_json(one)
        return
    columns = ("stage", "actor", "rank", "id", "action", "value", "mode", "step", "reason")
    emit_table(
        ("TIME", *(name.upper() for name in columns)),
        [(clock(one["clock_ms"]), *(one[name] for name in columns)) for one in fields],
    )


@app.command("check")
def check(
    policy: Annotated[Path, typer.Argument(metavar="POLICY.yaml", help="The policy.")],
    log: Annotated[
        Path | None,
        typer.Option(
            "--log", metavar="FILE.iplog", help="A recorded log: show what would have been done."
        ),
    ] = None,
    prefix: Prefix = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Check a policy and print its rules; a wrong one ends with exit code 3. Nothing is ever sent.

    With --log, the run in the log is judged again, as a dry run.
    """
    from infoplane.cli.audit_trail import entry_fields
    from infoplane.cli.policy_check import policy_fields, proposals
    from infoplane.controller.policy import load_policy

    loaded = load_policy(policy)
    would: list[dict[str, Any]] | None = None
    if log is not None:
        settings = settings_from(config, None, prefix, policy={"file": str(policy)})
        would = [entry_fields(entry) for entry in proposals(log, settings)]
    if as_json:
        emit_json({"valid": True, **policy_fields(loaded), "would": would})
        return
    _print_rules(loaded)
    if would is not None:
        _print_proposals(would)


def _print_rules(policy: Policy) -> None:
    from infoplane.cli.policy_check import rule_fields

    columns = (
        "name",
        "when",
        "action",
        "value",
        "bounds",
        "cooldown_windows",
        "budget",
        "expires_s",
    )
    rows = [[rule_fields(rule)[name] for name in columns] for rule in policy.rules]
    headers = ("RULE", "WHEN", "ACTION", "VALUE", "BOUNDS", "COOLDOWN", "BUDGET", "EXPIRES S")
    emit_table(headers, rows)
    say(f"valid: mode {policy.mode}, at most {policy.budget} commands an attempt, {policy.hash}")


def _print_proposals(would: list[dict[str, Any]]) -> None:
    emit("")
    columns = ("window", "step", "rule", "stage", "action", "value", "reason")
    emit_table(
        tuple(name.upper() for name in columns),
        [[entry[name] for name in columns] for entry in would],
    )
    done = sum(entry["stage"] == "proposed" for entry in would)
    say(f"interventions that would have been made: {done}")


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of a policy."""
    from infoplane.controller.policy import Policy

    emit_json(Policy.model_json_schema(), indent=2)


@app.command("keygen")
def keygen(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the two files.")],
    as_json: Json = False,
) -> None:
    """Make a key pair: control.key for the controller alone, control.pub for the training jobs."""
    from infoplane.wire.commands import create_keys

    private, public = create_keys(out)
    if as_json:
        emit_json({"private": str(private), "public": str(public)})
        return
    emit(str(private))
    emit(str(public))
    say("controller: INFOPLANE_POLICY__PRIVATE_KEY_FILE; jobs: INFOPLANE_CONTROL__PUBLIC_KEYS")
