"""The validation framework on made-up reference data: statistics, skips, samples, thresholds, bad manifests."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_samples import check_against_schema

from archsim.cli import main as cli
from archsim.errors import ArchsimError, ConfigError, InputError, UsageError
from archsim.report import json_text
from archsim.validation import KINDS, validate
from archsim.validation.manifest import read_manifest
from archsim.validation.statistics import column_statistics as statistics_of
from archsim.validation.statistics import compare_column


class Doubling:
    """Predicts twice the input, with one kind of row it does not know."""

    group_by = ("machine",)

    def predict(
        self, rows: list[dict[str, str]], folder: Path, dataset: dict[str, Any]
    ) -> tuple[dict[str, list[Any]], list[str | None]]:
        reasons = [f"machine {row['machine']} is unknown" if row["machine"] == "z" else None for row in rows]
        doubled = [2.0 * float(row["x"]) for row in rows]
        words = ["ACT" if float(row["x"]) < 3 else "RD" for row in rows]
        return {"y": list(doubled), "word": list(words)}, reasons


@pytest.fixture
def doubling() -> Iterator[None]:
    KINDS._items["doubling"] = Doubling
    yield
    del KINDS._items["doubling"]


def write_data(folder: Path, rows: list[list[object]], manifest: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["machine", "x", "y", "word"], *rows])
    text = "name: made-up\ndatasets:\n  - {kind: doubling, results: data.csv, truth: [y, word]}\n"
    (folder / "manifest.yaml").write_text(manifest if manifest is not None else text, encoding="utf-8")
    return folder


ROWS: list[list[object]] = [
    ["a", 1, 2, "ACT"],
    ["a", 2, 5, "ACT"],
    ["b", 4, 4, "ACT"],
    ["z", 5, 10, "RD"],
    ["b", 3, "", "RD"],
]


@pytest.mark.usefixtures("doubling")
def test_statistics_follow_their_definitions(tmp_path: Path) -> None:
    (result,) = validate([write_data(tmp_path, ROWS)]).datasets
    assert (result.rows, result.skipped, result.reasons) == (5, 1, {"machine z is unknown": 1})
    y, word = result.columns["y"], result.columns["word"]
    assert (y.rows, y.exact) == (3, 1)  # the row without a truth and the skipped one are not compared
    errors = np.array([0.0, (4 - 5) / 5, (8 - 4) / 4]) * 100
    assert y.mape_pct == pytest.approx(np.abs(errors).mean())
    assert y.median_ape_pct == pytest.approx(20.0)
    assert y.p95_ape_pct == pytest.approx(np.percentile(np.abs(errors), 95))
    assert y.max_ape_pct == pytest.approx(100.0)
    assert y.bias_pct == pytest.approx(errors.mean())
    assert [(worst["row"], worst["truth"], worst["predicted"]) for worst in y.worst] == [(3, "4", 8.0), (2, "5", 4.0)]
    assert (word.rows, word.exact, word.max_ape_pct) == (4, 3, 100.0)
    groups = {group.by["machine"]: group for group in result.groups}
    assert (groups["a"].rows, groups["a"].mape_pct) == (2, pytest.approx(10.0))
    assert groups["b"].bias_pct == pytest.approx(100.0)


@pytest.mark.usefixtures("doubling")
def test_json_follows_the_published_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["validate", str(write_data(tmp_path, ROWS)), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    check_against_schema(document, "validation")
    assert document["reference"] == "made-up"


@pytest.mark.usefixtures("doubling")
def test_table_says_why_rows_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["validate", str(write_data(tmp_path, ROWS))]) == 0
    text = capsys.readouterr().out
    assert "1 rows: machine z is unknown" in text
    assert "row 3 of data.csv" in text


@pytest.mark.usefixtures("doubling")
@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 0), (["--max-ape", "100"], 0), (["--max-ape", "99"], 1), (["--max-skipped", "1"], 0),
        (["--max-skipped", "0"], 1),
    ],
)  # fmt: skip
def test_only_missed_thresholds_fail(
    tmp_path: Path, options: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["validate", str(write_data(tmp_path, ROWS)), *options]) == code
    assert capsys.readouterr().err.count("\n") == (1 if code else 0)


def test_unknown_kind_is_skipped_with_a_reason(tmp_path: Path) -> None:
    manifest = "datasets: [{kind: no-such-kind, results: data.csv, truth: [y]}]"
    (result,) = validate([write_data(tmp_path, ROWS, manifest)]).datasets
    assert (result.rows, result.skipped, result.columns) == (5, 5, {})
    assert result.reasons == {"no model for kind 'no-such-kind'": 5}


@pytest.mark.usefixtures("doubling")
def test_samples_are_seeded_and_keep_file_order(tmp_path: Path) -> None:
    rows: list[list[object]] = [["a", index, 2 * index + 1, "RD"] for index in range(1, 101)]
    folder = write_data(tmp_path, rows)
    first, again, other = (validate([folder], limit=10, seed=seed).datasets[0] for seed in (1, 1, 2))
    assert first == again
    assert first.columns["y"] != other.columns["y"]
    assert first.rows == 10
    assert validate([folder], limit=1000).datasets[0].rows == 100


@pytest.mark.usefixtures("doubling")
def test_samples_keep_bundles_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Doubling, "sample_by", ("machine",), raising=False)
    rows: list[list[object]] = [[f"m{index // 5}", index, 2 * index, "RD"] for index in range(50)]
    (result,) = validate([write_data(tmp_path, rows)], limit=12).datasets
    assert {group.rows for group in result.groups} <= {4, 5}  # a truth of zero rows aside, bundles are whole
    assert result.rows == 15


@pytest.mark.usefixtures("doubling")
def test_patterns_take_only_files_with_the_truth_columns(tmp_path: Path) -> None:
    manifest = "datasets: [{kind: doubling, results: '*.csv', truth: [y]}]"
    folder = write_data(tmp_path, ROWS, manifest)
    (folder / "more.csv").write_text("machine,x,y\na,1,2\n")
    (folder / "summary.csv").write_text("policy,rate\norca,3\n")
    (result,) = validate([folder]).datasets
    assert result.rows == 6


@pytest.mark.usefixtures("doubling")
def test_folders_are_reported_together(tmp_path: Path) -> None:
    report = validate([write_data(tmp_path / "one", ROWS), write_data(tmp_path / "two", ROWS)], kinds=["doubling"])
    assert report.reference == "made-up, made-up"
    assert len(report.datasets) == 2
    with pytest.raises(UsageError, match="did you mean 'doubling'"):
        validate([tmp_path / "one"], kinds=["doublin"])


def test_columns_of_numbers_with_gaps_and_zeros() -> None:
    found = compare_column(["0", "0", "2", "nan", "", "-4"], [0.0, 1.0, None, 3.0, 3.0, -2.0])
    assert found.index == [0, 1, 5]
    np.testing.assert_allclose(found.error, [0.0, 1.0, 0.5])
    assert found.equal.tolist() == [True, False, False]


def test_exact_means_the_digits_that_were_written() -> None:
    found = compare_column(["3.14159265", "3.1", "12", "1.50000e3"], [math.pi, math.pi, 12.2, 1500.001])
    assert found.equal.tolist() == [True, False, False, True]
    assert compare_column(["RD", "WR"], ["RD", "PRE"]).equal.tolist() == [True, False]


def test_a_prediction_that_is_no_number_counts_as_wrong() -> None:
    statistics = statistics_of(compare_column(["1"], [float("nan")]), [{"row": 1, "file": "f", "of": {}}])
    assert statistics.max_ape_pct is not None
    assert statistics.max_ape_pct > 1e6
    assert statistics.exact == 0


def test_nothing_to_compare_gives_no_numbers() -> None:
    statistics = statistics_of(compare_column(["", "1"], [1.0, None]), [{}, {}])
    assert (statistics.rows, statistics.mape_pct, statistics.worst) == (0, None, ())
    json_text(statistics)


BAD_MANIFESTS = {
    "datasets: 3": "expected a list of datasets",
    "name: x": "expected a list of datasets",
    "[1, 2]": "expected a mapping",
    "dataset: []": "did you mean 'datasets'?",
    "datasets: [3]": "expected a mapping",
    "datasets: [{results: data.csv}]": "expected the name of a kind",
    "datasets: [{kind: doubling}]": "expected a file name",
    "datasets: [{kind: doubling, results: [1]}]": "expected a file name",
    "datasets: [{kind: doubling, results: data.csv, truth: y}]": "expected a list of column names",
    "datasets: [{kind: doubling, results: absent.csv, truth: [y]}]": "no such file",
    "datasets: [{kind: doubling, results: '*.tsv', truth: [y]}]": "no such file",
    "datasets: [{kind: doubling, results: ../data.csv, truth: [y]}]": "outside the folder",
    "datasets: [{kind: doubling, results: /etc/passwd, truth: [y]}]": "outside the folder",
    "datasets: [{kind: doubling, results: data.csv, truth: [yy]}]": "did you mean 'y'?",
    "datasets: [": "manifest.yaml",
}


@pytest.mark.usefixtures("doubling")
@pytest.mark.parametrize("text", BAD_MANIFESTS)
def test_bad_manifests_end_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ArchsimError) as caught:
        validate([write_data(tmp_path, ROWS, text)])
    assert BAD_MANIFESTS[text] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("doubling")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"machine,x,y,word\na,1\n", ":2: 2 cells, the header has 4"), (b"", "no header"), (b"\xff\xfe", "not UTF-8"),
        (b"x,x,y,word\n", "a column name twice"), (b'machine,x,y,word\n"a,1,2,RD', "not readable as CSV"),
    ],
)  # fmt: skip
def test_bad_tables_end_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    folder = write_data(tmp_path, ROWS)
    (folder / "data.csv").write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        validate([folder])
    assert "\n" not in str(caught.value)


def test_a_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no manifest\.yaml"):
        validate([tmp_path])
    with pytest.raises(ConfigError, match="duplicate key"):
        read_manifest(write_data(tmp_path, ROWS, "name: a\nname: b\ndatasets: []"))


def test_shipped_manifests_are_readable(reference_dir: Path) -> None:
    folders = sorted(path.parent for path in reference_dir.glob("*/manifest.yaml"))
    assert len(folders) >= 10
    for folder in folders:
        assert read_manifest(folder).datasets
