#!/usr/bin/env bash
# Install archsim with everything its tests need, then lint, types and tests. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
install '.[test]'
ruff check .
ruff format --check .
mypy --num-workers 2
python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@"
