"""What stands at the top level, what is in the wheel, what a start costs, and how long files may be."""

from __future__ import annotations

import ast
import configparser
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOP_LEVEL = {
    "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "archsim", "hwconfigs", "workloads", "tests", "scripts",
}  # fmt: skip
SOURCES = sorted((ROOT / "archsim").rglob("*.py"))


def tracked(*patterns: str) -> list[str]:
    try:
        answer = subprocess.run(
            ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return answer.stdout.split()


def options() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_top_level_holds_what_the_design_allows() -> None:
    entries = {name.partition("/")[0] for name in tracked()}
    assert {entry for entry in entries if not entry.startswith(".")} <= TOP_LEVEL


def test_every_package_is_listed() -> None:
    listed = set(options()["options"]["packages"].split()) - {"archsim.hwconfigs", "archsim.workloads"}
    folders = {path.parent.relative_to(ROOT) for path in SOURCES}
    assert listed == {".".join(folder.parts) for folder in folders}


def test_every_package_has_an_init_file() -> None:
    assert all((path.parent / "__init__.py").is_file() for path in SOURCES)


def test_wheel_holds_every_preset(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="64")
    copy = tmp_path / "source"
    for name in tracked("archsim", "hwconfigs", "workloads", "setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "build_py", "--build-lib"]
    subprocess.run([*command, str(tmp_path / "wheel")], cwd=copy, check=True, capture_output=True, timeout=300)
    inside = {path.relative_to(tmp_path / "wheel").as_posix() for path in (tmp_path / "wheel").rglob("*")}
    data = [*tracked("hwconfigs", "workloads"), *(name for name in tracked("archsim") if not name.endswith(".md"))]
    expected = {name if name.startswith("archsim/") else f"archsim/{name}" for name in data if (ROOT / name).is_file()}
    assert expected <= inside


def test_console_script_points_at_a_function() -> None:
    target = options()["options.entry_points"]["console_scripts"].split("=")[1].strip()
    module, _, name = target.partition(":")
    assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_start_imports_nothing_heavy(arguments: list[str]) -> None:
    command = (
        "import sys\n"
        "from archsim.cli.main import run\n"
        "code = run(sys.argv[1:])\n"
        "heavy = {'numpy', 'numba', 'pydantic', 'rich', 'scipy', 'networkx', 'h5py', 'ruamel', 'pandas'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)), code)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", command, *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert answer.stdout.splitlines()[-1] == "HEAVY [] 0"


def test_files_are_short() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_functions_are_short() -> None:
    long = {}
    for path in SOURCES:
        limit = 80 if path.stem.endswith("_kernels") else 50
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > limit:
                    long[f"{path.relative_to(ROOT).as_posix()}:{node.name}"] = length
    assert long == {}


def test_no_path_of_one_machine_is_in_the_tree() -> None:
    names = [name for name in tracked() if Path(name).suffix in (".py", ".yaml", ".md", ".cfg", ".toml", ".sh")]
    homes = [str(ROOT), str(Path.home()) + "/"] if str(Path.home()) != "/" else [str(ROOT)]
    for name in names:
        text = (ROOT / name).read_text("utf-8") if (ROOT / name).is_file() else ""
        assert not any(home in text for home in homes if len(home) > 6), name
