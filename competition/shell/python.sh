# shellcheck shell=bash
# Sourced by the competition's commands: finds a Python and runs one of our modules in it.
root=$(readlink -f -- "$(dirname -- "${BASH_SOURCE[0]}")/../..")

run_benchmark() { # ARGUMENT...: in our own environment, or one with the same libraries
    local python
    python=$(first_python 'import numpy, pyarrow, orjson' "$root/.venv/bin/python" \
        python3 python python3.13 python3.12 python3.11) ||
        die "no Python 3.11 or newer with numpy, pyarrow and orjson; python3 is: $(python_there)" \
            "remedy: cd $root && ./setup.sh --engine none"
    hand_over "$python" competition "$@"
}

run_launch() { # ARGUMENT...: in the engine's Python, the one on PATH; its standard library will do
    local python
    python=$(first_python pass python3 python python3.13 python3.12 python3.11 \
        "$root/.venv/bin/python") ||
        die "no Python 3.11 or newer on PATH; python3 is: $(python_there)" \
            'remedy: put one on PATH; the engine itself may run in an older one: --python PATH'
    hand_over "$python" competition.launch "$@"
}

first_python() { # CODE PYTHON...: the first 3.11 or newer in which CODE runs; 1: there is none
    local code="import sys; assert sys.version_info >= (3, 11); $1" python
    for python in "${@:2}"; do
        if "$python" -P -c "$code" >/dev/null 2>&1; then echo "$python" && return; fi
    done
    return 1
}

hand_over() { # PYTHON MODULE ARGUMENT...: in the folder one stands in, which is where results go
    # -P: the folder one stands in hides no library.
    exec "$1" -P -c 'import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)' "$root" "${@:2}"
}

python_there() { python3 --version 2>&1 || true; }

die() { # LINE...
    printf '%s\n' "${@/#/${0##*/}: }" >&2
    exit 3
}
