# shellcheck shell=bash
# Sourced by setup_enroot.sh: one .sqsh file per image, imported once and never seen half.
# shellcheck disable=SC2154 # the script sets the rest
partial=''

# setting NAME DEFAULT: as enroot finds it: the environment, its configuration, its default.
setting() {
    local key value file found=${!1:-} folder=${ENROOT_SYSCONF_PATH:-/etc/enroot}
    for file in "$folder/enroot.conf" "$folder"/enroot.conf.d/*.conf; do
        [[ ! $found && -r $file ]] || continue
        while IFS=$' \t=' read -r key value; do
            [[ $found || $key != "$1" ]] || found=$(set +u && eval "echo $value")
        done <"$file"
    done
    echo "${found:-$2}"
}

# locked FILE COMMAND...: one at a time, on all nodes that see FILE. The lock's file stays: removing
# it would let two hold it.
locked() {
    local lock=$1 fd
    shift
    if [[ $dry ]]; then
        "$@"
        return
    fi
    { mkdir -p -- "${lock%/*}" && { [[ -e $lock ]] || : >>"$lock"; }; } || die 3 "$lock cannot be written" \
        'remedy: --squash_dir with a folder that can, or ENROOT_DATA_PATH for sandboxes'
    if [[ -w $lock ]]; then exec {fd}>>"$lock"; else exec {fd}<"$lock"; fi # another user's
    flock -n "$fd" || held "$lock" "$fd" $?
    "$@"
    exec {fd}>&- # enroot start must not hold it as long as the container lives
}

# held LOCK FD CODE: flock says 1 where another one has it, and others where the file system has no
# locks (Lustre by default): then two may import at once, each into a file of its own.
held() {
    if [[ $3 != 1 ]]; then
        say "WARNING: the file system of $1 has no locks: another run may do the same work" && return
    fi
    say "waiting for another run that holds $1 (--lock_timeout $lock_timeout seconds)"
    flock -w "$lock_timeout" "$2" &
    wait $! || die 3 "$1 is still held after $lock_timeout seconds" \
        'remedy: look for the other run, or a longer --lock_timeout'
}

# In the background, as bash runs no trap while it waits for a program in the foreground. Its output
# belongs to the user: stdout is the container's command's.
long_step() { # COMMAND...
    if [[ $dry ]]; then step "$@" && return; fi
    "$@" >&2 &
    wait $!
}

descendants() { # PID
    local child children=()
    read -r -a children 2>/dev/null <"/proc/$1/task/$1/children" || true
    for child in "${children[@]}"; do
        echo "$child"
        descendants "$child"
    done
}

interrupted() { # CODE: all of enroot's programs are stopped, too: each could write on
    local pid
    trap '' INT TERM HUP
    for pid in $(jobs -p); do
        # shellcheck disable=SC2046  # a list of numbers
        kill $(descendants "$pid") "$pid" 2>/dev/null || true
    done
    wait
    say 'interrupted; nothing half-made is left in use, run it again'
    exit "$1"
}
trap '[[ ! $partial ]] || rm -f -- "$partial"' EXIT
trap 'interrupted 130' INT
trap 'interrupted 143' TERM
trap 'interrupted 129' HUP

size_and_time() { stat -Lc '%s %Y' -- "$1"; }

# valid FILE [quick]: listing all of it finds a file that was cut off; its first block does not.
valid() {
    local magic=''
    [[ -s $1 ]] || return
    if command -v unsquashfs >/dev/null; then
        unsquashfs -s "$1" >/dev/null 2>&1 || return
        [[ ${2:-} == quick ]] || unsquashfs -l "$1" >/dev/null 2>&1
    else
        say "unsquashfs is not on PATH: of $1 only the first four bytes are checked"
        { IFS= LC_ALL=C read -r -N 4 magic <"$1"; } 2>/dev/null || true
        [[ $magic == hsqs ]]
    fi
}

# Without the lock, too: the file gets its name when it is whole.
squash_is_there() {
    local known=''
    [[ -e $squash && ! $force ]] || return
    [[ ! -r $squash.image ]] || read -r known <"$squash.image" || true
    if [[ $known == *" $(size_and_time "$squash")" ]]; then
        [[ ${known%% *} == "$uri" ]] ||
            die 3 "$squash was imported from ${known%% *}, not from $uri" \
                'remedy: another --squash, or --force to import it anew'
        if valid "$squash" quick; then say "$squash is there" && return; fi
    elif valid "$squash"; then
        say "$squash is there; another program made it, so it is taken for $plain unseen"
        return
    fi
    return 1
}

import_squash() {
    local host folder=${squash%/*} old
    host=$(uname -n) && host=${host%%.*} # HOSTNAME may be inherited from another node of the job
    ! squash_is_there || return 0
    [[ ! -e $squash || $force ]] || say "$squash is no valid squashfs file: it is imported anew"
    # Who holds the lock is the only one to import, at least among the processes of this machine.
    for old in "$squash.$host."*.partial; do
        [[ ! -e $old ]] || { say "removing $old of an import that died" && step_quiet rm -f -- "$old"; }
    done
    [[ $dry ]] || find "$folder" -maxdepth 1 -name "${squash##*/}.*.partial" -mmin +60 -delete
    say "importing $plain into $squash ..."
    [[ $dry ]] || partial=$squash.$host.$$.partial
    long_step enroot import -o "${partial:-$squash.$host.PID.partial}" "$uri" ||
        die 3 "enroot could not import $uri; its message stands above" \
            "free: $(free_space "$folder" "$(setting ENROOT_CACHE_PATH "$cache")" "$(setting ENROOT_TEMP_PATH "${TMPDIR:-/tmp}")")" \
            'remedy: no space: --squash_dir, ENROOT_CACHE_PATH and ENROOT_TEMP_PATH on a larger disk' \
            'remedy: not found or not allowed: check the name; logins stand in ~/.config/enroot/.credentials' \
            'remedy: no network here: --import_only on a machine that has it, then --squash FILE'
    [[ ! $dry ]] || { step mv -- "$squash.$host.PID.partial" "$squash" && return; }
    valid "$partial" || die 3 "what enroot imported from $uri is no valid squashfs file" \
        "free: $(free_space "$folder")" 'remedy: run it again; with more space, if that is short'
    mv -f -- "$partial" "$squash"
    partial=''
    echo "$uri $(size_and_time "$squash")" >"$squash.image"
}

free_space() { # FOLDER...
    local folder list=''
    for folder in "$@"; do
        list+=", $(df -h --output=avail -- "$folder" 2>/dev/null | tail -n 1 | tr -d ' ') in $folder"
    done
    echo "${list#, }"
}

step_quiet() { [[ $dry ]] || "$@"; }

get_squash() {
    if [[ $alone ]]; then
        [[ ! $dry ]] || return 0
        [[ -e $squash ]] || die 3 "$squash is not there" \
            'remedy: --docker_image or --engine says what is to be imported into it'
        valid "$squash" || die 3 "$squash is no valid squashfs file"
        return
    fi
    squash_is_there || locked "$squash.lock" import_squash
}
