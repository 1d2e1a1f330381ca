#!/usr/bin/env bash
# Install archsim (into the active virtual environment, else into .venv) and run the main job.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
install .
archsim evaluate dgx-a100-attacc-bank gpt3-175b --batch 32 --input-len 2048 --output-len 2048
