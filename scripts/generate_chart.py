"""Rewrites the generated parts of the Helm chart; `--check` only says whether they are current.

Generated are the copies of dashboards and rules (Helm reads no file outside the chart) and, in values.schema.json, the
definitions of the settings: whatever pydantic refuses, Helm refuses at lint, render and install.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from infoplane.collector.settings import Settings

ROOT = Path(__file__).parents[1]
CHART = ROOT / "helm/infoplane"
SCHEMA = CHART / "values.schema.json"
# Folder in the chart -> files of the repository.
COPIES = {
    "files/dashboards": "dashboards/json/*.json",
    "files/rules": "dashboards/rules/*.rules.yaml",
}


def generated() -> dict[Path, str]:
    """Return path -> text of every generated file."""
    files = {SCHEMA: with_settings(SCHEMA.read_text(encoding="utf-8"))}
    for folder, pattern in COPIES.items():
        for source in sorted(ROOT.glob(pattern)):
            files[CHART / folder / source.name] = source.read_text(encoding="utf-8")
    return files


def with_settings(schema: str) -> str:
    """Return the schema of the values with the settings' definitions as they are now.

    Definitions written by hand begin with a small letter, those of pydantic's models with a capital one.
    """
    document: dict[str, Any] = json.loads(schema)
    ours = {name: one for name, one in document["definitions"].items() if name[0].islower()}
    document["definitions"] = ours | settings_definitions()
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def settings_definitions() -> dict[str, Any]:
    """Return the JSON Schema of Settings and its sections, by the name of the model."""
    # `definitions`, not `$defs`: older Helm 3 validates by draft 7.
    whole = Settings.model_json_schema(ref_template="#/definitions/{model}")
    sections = whole.pop("$defs")
    return {**sections, "Settings": whole}


def strangers(expected: dict[Path, str]) -> list[Path]:
    """Return the files among the copies that no source has any more."""
    present = [path for folder in COPIES for path in (CHART / folder).glob("*")]
    return [path for path in present if path not in expected]


def outdated() -> list[Path]:
    """Return the files that differ from what would be generated."""
    files = generated()
    differing = [
        path
        for path, text in files.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    return differing + strangers(files)


def main() -> None:
    """Rewrite, or with `--check` compare."""
    old = outdated()
    if "--check" in sys.argv[1:]:
        if old:
            names = ", ".join(str(path.relative_to(ROOT)) for path in old)
            raise SystemExit(f"not up to date: {names}; run scripts/generate_chart.py")
        return
    files = generated()
    for path in old:
        if path in files:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
            print(f"wrote {path.relative_to(ROOT)}")
        else:
            path.unlink()
            print(f"removed {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
