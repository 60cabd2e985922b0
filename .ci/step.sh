# Read by the other scripts here: runs steps, tells their seconds, and stops at the first failure.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A toolchain that was named on the command line would win over the files of this repository.
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-always}
# Stated, since a step gives its commands another HOME.
export CARGO_HOME=${CARGO_HOME:-$HOME/.cargo} RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup}
target=${CARGO_TARGET_DIR:-$PWD/target}

# Folders to remove at the end, however it comes.
temporary=()
running= began=0
ended() {
    local status=$?
    [ -z "$running" ] ||
        printf '\n!!! failed after %d s: %s\n' "$((SECONDS - began))" "$running" >&2
    rm -rf "${temporary[@]+"${temporary[@]}"}"
    exit "$status"
}
trap ended EXIT

# step NAME COMMAND...: prints what runs, its output, and how long it took.
step() {
    running=$1 began=$SECONDS
    shift
    printf '\n==> %s\n    %s\n' "$running" "$*"
    # Neither in an `if` nor with `||`: there `set -e` would not stop inside of a function.
    "$@"
    printf '    ok: %s, %d s\n' "$running" "$((SECONDS - began))"
    running=
}

# Reports what was not checked, and why; again at the end.
skipped=()
not_checked() {
    printf '\n!!! NOT CHECKED: %s\n' "$*" >&2
    skipped+=("$*")
}

finish() {
    printf '\nAll passed in %d s.\n' "$SECONDS"
    local what
    for what in "${skipped[@]+"${skipped[@]}"}"; do printf '!!! NOT CHECKED: %s\n' "$what" >&2; done
}

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Installs Debian packages, if a program of theirs is missing: packages PROGRAM PACKAGE...
packages() {
    local program=$1 sudo=
    shift
    command -v "$program" >/dev/null && return
    command -v apt-get >/dev/null ||
        fail "$program is missing and there is no apt-get: install it (Debian: $*) and run again"
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get -qq update
    DEBIAN_FRONTEND=noninteractive $sudo apt-get -qq install -y --no-install-recommends "$@"
}

# The command that the README shows below `<!-- command:NAME -->`: exactly one line.
readme_command() {
    local command
    command=$(awk -v mark="<!-- command:$1 -->" '
        $0 == mark { near = 1; next }
        near && /^```/ { if (inside) exit; inside = 1; next }
        near && inside' README.md)
    [ -n "$command" ] && [ "$(wc -l <<<"$command")" = 1 ] ||
        fail "README.md must have one line of command below <!-- command:$1 -->"
    printf '%s\n' "$command"
}
