"""Files that a repository is expected to have, and that they agree with each other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERBS = {
    "kill-matrix",
    "chaos",
    "matrix",
    "oracles",
    "layouts",
    "gpu",
    "help",
    "setup",
    "demo",
    "demo-seeds",
    "test",
    "check",
    "fmt",
    "bench",
    "gen",
}


def test_the_makefile_has_and_explains_every_verb() -> None:
    text = (ROOT / "Makefile").read_text()
    explained = set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))
    assert explained == VERBS
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert set(phony.split()) == VERBS


def test_ci_calls_the_same_verbs() -> None:
    run = ROOT / ".ci/run"
    assert run.stat().st_mode & 0o111
    assert {"setup", "check", "test"} <= set(re.findall(r"make ([a-z]+)", run.read_text()))


def test_the_licence_is_the_one_that_the_package_names() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert 'license = "Apache-2.0"' in (ROOT / "pyproject.toml").read_text()


def test_the_changelog_knows_the_version() -> None:
    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_links_between_documents_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    broken = [
        f"{page.name}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []
