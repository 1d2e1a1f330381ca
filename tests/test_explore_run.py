"""Runs: nothing is lost when they are killed, and the result depends on the space alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from archsim.cli.main import run
from archsim.config.schemas.space import Space
from archsim.errors import ConfigError, UsageError
from archsim.explore import explore
from archsim.explore import pool as pool_module

ROOT = Path(__file__).resolve().parents[1]
CHEAP, SLOW = "explore_points:cheap", "explore_points:slow"
DOCUMENT: dict[str, Any] = {
    "kind": "space", "name": "test", "systems": ["a", "b"], "models": ["m"],
    "parameters": {
        "request.batch": [1, 2, 4, 8, 13, 16, 32, 64],
        "system.width": {"from": 1, "to": 5, "count": 5},
        "system.memory": ["1 TB/s", "2 TB/s"],
    },
    "constraints": {"latency.tpot_s": {"max": 4.0}},
    "objectives": {
        "latency.tpot_s": "min", "throughput.decode_tokens_per_s": "max", "cost.usd_per_million_tokens": "min",
    },
}  # fmt: skip
SPACE = Space.model_validate(DOCUMENT)


def datasets(path: Path) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Name -> (values, attributes) of every dataset of a file."""
    found: dict[str, tuple[Any, dict[str, Any]]] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: (item[()], {key: item.attrs[key] for key in ("units", "long_name")})})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
    return found


def assert_same(first: Path, second: Path) -> None:
    ours, theirs = datasets(first / "points.h5"), datasets(second / "points.h5")
    assert ours.keys() == theirs.keys()
    for name, (values, attributes) in ours.items():
        np.testing.assert_array_equal(values, theirs[name][0])
        assert values.dtype == theirs[name][0].dtype
        assert attributes == theirs[name][1]
    assert (first / "result.json").read_bytes() == (second / "result.json").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run in one process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    explore(SPACE, folder, workers=1, evaluate=SLOW)
    return folder


def test_counts_front_and_table_agree(whole: Path) -> None:
    result = json.loads((whole / "result.json").read_text())
    assert result["points"] == SPACE.size == 160
    assert (result["ok"], result["infeasible"], result["errors"]) == (120, 20, 20)
    assert result["reasons"] == {"a batch of 64 does not fit": 20, "thirteen is not allowed": 20}
    with h5py.File(whole / "points.h5") as file:
        points = file["points"]
        rank, status = points["pareto_rank"][()], points["status"].asstr()[()]
        within, step_s = points["within_constraints"][()] == 1, points["metric.latency.tpot_s"][()]
        assert set(points["index"][rank == 0]) == {point["index"] for point in result["front"]}
        assert (rank[status != "ok"] == -1).all()
        assert ((rank >= 0) == within).all()
        assert (step_s[within] <= 4.0).all()
        assert np.isnan(step_s[status != "ok"]).all()
        assert points["metric.latency.tpot_s"].attrs["units"] == "s"
        assert points["parameter.system.width"].dtype.kind == "i"
        assert points["parameter.system.memory"].asstr()[1] == "2 TB/s"
    assert result["outside_constraints"] == 120 - within.sum() > 0


def test_points_compete_for_the_same_work_only(tmp_path: Path) -> None:
    shape = {
        "models": ["m", "n"],
        "requests": [{"input_len": 1}, {"input_len": 2}],
        "parameters": {"request.batch": [1]},
    }
    result = explore(Space.model_validate(DOCUMENT | shape), tmp_path / "run", workers=1, evaluate=CHEAP)
    works = [(point.model, point.input_len) for point in result.front]
    assert sorted(set(works)) == [("m", 1), ("m", 2), ("n", 1), ("n", 2)]


def test_the_result_does_not_depend_on_the_number_of_workers(whole: Path, tmp_path: Path) -> None:
    explore(SPACE, tmp_path / "run", workers=2, evaluate=SLOW)
    assert_same(whole, tmp_path / "run")


def _start(folder: Path, workers: int) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; from archsim.config.schemas.space import Space\n"
        "from archsim.explore import explore\n"
        "space = Space.model_validate_json(sys.argv[1])\n"
        f"explore(space, Path(sys.argv[2]), workers={workers}, resume=True, evaluate={SLOW!r})\n"
    )
    script = folder.parent / "start.py"
    script.write_text("if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in code.splitlines()))
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return subprocess.Popen([sys.executable, str(script), json.dumps(DOCUMENT), str(folder)], env=environment)


def _finished(folder: Path) -> dict[str, bytes]:
    """Name -> content; every point file that exists is whole."""
    files = {path.name: path.read_bytes() for path in folder.glob("points/*/*.json")}
    for content in files.values():
        json.loads(content)
    return files


@pytest.mark.parametrize("workers", [1, 2])
def test_killing_a_run_loses_no_finished_point(whole: Path, tmp_path: Path, workers: int) -> None:
    folder = tmp_path / "run"
    before: dict[str, bytes] = {}
    for kill in range(3):
        process = _start(folder, workers)
        target = 20 * (kill + 1)
        while process.poll() is None and len(list(folder.glob("points/*/*.json"))) < target:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        after = _finished(folder)
        good = {name: content for name, content in before.items() if b'"error"' not in content}
        assert good.items() <= after.items()
        assert len(after) > len(before)
        before = after
    assert len(before) < SPACE.size
    _settle(folder)
    explore(SPACE, folder, workers=workers, resume=True, evaluate=SLOW)
    assert_same(whole, folder)
    assert not list(folder.rglob(".*.part"))


def _settle(folder: Path) -> None:
    """Workers of a killed run end by themselves; only then is the folder surely quiet."""
    time.sleep(0.3)
    assert folder.is_dir()


def test_resume_evaluates_only_what_is_missing(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    explore(SPACE, folder, workers=1, evaluate=CHEAP)
    lost = next(folder.glob("points/*/0000007.json"))
    damaged = next(folder.glob("points/*/0000009.json"))
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:20])
    evaluated: list[int] = []
    original = pool_module.finish_point

    def counting(folder: Path, point: Any, evaluate: str) -> dict[str, Any]:
        evaluated.append(point.index)
        return original(folder, point, evaluate)

    monkeypatch.setattr(pool_module, "finish_point", counting)
    result = explore(SPACE, folder, workers=1, resume=True, evaluate=CHEAP)
    failed = [index for index in evaluated if index not in (7, 9)]
    assert {7, 9} <= set(evaluated)
    assert len(failed) == result.errors == 20  # an error may have been a passing one
    np.testing.assert_equal(datasets(folder / "points.h5"), datasets(whole / "points.h5"))


