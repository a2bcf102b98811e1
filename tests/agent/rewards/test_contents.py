"""Contents: which forms are equal, what is refused, and that they are copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from infoplane.agent.rewards.contents import Padded, hold, size_of
from infoplane.agent.rewards.errors import EventError
from infoplane.agent.rewards.hashes import Hasher

HASHER = Hasher(5)


def hashes(values: Any, **keywords: Any) -> list[int]:
    return hold("prompt", values, **keywords).hashes(HASHER).tolist()


def test_text_and_its_bytes_agree() -> None:
    texts = ["", "hello", "Grüße", "\ud800 alone"]
    raw = [text.encode("utf-8", "surrogatepass") for text in texts]
    expected = hashes(texts)
    assert len(set(expected)) == 4
    assert hashes(raw) == hashes([bytearray(r) for r in raw]) == expected
    assert hashes(np.array(["hello"])) == hashes([memoryview(b"hello")]) == expected[1:2]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_token_ids_agree_in_every_form(dtype: torch.dtype) -> None:
    rows = [[1, 2, 3], [4, 5, 6]]
    tensor, expected = torch.tensor(rows, dtype=dtype), hashes(rows)
    assert len(set(expected)) == 2
    forms: list[Any] = [
        tensor,
        tensor.numpy(),
        list(tensor),
        tuple(tensor.numpy()),
        [rows[0], tensor[1]],
        tensor.repeat(1, 2)[:, :3],
        np.flip(np.flip(tensor.numpy(), 1), 1),
    ]
    assert all(hashes(form) == expected for form in forms)
    assert hashes([tensor[0]]) == expected[:1]


def test_own_ids_agree_in_every_form_and_differ_from_text_and_tokens() -> None:
    expected = hashes([5, -1])
    assert hashes(torch.tensor([5, -1])) == hashes(np.array([5, -1], dtype=np.int16)) == expected
    assert hashes([np.int32(5), torch.tensor(-1)]) == expected
    assert hashes([2**80, 5])[1] == expected[0]
    assert len({expected[0], *hashes(["5"]), *hashes([[5]]), *hashes([[]])}) == 4


def test_ragged_tensors_keep_their_bounds() -> None:
    ragged = [torch.tensor([1, 2]), torch.tensor([], dtype=torch.int64), torch.tensor([3])]
    assert hashes(ragged) == hashes([[1, 2], [], [3]])


@pytest.mark.parametrize("form", [torch.tensor, np.array])
def test_padding_is_no_content_under_a_mask(form: Any) -> None:
    ids = form([[0, 0, 1, 2], [3, 4, 0, 0], [9, 9, 9, 9]])
    mask = form([[0, 0, 1, 1], [1, 1, 1, 0], [0, 0, 0, 0]])
    padded = Padded(ids, mask)
    assert hashes(padded) == hashes([[1, 2], [3, 4, 0], []])
    assert size_of("prompt", padded) == 3
    held, before = hold("prompt", padded), hashes(padded)
    ids[:] = 7
    mask[:] = 1
    assert held.hashes(HASHER).tolist() == before
    assert held.nbytes > 0


@pytest.mark.parametrize(
    "values",
    [
        Padded(torch.ones(2, 3), torch.ones(2, 3)),
        Padded(torch.ones(2, 3, dtype=torch.long), np.array([["secret"] * 3] * 2)),
        Padded(torch.ones(2, 3, dtype=torch.long), torch.ones(2, 2)),
        Padded(torch.ones(3, dtype=torch.long), torch.ones(3)),
        Padded([[1, 2]], [[1, 1]]),
        Padded("secret", None),
    ],
)
def test_wrong_padding_is_refused(values: Padded) -> None:
    def both() -> None:
        size_of("prompt", values)
        hold("prompt", values)

    with pytest.raises(EventError) as caught:
        both()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("form", ["tensor", "array", "list", "ragged", "one", "bytes"])
def test_later_changes_of_the_caller_do_not_matter(form: str) -> None:
    tensor = torch.arange(6).reshape(2, 3)
    values: Any = {
        "tensor": tensor,
        "array": tensor.numpy(),
        "list": [[0, 1, 2], [3, 4, 5]],
        "ragged": [tensor[0], tensor[1]],
        "one": [tensor[0]],
        "bytes": [bytearray(b"abc")],
    }[form]
    before = hashes(values)
    held = hold("prompt", values)
    values[0][0] = 99
    assert held.hashes(HASHER).tolist() == before
    assert hashes(values) != before
    assert held.nbytes > 0


def test_raters_may_be_unknown() -> None:
    assert hashes([None, "ann"], allows_none=True) == [0, *hashes(["ann"])]
    with pytest.raises(EventError, match="NoneType"):
        hashes([None, "ann"])


@pytest.mark.parametrize(
    "values",
    [
        [1.5],
        [True],
        [{"role": "user", "content": "secret"}],
        [["secret"]],
        [[1.5]],
        [torch.ones(2, 2, dtype=torch.long)],
        torch.ones(3),
        torch.ones(3, dtype=torch.bool),
        np.ones((2, 2)),
        [torch.ones(2), torch.ones(2)],
        [object()],
    ],
)
def test_what_is_no_content_is_refused_without_quoting_it(values: Any) -> None:
    with pytest.raises(EventError) as caught:
        hold("prompt", values)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("item", [[1, "secret"], [1, 2.5], [1, [2]], [1, 2**70], [1, None]])
def test_what_hides_among_token_ids_is_found_later(item: Any) -> None:
    held = hold("prompt", [item])
    with pytest.raises(EventError) as caught:
        held.hashes(HASHER)
    assert "secret" not in str(caught.value)


def test_sizes_are_counted_without_reading() -> None:
    assert size_of("prompt", ["a", "b"]) == size_of("prompt", torch.ones(2, 9)) == 2
    assert size_of("prompt", np.arange(2)) == size_of("prompt", ()) + 2 == 2
    for wrong in ("text", b"text", {"a": 1}, {"a"}, iter([1]), 5, None, torch.ones(())):
        with pytest.raises(EventError):
            size_of("prompt", wrong)


def test_keys_make_other_hashes() -> None:
    held = hold("prompt", ["a", "b"])
    assert not set(held.hashes(Hasher(0)).tolist()) & set(held.hashes(Hasher(1)).tolist())
    words = held.hashes(HASHER)
    assert not set(HASHER.rows("a", [words]).tolist()) & set(HASHER.rows("b", [words]).tolist())


def test_the_hash_is_what_the_documentation_says() -> None:
    import hashlib

    expected = hashlib.blake2b(
        b"text:hi", digest_size=8, key=(5).to_bytes(8, "little"), person=b"infoplane.event"
    )
    assert hashes(["hi"]) == [int.from_bytes(expected.digest(), "little")]
