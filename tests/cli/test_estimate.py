"""`infoplane estimate`: arrays in files, one JSON line a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

FIELDS = [
    "metric",
    "value",
    "unit",
    "n",
    "null_mean",
    "null_sd",
    "ceiling",
    "saturated",
    "band",
    "estimator",
    "version",
]


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def npz(name: str, **arrays: Any) -> Path:
        path = tmp_path / name
        np.savez(path, **arrays)
        return path

    return npz


def gaussian_pair(rng: np.random.Generator, n: int, rho: float) -> dict[str, Any]:
    x = rng.standard_normal((n, 1))
    y = rho * x + np.sqrt(1 - rho**2) * rng.standard_normal((n, 1))
    return {"x": x, "y": y}


def test_entropy_of_equal_eigenvalues_is_the_logarithm_of_their_number(
    invoke: Any, write: Any
) -> None:
    path = write("a.npz", x=np.concatenate([np.eye(8), -np.eye(8)] * 500))
    out = invoke("estimate", "von_neumann_entropy_nats", path, "--json")
    assert out.code == 0, out.stderr
    (row,) = out.lines()
    assert list(row) == FIELDS
    assert row["metric"] == "von_neumann_entropy_nats"
    assert row["unit"] == "nats"
    assert row["n"] == 8000
    assert row["value"] == pytest.approx(np.log(8), abs=0.01)


def test_files_come_back_in_order_and_the_estimator_can_be_chosen(invoke: Any, write: Any) -> None:
    rng = np.random.default_rng(0)
    strong = write("strong.npz", **gaussian_pair(rng, 2048, 0.93))
    none = write("none.npz", **gaussian_pair(rng, 2048, 0.0))
    arguments = ("mutual_information_nats", strong, none, "--set", "estimator=gaussian", "--json")
    out = invoke("estimate", *arguments)
    assert out.code == 0, out.stderr
    first, second = out.lines()
    assert first["estimator"] == second["estimator"] == "gaussian"
    assert first["value"] == pytest.approx(-0.5 * np.log(1 - 0.93**2), abs=0.1)
    assert abs(second["value"]) < 0.05


def test_the_same_seed_gives_the_same_bits(invoke: Any, write: Any) -> None:
    path = write("a.npz", **gaussian_pair(np.random.default_rng(1), 512, 0.8))
    arguments = ("estimate", "infoplane_mutual_information_nats", path, "--seed", 5, "--json")
    assert invoke(*arguments).stdout == invoke(*arguments).stdout


def test_labels_beat_rows_alone(invoke: Any, write: Any) -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 4, 2000)
    path = write(
        "a.npz", x=np.eye(4)[labels] + 0.01 * rng.standard_normal((2000, 4)), labels=labels
    )
    (row,) = invoke("estimate", "usable_accuracy_ratio", path, "--json").lines()
    assert row["value"] > 0.95


def test_an_undefined_estimate_is_null_and_says_why(invoke: Any, write: Any) -> None:
    path = write("a.npz", x=np.zeros((100, 3)))
    (row,) = invoke("estimate", "von_neumann_entropy_nats", path, "--json").lines()
    assert row["value"] is None
    assert row["undefined"]


def test_people_get_a_table(invoke: Any, write: Any) -> None:
    path = write("a.npz", x=np.random.default_rng(3).standard_normal((100, 3)))
    out = invoke("estimate", "representation_rms", path)
    header, line = out.stdout.splitlines()
    assert header.split()[:3] == ["file", "value", "unit"]
    assert line.startswith(str(path))


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"z": np.ones(3)}, "expected a file with the arrays x"),
        ({"x": np.ones((0, 3))}, "expected an array that is not empty"),
        ({"x": np.array(["a", "b"])}, "expected an array of numbers"),
        ({"x": np.ones((2, 2, 2))}, "expected numbers of shape (n, d)"),
    ],
)
def test_wrong_arrays_are_named(
    invoke: Any, write: Any, arrays: dict[str, Any], expected: str
) -> None:
    path = write("bad.npz", **arrays)
    out = invoke("estimate", "von_neumann_entropy_nats", path, "--json")
    assert out.code == 3
    assert out.stdout == ""
    assert str(path) in out.stderr
    assert expected in out.stderr
    assert len(out.stderr.splitlines()) == 1


def test_rows_must_agree(invoke: Any, write: Any) -> None:
    path = write("a.npz", x=np.ones((10, 2)), y=np.ones((9, 2)))
    out = invoke("estimate", "mutual_information_nats", path)
    assert out.code == 3
    assert f"{path}: y = (9, 2): expected as many rows as x, 10" in out.stderr


def test_labels_must_be_whole_numbers(invoke: Any, write: Any) -> None:
    path = write("a.npz", x=np.ones((10, 2)), labels=np.ones(10))
    out = invoke("estimate", "usable_accuracy_ratio", path)
    assert out.code == 3
    assert "expected integers" in out.stderr


@pytest.mark.parametrize("content", [None, b"", b"no zip", b"PK\x03\x04 torn"])
def test_files_that_are_none(invoke: Any, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    out = invoke("estimate", "effective_rank", path)
    assert out.code == 3
    assert f"file = '{path}'" in out.stderr


def test_pickled_objects_are_never_loaded(invoke: Any, write: Any) -> None:
    path = write("a.npz", x=np.array([{}, {}], dtype=object))
    out = invoke("estimate", "effective_rank", path)
    assert out.code == 3
    assert "plain arrays" in out.stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("estimator=magic", "estimator = 'magic': expected one of"),
        ("permutations=some", "permutations = 'some': expected a whole number"),
        ("speed=high", "speed = 'high': expected a setting of"),
        ("permutations", "--set = 'permutations': expected KEY=VALUE"),
    ],
)
def test_wrong_settings_are_named(invoke: Any, write: Any, setting: str, message: str) -> None:
    path = write("a.npz", **gaussian_pair(np.random.default_rng(4), 256, 0.5))
    out = invoke("estimate", "mutual_information_nats", path, "--set", setting)
    assert out.code == 3
    assert message in out.stderr


def test_a_metric_without_arrays_and_an_unknown_one(invoke: Any, write: Any) -> None:
    path = write("a.npz", x=np.ones((3, 3)))
    assert invoke("estimate", "agent_overhead_ratio", path).code == 3
    out = invoke("estimate", "no_such_metric", path)
    assert out.code == 2
    assert "no_such_metric" in out.stderr
    assert "effective_rank" in out.stderr
