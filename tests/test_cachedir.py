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
    assert Path(found) == tmp_path / "numba" / cachedir.environment_key()


def test_a_folder_the_user_chose_is_kept(tmp_path: Path) -> None:
    code = "import archsim, numba\nprint(numba.config.CACHE_DIR)"
    assert python(code, tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "mine")) == str(tmp_path / "mine")


def test_importing_archsim_does_not_import_numba(tmp_path: Path) -> None:
    assert python("import archsim, sys\nprint('numba' in sys.modules)", tmp_path) == "False"


CHAIN = {
    "low_kernels.py": "from numba import njit\n\n@njit\ndef low(x):\n    return x + 1\n",
    "high_kernels.py": """\
from numba import njit
from archsim.room import low_kernels as low_level

@njit(cache=True)
def high(x):
    return 10 * low_level.low(x)
""",
    "other_kernels.py": "from numba import njit\n\n@njit(cache=True)\ndef other(x):\n    return -x\n",
}


def test_an_edit_recompiles_what_depends_on_it_and_nothing_else(tmp_path: Path) -> None:
    package = tmp_path / "archsim"
    (package / "room").mkdir(parents=True)
    (package / "__init__.py").write_text("from archsim import cachedir")
    (package / "cachedir.py").write_text((ROOT / "archsim" / "cachedir.py").read_text())
    for name, source in CHAIN.items():
        (package / "room" / name).write_text(source)
    code = """\
from archsim.room.high_kernels import high
from archsim.room.other_kernels import other
print(high(1), other(1), *(sum(f.stats.cache_hits.values()) for f in (high, other)))
"""
    run = lambda: python(code, tmp_path, PYTHONPATH=str(tmp_path))  # noqa: E731
    assert run() == "20 -1 0 0"
    assert run() == "20 -1 1 1"
    low = package / "room" / "low_kernels.py"
    low.write_text(low.read_text().replace("x + 1", "x + 2"))
    assert run() == "30 -1 0 1"


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


BLAS = """\
import sys
import numpy as np
from numba import njit

@njit
def product(a, b):
    return a @ b

@njit
def added(a):
    return a.sum()
"""


def test_a_blas_is_looked_for_when_a_kernel_uses_one(tmp_path: Path) -> None:
    (tmp_path / "blas_kernels.py").write_text(BLAS)
    code = (
        "import archsim, sys\nimport numpy as np\nfrom blas_kernels import added, product\nones = np.ones((2, 3))\n"
        "print(added(ones), 'scipy.linalg' in sys.modules)\nprint(product(ones, np.ones((3, 2))).sum())"
    )
    assert python(code, tmp_path).split() == ["6.0", "False", "12.0"]


def test_signatures_compiled_at_the_same_time_do_not_share_a_file(tmp_path: Path) -> None:
    """Each of two processes saves an entry before it sees the other's; the last index may know one of them only."""
    code = """
import archsim, pathlib
from numba.core.caching import IndexDataCacheFile
folder = "."
one, two, third = (IndexDataCacheFile(folder, "f", "stamp") for _ in range(3))
seen = {}
one._load_index = two._load_index = lambda: dict(seen)
one.save("int64", "code for integers")
two.save("float64", "code for floats")
print(len(list(pathlib.Path(folder).glob("*.nbc"))), third.load("int64"), third.load("float64"), sep="|")
"""
    files, integers, floats = python(code, tmp_path).split("|")
    assert files == "2"
    assert integers in ("None", "code for integers")
    assert floats == "code for floats"


@pytest.mark.parametrize("order", ["import archsim, numba", "import numba, archsim"])
def test_options_of_the_compiler_are_equal_when_all_of_them_are(order: str, tmp_path: Path) -> None:
    code = """
from numba.core.compiler import Flags
plain, said, other = Flags(), Flags(), Flags()
said.nrt = plain.nrt  # said, but no different
other.nrt = not plain.nrt
print(Flags.__eq__.__module__, plain == said, hash(plain) == hash(said), plain == other, said == other.copy())
"""
    assert python(f"{order}\n{code}", tmp_path) == "archsim.cachedir True True False False"
