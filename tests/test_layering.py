"""The floors of the house: no import goes upward, no cycles, numba only in kernel files."""

from __future__ import annotations

import ast
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "archsim"
FLOORS = {
    "cli": 9, "explore": 8, "validation": 8, "report": 7, "serving": 6, "cost": 5, "execution": 4, "mapping": 3,
    "workload": 2, "memory": 1, "compute": 1, "network": 1, "config": 0,
}  # fmt: skip
GROUND = {"results", "registry", "units", "errors", "cachedir"}  # files of floor 0 beside the folders
FACE = {"archsim", "archsim.__main__"}  # the package's own face may name everything, lazily
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports_of(module: str, path: Path, *, typing_too: bool) -> set[str]:
    """Dotted names of everything a file imports, at any depth; `archsim` names resolved to existing files."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    if not typing_too:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                skipped.update(inner for statement in node.body for inner in ast.walk(statement))
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            base = node.module or ""
            found.update(f"{base}.{alias.name}" if f"{base}.{alias.name}" in FILES else base for alias in node.names)
    return found


def floor(module: str) -> int:
    parts = module.split(".")
    return 0 if len(parts) == 2 and parts[1] in GROUND else FLOORS[parts[1]]


def test_every_folder_has_a_floor() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert folders <= set(FLOORS)
    assert {path.stem for path in PACKAGE.glob("*.py")} <= GROUND | {"__init__", "__main__"}


@pytest.mark.parametrize("module", sorted(set(FILES) - FACE))
def test_imports_go_downward(module: str) -> None:
    for name in imports_of(module, FILES[module], typing_too=True):
        if name.partition(".")[0] != "archsim" or name in FACE:
            continue
        own, other = module.split(".")[1], name.split(".")[1]
        assert own == other or floor(name) < floor(module) or {own, other} <= GROUND | {"config"}, f"{module} -> {name}"


def graph(key: int) -> nx.DiGraph[str]:
    """Imports between files (key=0) or folders (key=1), lazy ones included, those for type checkers not."""
    edges = nx.DiGraph()
    for module in set(FILES) - FACE:
        for name in imports_of(module, FILES[module], typing_too=False):
            if name.partition(".")[0] == "archsim" and name not in FACE:
                pair = (module, name) if key == 0 else (module.split(".")[1], name.split(".")[1])
                if pair[0] != pair[1]:
                    edges.add_edge(*pair)
    return edges


@pytest.mark.parametrize("key", [0, 1], ids=["files", "folders"])
def test_no_cycles(key: int) -> None:
    assert list(nx.simple_cycles(graph(key))) == []


@pytest.mark.parametrize("module", sorted(FILES))
def test_only_kernel_files_import_numba(module: str) -> None:
    names = {name.partition(".")[0] for name in imports_of(module, FILES[module], typing_too=True)}
    if not module.endswith("_kernels"):
        assert "numba" not in names
        return
    # types, and what Numba compiles
    assert names <= {"__future__", "typing", "collections", "math", "heapq", "numpy", "numba", "archsim"}
    ours = {name for name in imports_of(module, FILES[module], typing_too=True) if name.startswith("archsim")}
    assert all(name.endswith("_kernels") for name in ours), ours
