from __future__ import annotations

import numpy as np
import pytest

from infoplane.collector.interventions import gather
from infoplane.exporter import Store
from infoplane.exporter.page.charts import BY_ID
from infoplane.exporter.page.detail import window_detail
from infoplane.exporter.page.grid import PAST_WINDOWS, changes_of, grid_of
from infoplane.exporter.page.intervention_list import steps_of
from infoplane.exporter.page.marks import action_marks_of
from infoplane.exporter.page.picture import Painter
from infoplane.exporter.testing import SPAN, MadeUpRun

RUN = MadeUpRun("r", 12, breaks_at=40)


@pytest.fixture(scope="module")
def store() -> Store:
    filled = Store(ttl_s=600, series_cap=10_000, history_windows=400)
    for window in range(60):
        for one in RUN.results(window, float(window)):
            filled.add(one)
    filled.add_verdict(RUN.verdict(42, 42.0))
    for entry in RUN.audit(42, 42.0):
        filled.add_audit(entry)
    return filled


def test_heatmap_rows_run_from_the_input_to_the_output(store: Store) -> None:
    grid = grid_of(BY_ID["entropy"].curves(store, "r"))
    assert list(grid.rows) == RUN.taps
    assert grid.steps[-1] == 60 * SPAN - 1
    assert np.isfinite(grid.values).all()


def test_a_cadence_leaves_no_stripes_and_a_gap_leaves_a_hole(store: Store) -> None:
    curves = BY_ID["next-token"].curves(store, "r")
    assert list(grid_of(curves).windows) == list(range(0, 60, 2))
    holed = {
        name: [p for p in points if p.window not in (20, 22)] for name, points in curves.items()
    }
    grid = grid_of(holed)
    assert list(grid.windows) == list(range(0, 60, 2))
    assert np.isnan(grid.values[:, [10, 11]]).all()
    assert grid.steps[10] == 21 * SPAN - 1


def test_one_estimator_is_shown_and_the_held_out_one_goes_first(store: Store) -> None:
    curves = BY_ID["neighbours"].curves(store, "r")
    assert len(curves) == len(RUN.taps) - 1
    assert all(point.window % 2 == 0 for points in curves.values() for point in points)


def test_changes_agree_with_their_definition(store: Store) -> None:
    grid = grid_of(BY_ID["entropy"].curves(store, "r"))
    grid.values[3, 30:34] = np.nan
    found = changes_of(grid)
    for row, column in ((0, 8), (3, 36), (7, 50), (12, 59)):
        past = grid.values[row, max(0, column - PAST_WINDOWS) : column]
        center = np.nanmedian(past)
        spread = max(1.4826 * np.nanmedian(np.abs(past - center)), 0.002 * abs(center) + 1e-9)
        assert found[row, column] == pytest.approx((grid.values[row, column] - center) / spread)
    assert np.isnan(found[:, :6]).all()


def test_a_collapse_stands_out_in_the_changes(store: Store) -> None:
    found = changes_of(grid_of(BY_ID["entropy"].curves(store, "r")))
    assert (found[7:, 43] < -5).all()
    assert (np.abs(found[:7, 43]) < 4).all()


def test_a_verdict_is_a_box_around_its_taps_from_its_first_step(store: Store) -> None:
    options = Painter(store).paint("r", False).drawings["entropy"].options
    own = [box for box in options["series"][1]["data"] if box[5]]
    assert own == [[40, 42, 7, 13, 2, 1]]


def test_an_intervention_is_a_line_at_the_step_where_it_took_effect(store: Store) -> None:
    picture = Painter(store).paint("r", False)
    lines = picture.drawings["loss"].options["series"][0]["markLine"]["data"]
    (named,) = [line for line in lines if "name" in line]
    assert (named["xAxis"], named["name"]) == (43 * SPAN + 4, "learning_rate_factor 0.1")
    boxes = picture.drawings["entropy"].options["series"][1]["data"]
    assert [box for box in boxes if box[4] == 3] == [[43, 43, 0, len(RUN.taps) - 1, 3, 0]]
    (listed,) = picture.interventions
    assert steps_of(listed) == f"step {43 * SPAN + 4:,} on 2 ranks"


def test_a_dry_run_leaves_a_dotted_line_and_a_refusal_none(store: Store) -> None:
    proposed, sent, *_ = RUN.audit(42, 42.0)
    (mark,) = action_marks_of(gather([proposed]))
    assert (mark.step, mark.is_applied) == (43 * SPAN - 1, False)
    refused = type(sent)()
    refused.CopyFrom(sent)
    refused.stage = "refused"
    assert action_marks_of(gather([proposed, refused])) == []


def test_painting_again_is_free_until_something_changes(store: Store) -> None:
    painter = Painter(store)
    assert painter.paint("r", False) is painter.paint("r", False)
    assert painter.paint("r", True) is not painter.paint("r", False)


def test_hovering_tells_everything(store: Store) -> None:
    row = window_detail(store, "r", BY_ID["next-token"], 40, 3)["rows"]
    assert [one["name"] for one in row] == ["02/block"]
    assert {
        "value",
        "n",
        "completeness",
        "null_mean",
        "null_sd",
        "ceiling",
        "saturated",
        "band_low",
    } <= set(row[0])
    assert row[0]["n"] == 1024
