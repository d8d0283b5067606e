#!/usr/bin/env bash
# Starts one engine replica per GPU: finds a Python 3.11 or newer and hands over to server/, which
# needs nothing but its standard library, because this runs inside engine containers, too.
set -euo pipefail
root=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")

# The engine's own Python first: the one on PATH. -P: the folder one stands in hides no library.
for python in python3 python python3.13 python3.12 python3.11 "$root/.venv/bin/python"; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        exec "$python" -P -c 'import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("server", run_name="__main__", alter_sys=True)' "$root" "$@"
    fi
done
printf 'run_server.sh: %s\n' "no Python 3.11 or newer on PATH; python3 is: $(python3 --version 2>&1 || true)" \
    'remedy: put one on PATH; the engine itself may run in an older one: --python PATH' >&2
exit 3
