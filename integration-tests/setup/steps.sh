# Shared by the set-up scripts (sourced, not run): where things go, what is said, and when a step is skipped.
# shellcheck shell=bash
set -euo pipefail

SETUP_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # the scripts that source this use it
PROJECT_DIR=$(cd "$SETUP_DIR/../.." && pwd)
# Outside the clone, so that a fresh clone finds what an earlier one has built.
TOOLS_DIR=${AEGIS_TOOLS_DIR:-$HOME/.cache/aegis}
mkdir -p "$TOOLS_DIR"

say() { printf 'setup: %s\n' "$*"; }

fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "root is needed and there is no sudo here. As root, run: $*"
    fi
}

# Hash of the named files' contents and of the words after `--`. A step's stamp holds it: when a script, a
# lock file or an interpreter changes, the step runs again.
fingerprint() {
    local files=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        files+=("$1")
        shift
    done
    { cat "${files[@]}" && printf '%s\n' "$@"; } | sha256sum | cut -d' ' -f1
}

# done_before NAME FINGERPRINT: true when that very step has finished already.
done_before() { [ "$(cat "$TOOLS_DIR/stamps/$1" 2>/dev/null)" = "$2" ]; }

# mark_done NAME FINGERPRINT
mark_done() {
    mkdir -p "$TOOLS_DIR/stamps"
    printf '%s\n' "$2" >"$TOOLS_DIR/stamps/$1"
}