def test_a_folder_belongs_to_one_space(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    explore(SPACE, folder, workers=1, evaluate=CHEAP)
    with pytest.raises(UsageError, match="--resume continues it"):
        explore(SPACE, folder, workers=1, evaluate=CHEAP)
    changed = Space.model_validate(DOCUMENT | {"systems": ["a", "c"]})
    for resume in (False, True):
        with pytest.raises(UsageError, match=r"another exploration \(differs in space\)"):
            explore(changed, folder, workers=1, resume=resume, evaluate=CHEAP)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        explore(SPACE, tmp_path / "other", workers=1, evaluate=CHEAP)
    (folder / "run.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        explore(SPACE, folder, workers=1, resume=True, evaluate=CHEAP)


def test_a_wrong_objective_ends_the_run_at_its_first_point(tmp_path: Path) -> None:
    wrong = Space.model_validate(DOCUMENT | {"objectives": {"latency.tpot": "min"}})
    with pytest.raises(ConfigError, match=r"latency\.tpot'; did you mean 'latency\.tpot_s'"):
        explore(wrong, tmp_path / "run", workers=1, evaluate=CHEAP)
    assert len(list(tmp_path.glob("run/points/*/*.json"))) == 1


def test_unknown_machines_and_paths_are_found_before_the_sweep(tmp_path: Path) -> None:
    unknown = Space.model_validate(DOCUMENT)
    with pytest.raises(ConfigError, match="unknown system 'a'"):
        explore(unknown, tmp_path / "run", workers=1)
    shape = {"systems": ["dgx-a100"], "models": ["gpt3-7b"], "parameters": {"system.units.gqu.count": [1]}}
    with pytest.raises(ConfigError, match=r"units\.gqu: no such key; did you mean 'gpu'"):
        explore(Space.model_validate(DOCUMENT | shape), tmp_path / "run", workers=1)
    assert not (tmp_path / "run").exists()


def test_a_dask_cluster_gives_the_same_points(whole: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster,
    ):
        explore(SPACE, tmp_path / "run", scheduler=cluster.scheduler_address, evaluate=SLOW)
    assert_same(whole, tmp_path / "run")


def test_without_dask_the_scheduler_option_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"archsim\[dse\]"):
        explore(SPACE, tmp_path / "run", scheduler="tcp://127.0.0.1:1", evaluate=CHEAP)


def test_command_prints_json_and_explores_a_machine(tmp_path: Path) -> None:
    from archsim.cli.explore import explore as command

    file = tmp_path / "space.yaml"
    file.write_text(
        "{kind: space, name: small, systems: [dgx-a100], models: [gpt3-7b],\n"
        " requests: [{input_len: 64, output_len: 8}],\n"
        " parameters: {request.batch: [1, 4, 1000000]},\n"
        " objectives: {latency.tpot_s: min, cost.usd_per_million_tokens: min}}\n"
    )
    done = CliRunner().invoke(command, [str(file), "--out", str(tmp_path / "out"), "--workers", "1", "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["schema"] == "archsim.explore/1"
    assert (result["ok"], result["infeasible"]) == (2, 1)
    assert {point["batch"] for point in result["front"]} == {1, 4}


def test_a_device_that_is_not_calibrated_is_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the summary, the result, the table and the page; not for the machine that is."""
    document = {
        "kind": "space", "name": "two", "systems": ["hgx-b300", "hgx-h100"], "models": ["llama3-8b"],
        "requests": [{"batch": 1, "input_len": 64, "output_len": 8}, {"batch": 2, "input_len": 64, "output_len": 8}],
        "objectives": {"latency.tpot_s": "min"},
    }  # fmt: skip
    note = "gpu: b300-sxm is not calibrated: constants of the blackwell generation"
    (tmp_path / "two.yaml").write_text(json.dumps(document))
    words = ["explore", str(tmp_path / "two.yaml"), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert run(words) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.count(note) == 1
    assert json.loads((tmp_path / "out" / "result.json").read_text())["notes"] == [note]
    with h5py.File(tmp_path / "out" / "points.h5") as file:
        assert file["points/notes"].asstr()[()].tolist() == [note, note, "", ""]
    page = tmp_path / "page.html"
    assert run(["report", str(tmp_path / "out" / "result.json"), "-o", str(page)]) == 0
    assert note in page.read_text()
