"""What the gate refuses, why, and that nothing is refused in silence."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from infoplane.agent.control.audit import Audit
from infoplane.agent.control.gate import Gate, Rules, Situation
from infoplane.agent.control.inbox import CAPACITY, Inbox
from infoplane.agent.counters import Counters
from infoplane.agent.identity import Coordinates, Identity
from infoplane.wire import decode, encode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.commands import REFUSALS, CommandError, KeyRing, Sign

ACTIONS = frozenset({"learning_rate_factor", "checkpoint", "sampling_level", "stop"})
BOUNDS = {"learning_rate_factor": (0.1, 1.0), "sampling_level": (4.0, 12.0)}
NOW = Situation(
    step=100,
    in_force={"learning_rate_factor": 1.0, "sampling_level": 4.0},
    able=ACTIONS - {"checkpoint"},
)
MakeCommand = Callable[..., pb.Command]


@pytest.fixture
def gate(keys: KeyRing) -> Gate:
    return Gate(Rules("test", 7, keys, ACTIONS - {"stop"}, BOUNDS))


class Desk:
    """An inbox with its trail."""

    def __init__(self, gate: Gate, room: int = 10_000) -> None:
        self.parcels: list[Any] = []
        self.counters = Counters()
        identity = Identity("test", 7, Coordinates(rank=0))
        self.inbox = Inbox(gate, Audit(identity, "infoplane.", self.counters, self.offer))
        self.room = room

    def offer(self, parcel: Any) -> bool:
        if len(self.parcels) >= self.room:
            return False
        self.parcels.append(parcel)
        return True

    @property
    def entries(self) -> list[pb.AuditEntry]:
        return [decode(one.encode()[0].value, pb.AuditEntry) for one in self.parcels]


@pytest.fixture
def desk(gate: Gate) -> Desk:
    return Desk(gate)


CASES: list[tuple[str, dict[str, Any]]] = [
    ("run", {"run": "other"}),
    ("attempt", {"attempt": 6}),
    ("attempt", {"attempt": 8}),
    ("expired", {"expires_ms": 1}),
    ("expired", {"expires_ms": 0}),
    ("action", {"action": "format_disk"}),
    ("action", {"action": ""}),
    ("action", {"action": "stop", "value": 0.0}),  # known, but not allowed in this run
    ("bounds", {"value": float("nan")}),
    ("bounds", {"value": float("inf")}),
    ("bounds", {"value": -1.0}),
    ("bounds", {"value": 0.05}),  # below the run's own bound
    ("bounds", {"value": 1.5}),
    ("bounds", {"value": 0.5, "high": 0.4}),  # beyond the policy's
    ("bounds", {"value": 0.5, "low": 0.6}),
    ("bounds", {"low": float("nan")}),
    ("bounds", {"action": "sampling_level", "value": 5.5}),
    ("bounds", {"action": "sampling_level", "value": 3.0}),  # below the base level
    ("bounds", {"action": "sampling_level", "value": 13.0}),
    ("bounds", {"action": "checkpoint", "value": 1.0}),
    ("precondition", {"first_step": 101}),
    ("precondition", {"last_step": 99}),
    ("precondition", {"if_value": 0.5}),
    ("precondition", {"action": "checkpoint", "value": 0.0, "if_value": 0.0}),  # nothing in force
    ("unsupported", {"action": "checkpoint", "value": 0.0}),
]


@pytest.mark.parametrize(("reason", "changes"), CASES)
def test_a_command_that_does_not_fit_is_refused_and_audited(
    desk: Desk, sign: Sign, make_command: MakeCommand, reason: str, changes: dict[str, Any]
) -> None:
    command = make_command("bad", **changes)
    assert desk.inbox.deliver(encode(sign(command)))
    assert desk.inbox.next(NOW) == b""
    (entry,) = desk.entries
    assert (entry.stage, entry.actor, entry.reason) == ("refused", "agent", reason)
    assert (entry.id, entry.action, entry.rule) == (command.id, command.action, "cut")
    assert (entry.run, entry.attempt, entry.mode) == ("test", 7, "enforce")


@pytest.mark.parametrize("changes", [
    {},
    {"first_step": 100, "last_step": 100, "if_value": 1.0},
    {"action": "sampling_level", "value": 12.0, "if_value": 4.0},
    {"value": 0.1, "low": 0.1, "high": 0.1},
])  # fmt: skip
def test_a_command_that_fits_passes(
    desk: Desk, sign: Sign, make_command: MakeCommand, changes: dict[str, Any]
) -> None:
    command = make_command("good", **changes)
    assert desk.inbox.deliver(encode(sign(command)))
    assert pb.Command.FromString(desk.inbox.next(NOW)) == command
    assert desk.inbox.next(NOW) == b""
    assert desk.entries == []


def forge(sign: Sign, other: Sign, command: pb.Command, kind: str) -> bytes:
    """Return `command` as somebody would send it who may not."""
    signed = sign(command)
    if kind == "unsigned":
        signed.signature = b""
    elif kind == "key":
        signed = other(command)
    elif kind == "signature":
        signed.signature = bytes(64)
    elif kind == "altered":
        command.value = 0.9
        signed.command = command.SerializeToString()
    elif kind == "garbage":
        return b"not a frame"
    elif kind == "kind":
        return encode(command_entry())
    return encode(signed)


def command_entry() -> pb.AuditEntry:
    return pb.AuditEntry(run="test", id="x", stage="sent", actor="controller")


FORGERIES = {
    "unsigned": "unsigned", "key": "key", "signature": "signature", "altered": "signature",
    "garbage": "malformed", "kind": "malformed",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "reason"), FORGERIES.items())
def test_a_forgery_is_refused_and_nothing_of_it_believed(
    desk: Desk, sign: Sign, other_sign: Sign, make_command: MakeCommand, kind: str, reason: str
) -> None:
    assert desk.inbox.deliver(forge(sign, other_sign, make_command("forged"), kind))
    (entry,) = desk.entries
    assert (entry.reason, entry.id, entry.action) == (reason, "", "")
    assert desk.inbox.next(NOW) == b""
    # Nor does it use up the id of the real one.
    desk.inbox.deliver(encode(sign(make_command("forged"))))
    assert desk.inbox.next(NOW) != b""


@pytest.mark.parametrize("changes", [{}, {"id": "another"}, {"nonce": bytes(16)}])
def test_an_id_or_a_nonce_that_was_seen_is_a_replay(
    desk: Desk, sign: Sign, make_command: MakeCommand, changes: dict[str, Any]
) -> None:
    desk.inbox.deliver(encode(sign(make_command("once"))))
    assert desk.inbox.next(NOW) != b""
    desk.inbox.deliver(encode(sign(make_command("once", **changes))))
    assert [entry.reason for entry in desk.entries] == ["replayed"]
    assert desk.inbox.next(NOW) == b""


def test_a_thousand_bad_commands_of_all_kinds_get_a_thousand_entries(
    desk: Desk, sign: Sign, other_sign: Sign, make_command: MakeCommand
) -> None:
    """With a good one now and then, whose replay is one of the kinds."""
    choose = random.Random(5)
    expected, good = [], 0
    kinds: list[Any] = [*CASES, *FORGERIES.items(), ("replayed", None), ("incomplete", None)]
    for number in range(1000):
        kind = choose.choice(kinds)
        if kind in CASES:
            expected.append(kind[0])
            raw = encode(sign(make_command(f"bad-{number}", **kind[1])))
        elif kind[0] == "replayed":
            raw = encode(sign(make_command(f"good-{number}")))
            desk.inbox.deliver(raw)
            good += desk.inbox.next(NOW) != b""
            expected.append("replayed")
        elif kind[0] == "incomplete":
            raw = encode(sign(make_command(f"bad-{number}", nonce=b"short")))
            expected.append("malformed")
        else:
            expected.append(kind[1])
            raw = forge(sign, other_sign, make_command(f"bad-{number}"), kind[0])
        assert desk.inbox.deliver(raw)
        assert desk.inbox.next(NOW) == b""
    assert [entry.reason for entry in desk.entries] == expected
    assert good == expected.count("replayed") > 0
    assert {*expected} == {*REFUSALS}
    assert desk.counters.total("control_commands") == 1000


def test_a_command_that_waited_too_long_is_expired(
    keys: KeyRing, make_command: MakeCommand
) -> None:
    gate = Gate(Rules("test", 7, keys, ACTIONS, BOUNDS), clock_ms=lambda: 10_001)
    with pytest.raises(CommandError) as caught:
        gate.admit(make_command(expires_ms=10_000), NOW)
    assert caught.value.reason == "expired"


def test_the_memory_is_bounded_and_forgets_the_oldest(
    keys: KeyRing, make_command: MakeCommand
) -> None:
    gate = Gate(Rules("test", 7, keys, ACTIONS, BOUNDS), remembered=10)
    for number in range(25):
        gate.check(make_command(str(number)))
    assert len(gate._seen) == 20
    gate.check(make_command("3"))
    with pytest.raises(CommandError, match="replayed"):
        gate.check(make_command("20"))


def test_a_full_inbox_takes_nothing_and_loses_nothing(
    desk: Desk, sign: Sign, make_command: MakeCommand
) -> None:
    raws = [encode(sign(make_command(str(number)))) for number in range(CAPACITY + 1)]
    assert [desk.inbox.deliver(raw) for raw in raws] == [True] * CAPACITY + [False]
    desk.inbox.next(NOW)
    assert desk.inbox.deliver(raws[-1])
    assert len(desk.inbox.drain()) == CAPACITY
    assert desk.entries == []


def test_entries_without_room_are_counted(gate: Gate) -> None:
    desk = Desk(gate, room=2)
    for _ in range(5):
        desk.inbox.deliver(b"garbage")
    assert desk.counters.total("audit_dropped") == 3
