# Sourced by the other scripts: puts `python` of the active virtual environment, or of .venv, on the PATH.
# A missing .venv is created with the newest Python >= 3.11 there is; the one thing it may install outside the checkout
# is Debian's pythonX.Y-venv, if that is missing.

fail() {
    echo "archsim: $*" >&2
    exit 1
}

find_python() {
    local name
    for name in python3.14 python3.13 python3.12 python3.11 python3 python; do
        if command -v "$name" >/dev/null && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    fail "needs Python 3.11 or newer: sudo apt-get install python3"
}

install_venv() { # install_venv PYTHON: Debian's package with ensurepip, where that needs no password
    local version root=()
    version=$("$1" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')
    command -v apt-get >/dev/null || return 1
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
        root=(sudo -n)
    fi
    echo "installing python$version-venv" >&2
    "${root[@]}" apt-get update -qq >&2 &&
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "python$version-venv" >&2
}

create_environment() {
    local python
    python=$(find_python)
    echo "creating .venv with $("$python" --version)" >&2
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv .venv
    elif "$python" -c 'import virtualenv' 2>/dev/null; then
        "$python" -m virtualenv --quiet .venv
    else # Debian splits ensurepip off into a package of its own
        install_venv "$python" && "$python" -m venv .venv ||
            { rm -rf .venv && fail "Python's ensurepip is missing: sudo apt-get install python3-venv"; }
    fi
}

install() { # install SPEC, e.g. install '.[test]'; what is imported is compiled then, the rest never
    python -m pip install --no-compile --quiet --disable-pip-version-check --editable "$1"
}

if [ -z "${VIRTUAL_ENV:-}" ]; then
    [ -x .venv/bin/python ] && .venv/bin/python -m pip --version >/dev/null 2>&1 || create_environment
    . .venv/bin/activate
fi
python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "the active virtual environment has a Python older than 3.11"
