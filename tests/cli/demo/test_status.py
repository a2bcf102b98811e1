"""Status lines: whole lines only, and a file that is not there yet is no error."""

from __future__ import annotations

from pathlib import Path

from infoplane.cli.demo.status import StatusReader, StatusWriter


def test_lines_come_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "status.jsonl"
    reader = StatusReader(path)
    assert reader.new_lines() == []
    writer = StatusWriter(path)
    writer.write(step=1)
    with path.open("a") as torn:
        torn.write('{"step": 2')
    assert reader.new_lines() == [{"step": 1}]
    assert reader.new_lines() == []
    with path.open("a") as rest:
        rest.write("}\n")
    assert reader.new_lines() == [{"step": 2}]
    writer.close()


def test_a_writer_without_a_file_is_silent() -> None:
    writer = StatusWriter(None)
    writer.write(step=1)
    writer.close()
