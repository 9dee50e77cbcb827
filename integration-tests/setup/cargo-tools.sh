#!/usr/bin/env bash
# cargo-nextest and cargo-deny, built from crates.io where they are missing (some minutes each on two cores).
. "$(dirname "$0")/steps.sh"

command -v cargo >/dev/null || fail "cargo is missing: install Rust from https://rustup.rs, then run this again."

# install NAME VERSION: the release profile's slow optimisations are of no use for tools that run for seconds.
install_tool() {
    if PATH="$TOOLS_DIR/cargo/bin:$PATH" cargo "${1#cargo-}" --version >/dev/null 2>&1; then
        say "$1: there"
        return
    fi
    say "$1: building version $2 from crates.io, this takes some minutes"
    # Its own target folder, thrown away afterwards: nothing of it is shared with the project's build.
    local build
    build=$(mktemp -d)
    CARGO_TARGET_DIR=$build CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
        CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_DEBUG=0 \
        cargo install --quiet --locked --root "$TOOLS_DIR/cargo" --version "$2" "$1" </dev/null
    rm -rf "$build"
}

install_tool cargo-nextest 0.9.143
install_tool cargo-deny 0.20.2
