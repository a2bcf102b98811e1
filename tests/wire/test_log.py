"""The recorded log: round trips, torn tails, damage, merges."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoplane.wire import DecodeError
from infoplane.wire.log import LOG_MAGIC, LogEntry, LogWriter, read_log

ENTRIES = st.lists(
    st.builds(
        LogEntry,
        topic=st.text(max_size=20),
        partition=st.integers(0, 2**31 - 1),
        offset=st.integers(0, 2**63 - 2),
        timestamp_ms=st.integers(-(2**63), 2**63 - 1),
        key=st.binary(max_size=30),
        value=st.binary(max_size=200),
    ),
    max_size=8,
)


def write(path: Path, entries: list[LogEntry]) -> None:
    writer = LogWriter(path)
    for entry in entries:
        writer.append(entry)
    writer.close()


def entry(value: bytes, *, at: int = 0, offset: int = 0, topic: str = "t") -> LogEntry:
    return LogEntry(topic, 0, offset, at, b"k", value)


@given(entries=ENTRIES, more=ENTRIES)
def test_entries_round_trip_also_when_the_file_is_continued(
    tmp_path_factory: pytest.TempPathFactory, entries: list[LogEntry], more: list[LogEntry]
) -> None:
    path = tmp_path_factory.mktemp("log") / "x.iplog"
    write(path, entries)
    write(path, more)
    assert list(read_log(path)) == entries + more


@given(entries=ENTRIES.filter(bool), data=st.data())
def test_any_cut_gives_a_prefix_and_the_next_writer_goes_on_after_it(
    tmp_path_factory: pytest.TempPathFactory, entries: list[LogEntry], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("log") / "x.iplog"
    write(path, entries)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    kept = list(read_log(path))
    assert kept == entries[: len(kept)]
    assert len(kept) < len(entries)
    write(path, [entry(b"new")])
    assert list(read_log(path)) == [*kept, entry(b"new")]


@given(noise=st.binary(max_size=300))
def test_any_bytes_after_the_magic_are_entries_or_a_decode_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("log") / "x.iplog"
    path.write_bytes(LOG_MAGIC + noise)
    # Any other error fails the test.
    with contextlib.suppress(DecodeError):
        assert all(isinstance(e, LogEntry) for e in read_log(path))


def test_a_tail_of_zeros_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "x.iplog"
    write(path, [entry(b"1")])
    path.write_bytes(path.read_bytes() + bytes(4096))
    assert [e.value for e in read_log(path)] == [b"1"]


def test_damage_before_the_tail_raises(tmp_path: Path) -> None:
    path = tmp_path / "x.iplog"
    write(path, [entry(b"one"), entry(b"two")])
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"one")] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DecodeError, match="checksum"):
        list(read_log(path))


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"not a log of this kind")
    with pytest.raises(DecodeError, match="magic"):
        list(read_log(path))
    with pytest.raises(DecodeError, match="magic"):
        LogWriter(path)
    assert path.read_bytes() == b"not a log of this kind"


def test_a_directory_is_merged_by_time_with_new_offsets(tmp_path: Path) -> None:
    write(tmp_path / "r0.iplog", [entry(b"a", at=1), entry(b"c", at=3, offset=1)])
    write(tmp_path / "r1.iplog", [entry(b"b", at=2), entry(b"d", at=3, offset=1)])
    write(tmp_path / "other.txt", [entry(b"ignored", at=0)])
    merged = list(read_log(tmp_path))
    assert [(e.value, e.offset) for e in merged] == [(b"a", 0), (b"b", 1), (b"c", 2), (b"d", 3)]


def test_an_entry_beyond_the_limit_is_refused_when_written(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "x.iplog")
    with pytest.raises(ValueError, match="at most"):
        writer.append(entry(bytes(65 << 20)))
    writer.close()
