"""`infoplane doctor`: is everything there that a run needs?"""

from __future__ import annotations

from infoplane.cli.exits import CheckFailedError
from infoplane.cli.flags import Bootstrap, ConfigFile, Json, Prefix, settings_from
from infoplane.cli.output import emit_json, emit_table


def doctor(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Check versions, packages, settings, the broker, its topics and its clock; exit code 5 if a needed one fails."""
    from infoplane.cli.checkup import examine

    findings = examine(settings_from(config, bootstrap, prefix))
    if as_json:
        emit_json([finding.fields() for finding in findings])
    else:
        emit_table(("CHECK", "RESULT", "DETAIL"), [finding.row() for finding in findings])
    failed = [finding.name for finding in findings if finding.needed and not finding.passed]
    if failed:
        raise CheckFailedError(f"failed: {', '.join(failed)}")
