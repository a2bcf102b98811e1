"""Rows of two strata through the collector: merged without preference, and only uniform ones reach the metrics."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from infoplane.collector.assemble.bodies import SketchBody, TokensBody, restore
from infoplane.collector.assemble.rows import RowMerge
from infoplane.collector.assemble.strata import INCLUSION, UNIFORM, second_hash
from infoplane.collector.estimate.view import WindowView
from infoplane.wire import DecodeError, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb

K, C, N = 16, 4, 400


def sampling(keep: int = 1024, novel: int = C) -> pb.Sampling:
    return pb.Sampling(
        projection_dim=2, rows_per_step=K, rows_per_window=keep, novel_rows=novel, key_version=1
    )


def draw(
    seed: int, values: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.float32]]:
    """Return keys, positions and inclusion of a two-stratum sample of N rows; great values are novel."""
    generator = np.random.default_rng(seed)
    values = np.arange(N, dtype=np.float64) if values is None else values
    keys = generator.integers(1, 1 << 63, N, dtype=np.uint64)
    candidates = np.argsort(keys)[: 4 * K]
    certain = candidates[np.argsort(-values[candidates], kind="stable")[:C]]
    rest = np.setdiff1d(candidates, certain)
    rest = rest[np.argsort(keys[rest])][: K - C]
    chosen = np.concatenate([certain, rest])
    part = 4 * K / N
    inclusion = np.r_[np.full(C, part), np.full(K - C, part * (K - C) / (4 * K - C))]
    order = np.argsort(keys[chosen])
    return keys[chosen][order], chosen[order], inclusion[order].astype(np.float32)


def sketch(seed: int, keep: int = 1024, version: int = 3) -> pb.Sketch:
    keys, at, inclusion = draw(seed)
    scale = (at + 1).astype(np.float32)
    rows = pb.Rows(scaled=to_tensor(np.ones((K, 2), np.float16)), scale=to_tensor(scale))
    return pb.Sketch(
        sampling=sampling(keep),
        rows_total=N,
        row_keys=to_tensor(keys),
        inclusion=to_tensor(inclusion),
        reference=version,
        taps=[pb.TapSketch(tap="embed", width=2, rows=rows)],
    )


def tokens(seed: int, keep: int = 1024) -> pb.Tokens:
    keys, at, inclusion = draw(seed)
    column = pb.Column(name="position", values=to_tensor(at.astype(np.int32)))
    return pb.Tokens(
        sampling=sampling(keep),
        rows_total=N,
        row_keys=to_tensor(keys),
        inclusion=to_tensor(inclusion),
        columns=[column],
    )


def merged(parts: list[pb.Sketch]) -> SketchBody:
    body = SketchBody.of(parts[0])
    for part in parts[1:]:
        body.add(SketchBody.of(part))
    return body


def view(panes: list[pb.WindowPane]) -> WindowView:
    for pane in panes:
        pane.unit, pane.expected, pane.present = "u", 1, 1
    return WindowView.of_panes(panes)


@pytest.mark.parametrize("keep", [1024, 40, 20])
def test_the_pane_is_the_same_whatever_the_order_and_grouping(keep: int) -> None:
    parts = [sketch(seed, keep) for seed in range(5)]
    panes = {
        tuple(p.SerializeToString(deterministic=True) for p in merged(list(order)).parts())
        for order in permutations(parts)
    }
    left, right = merged(parts[:2]), merged(parts[2:])
    left.add(right)
    panes.add(tuple(p.SerializeToString(deterministic=True) for p in left.parts()))
    assert len(panes) == 1


def test_a_saved_window_goes_on_as_if_nothing_had_happened() -> None:
    parts = [sketch(seed, 40) for seed in range(6)]
    saved = restore(merged(parts[:4]).dump())
    assert isinstance(saved, SketchBody)
    for part in parts[4:]:
        saved.add(SketchBody.of(part))
    assert saved.parts() == merged(parts).parts()
    words = [tokens(seed, 40) for seed in range(6)]
    kept = TokensBody.of(words[0])
    for word in words[1:3]:
        kept.add(TokensBody.of(word))
    again = restore(kept.dump())
    assert isinstance(again, TokensBody)
    for word in words[3:]:
        again.add(TokensBody.of(word))
        kept.add(TokensBody.of(word))
    assert again.parts() == kept.parts()


def test_metrics_see_the_plain_sample_of_fewer_rows() -> None:
    seen = view([*merged([sketch(1), sketch(2)]).parts(), *TokensBody.of(tokens(1)).parts()])
    plain = []
    for seed in (1, 2):
        generator = np.random.default_rng(seed)
        plain.append(np.sort(generator.integers(1, 1 << 63, N, dtype=np.uint64))[: K - C])
    rows = seen.taps["embed"].rows
    assert rows is not None
    assert rows.keys.tolist() == sorted(np.concatenate(plain).tolist())
    assert rows.columns == {}
    weighted = seen.taps["embed"].weighted_rows
    assert weighted is not None
    assert len(weighted) == 2 * K
    assert seen.tokens is not None
    assert seen.tokens.sample.keys.tolist() == plain[0].tolist()
    assert set(seen.tokens.sample.columns) == {"position"}


def test_taps_and_tokens_keep_the_same_rows_when_there_are_too_many() -> None:
    parts = merged([sketch(seed, 30) for seed in range(6)]).parts()
    words = TokensBody.of(tokens(0, 30))
    for seed in range(1, 6):
        words.add(TokensBody.of(tokens(seed, 30)))
    (pane,) = words.parts()
    assert from_tensor(parts[0].row_keys).tolist() == from_tensor(pane.tokens.row_keys).tolist()
    assert from_tensor(parts[0].row_keys).shape == (30,)
    assert parts[0].row_inclusion == pane.row_inclusion


def test_a_cut_prefers_no_stratum_and_leaves_weighted_means_right() -> None:
    """Keys alone would keep a quarter as many certain rows as others; means over the rows would be far too small."""
    kept_certain, kept, means, uniform_means = 0, 0, [], []
    for seed in range(600):
        merge = RowMerge(24)
        for part in range(3):
            keys, at, inclusion = draw(3 * seed + part)
            uniform = (np.arange(K) < K - C).astype(np.uint8)
            merge.add(keys, {"at": at, INCLUSION: inclusion, UNIFORM: uniform})
        _, columns = merge.settle()
        weight = 1.0 / columns[INCLUSION].astype(np.float64)
        kept_certain += int((columns[INCLUSION] > 0.15).sum())
        kept += len(weight)
        # Over all windows: the sum of weighted values, over that of weights.
        means.append(((columns["at"] * weight).sum(), weight.sum()))
        uniform_means.append(columns["at"][columns[UNIFORM] == 1].mean())
    share = kept_certain / kept
    assert abs(share - C / K) < 4 * np.sqrt(C / K * (1 - C / K) / kept)
    top, bottom = np.array(means).T
    ratio = top.sum() / bottom.sum()
    spread = np.std(top - ratio * bottom) / bottom.mean() / np.sqrt(len(top))
    assert abs(ratio - (N - 1) / 2) < 3 * spread
    error = np.mean(uniform_means) - (N - 1) / 2
    assert abs(error) < 3 * np.std(uniform_means) / np.sqrt(len(uniform_means))


def test_windows_that_mix_references_say_so() -> None:
    body = merged([sketch(1, version=3), sketch(2, version=0), sketch(3, version=7)])
    assert list(body.parts()[0].references) == [0, 3, 7]


def test_without_strata_panes_are_as_they_were() -> None:
    plain = sketch(1, 10)
    plain.ClearField("inclusion")
    plain.sampling.novel_rows = 0
    (pane,) = merged([plain]).parts()
    fields = {field.name for field, _ in pane.ListFields()}
    assert fields == {"sampling", "rows_total", "row_keys", "tap"}
    assert from_tensor(pane.row_keys).tolist() == sorted(draw(1)[0].tolist())[:10]


def test_the_second_hash_is_a_bijection_that_forgets_the_key() -> None:
    keys = np.arange(1, 50_001, dtype=np.uint64)
    hashed = second_hash(keys)
    assert len(np.unique(hashed)) == len(keys)
    assert abs(np.corrcoef(keys.astype(float), hashed.astype(float))[0, 1]) < 0.02


def test_impossible_strata_are_refused() -> None:
    wrong = sketch(1)
    wrong.inclusion.CopyFrom(to_tensor(np.zeros(K, np.float32)))
    with pytest.raises(DecodeError, match="inclusion"):
        SketchBody.of(wrong)
    wrong.inclusion.CopyFrom(to_tensor(np.full(K - 1, 0.5, np.float32)))
    with pytest.raises(DecodeError, match="shape"):
        SketchBody.of(wrong)
    split = sketch(1)
    split.taps[0].rows.Clear()
    split.taps[0].rows.parts = 2
    split.taps[0].rows.partial.CopyFrom(to_tensor(np.ones((K, 2), np.float32)))
    with pytest.raises(DecodeError, match="novelty"):
        SketchBody.of(split)


def test_a_record_of_a_rank_with_other_settings_does_not_fit() -> None:
    other = sketch(2)
    other.sampling.novel_rows = 0
    other.ClearField("inclusion")
    assert not SketchBody.of(sketch(1)).agrees_with(SketchBody.of(other))
