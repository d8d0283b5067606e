# shellcheck shell=bash
# Sourced by scripts that take steps: each is said, and taken unless `dry` is set.
dry=${dry:-}

step() { # COMMAND...
    printf '+'
    printf ' %q' "$@"
    echo
    [[ $dry ]] || "$@"
}

say() { printf '%s: %s\n' "${0##*/}" "$1" >&2; }

die() { # CODE LINE...
    local code=$1
    shift
    printf '%s\n' "${@/#/${0##*/}: }" >&2
    exit "$code"
}

value_of() { # FLAG VALUE...: what follows the flag on the command line
    (($# > 1)) || die 2 "$1: its value is missing; see --help"
    printf '%s' "$2"
}
