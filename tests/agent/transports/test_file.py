"""The file transport writes logs that the reader gives back."""

from __future__ import annotations

from pathlib import Path

import pytest

from infoplane.agent.counters import Counters
from infoplane.agent.transports import FileTransport, Outgoing
from infoplane.wire.log import LogEntry, read_log


def write(path: Path, *messages: Outgoing) -> Counters:
    counters = Counters()
    transport = FileTransport(path, counters)
    for message in messages:
        assert transport.send(message)
    transport.close(1.0)
    return counters


def test_what_was_sent_is_read_back_with_offsets_per_topic(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rank-0.iplog"
    counters = write(
        path,
        Outgoing("a", b"k", b"1", 10),
        Outgoing("b", b"", b"2", 11),
        Outgoing("a", b"k", b"", 12),
    )
    assert list(read_log(path)) == [
        LogEntry("a", 0, 0, 10, b"k", b"1"),
        LogEntry("b", 0, 0, 11, b"", b"2"),
        LogEntry("a", 0, 1, 12, b"k", b""),
    ]
    found = counters.snapshot()
    assert found["records_sent", ""] == found["records_delivered", ""] == 3
    assert found["bytes_sent", ""] == 4


def test_a_restarted_rank_continues_its_file_after_a_torn_tail(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.iplog"
    write(path, Outgoing("a", b"k", b"one", 1), Outgoing("a", b"k", b"two", 2))
    path.write_bytes(path.read_bytes()[:-2])
    write(path, Outgoing("a", b"k", b"three", 3))
    assert [(e.offset, e.value) for e in read_log(path)] == [(0, b"one"), (1, b"three")]


def test_poll_makes_entries_visible_before_close(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.iplog"
    counters = Counters()
    transport = FileTransport(path, counters)
    transport.send(Outgoing("a", b"k", b"v", 1))
    transport.poll()
    assert [e.value for e in read_log(path)] == [b"v"]
    assert counters.snapshot()["records_delivered", ""] == 1
    transport.close(1.0)


def test_a_full_allowance_refuses(tmp_path: Path) -> None:
    transport = FileTransport(tmp_path / "rank-0.iplog", Counters(), max_bytes=10)
    assert transport.send(Outgoing("a", b"k", b"12345", 1))
    assert not transport.send(Outgoing("a", b"k", b"12345", 1))
    transport.close(1.0)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_raises_and_nothing_follows_a_torn_entry(tmp_path: Path) -> None:
    path = tmp_path / "rank-0.iplog"
    transport = FileTransport(path, Counters())
    big = Outgoing("a", b"k", bytes(100_000), 1)
    assert transport.send(big)
    transport.poll()
    raw = transport._writer._file
    full = open("/dev/full", "r+b")  # noqa: SIM115 - stands in for the file of a full disk
    transport._writer._file = full
    with pytest.raises(OSError, match="No space"):
        transport.send(big)
    with pytest.raises(ValueError, match="closed"):
        transport.send(big)
    raw.close()
    assert len(list(read_log(path))) == 1
