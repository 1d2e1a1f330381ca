"""Where Numba keeps compiled kernels: chosen before Numba reads it, changed by any kernel, damage tolerated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from archsim import cachedir

ROOT = Path(__file__).resolve().parents[1]
KERNEL = """\
from numba import njit

@njit(cache=True)
def twice(x):
    return 2 * x
"""


def python(code: str, folder: Path, **variables: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA")}
    environment |= {"ARCHSIM_CACHE_DIR": str(folder), "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", **variables}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return answer.stdout.strip()


@pytest.mark.parametrize("order", ["import archsim, numba", "import numba, archsim"])
def test_numba_uses_the_keyed_folder(order: str, tmp_path: Path) -> None:
    found = python(f"{order}\nprint(numba.config.CACHE_DIR)", tmp_path)
    assert Path(found) == tmp_path / "numba" / cachedir.kernel_key()


def test_a_folder_the_user_chose_is_kept(tmp_path: Path) -> None:
    code = "import archsim, numba\nprint(numba.config.CACHE_DIR)"
    assert python(code, tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "mine")) == str(tmp_path / "mine")


def test_importing_archsim_does_not_import_numba(tmp_path: Path) -> None:
    assert python("import archsim, sys\nprint('numba' in sys.modules)", tmp_path) == "False"


def test_the_key_follows_every_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "room").mkdir()
    kernel = tmp_path / "room" / "a_kernels.py"
    kernel.write_text("x = 1")
    monkeypatch.setattr(cachedir, "_PACKAGE", tmp_path)
    first = cachedir.kernel_key()
    kernel.write_text("x = 2")
    second = cachedir.kernel_key()
    kernel.rename(tmp_path / "room" / "b_kernels.py")
    assert len({first, second, cachedir.kernel_key()}) == 3


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("damage", [b"", b"garbage", b"\x80\x05\x95"])
def test_damaged_entries_are_compiled_again(suffix: str, damage: bytes, tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(KERNEL)
    code = "import archsim, sample\nprint(sample.twice(21))"
    assert python(code, tmp_path) == "42"
    files = list(tmp_path.rglob(f"*{suffix}"))
    assert files
    for file in files:
        file.write_bytes(damage)
    assert python(code, tmp_path) == "42"
