#!/usr/bin/env bash
# llama-server from Debian's forky suite, unpacked into a private folder together with the C library it was
# built against, so that it runs on older systems and changes nothing on this one.
#
# apt does the work with state of its own: it checks the suite's signature against Debian's archive keys and
# every package against the signed index, and it resolves the dependencies. Nothing is installed.
. "$(dirname "$0")/steps.sh"

SUITE=forky
PACKAGE=llama.cpp-tools
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
folder=$TOOLS_DIR/llama
want=$(fingerprint "$0" -- "$folder")
if done_before llama-server "$want" && "$folder/llama-server" --version >/dev/null 2>&1; then
    say "llama-server: up to date ($folder)"
    exit 0
fi
command -v apt-get >/dev/null || fail "llama-server comes from Debian packages, and there is no apt-get here"
[ -r "$KEYRING" ] || fail "$KEYRING is missing: install the package debian-archive-keyring"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The Debian mirror this machine already uses; its default where there is none.
mirror() {
    local found
    found=$(apt-get indextargets --format "\$(REPO_URI)" "Created-By: Packages" 2>/dev/null | grep -E '/debian/?$' | head -n 1 || true)
    printf '%s\n' "${AEGIS_DEBIAN_MIRROR:-${found:-http://deb.debian.org/debian}}"
}

# An apt that knows one source and an empty list of installed packages, all under $work. Of this machine's
# settings it keeps those of the network (proxies), and leaves out its hooks: they clean up the system's own cache.
private_apt() {
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/none"
    : >"$work/installed"
    printf 'deb [signed-by=%s] %s %s main\n' "$KEYRING" "$(mirror)" "$SUITE" >"$work/sources.list"
    {
        apt-config dump | grep -v -e '-Invoke'
        printf '%s "%s";\n' \
            Dir::Etc::Main "$work/none/apt.conf" Dir::Etc::Parts "$work/none" \
            Dir::Etc::SourceList "$work/sources.list" Dir::Etc::SourceParts "$work/none" \
            Dir::Etc::Preferences "$work/none/preferences" Dir::Etc::PreferencesParts "$work/none" \
            Dir::State::Lists "$work/lists" Dir::State::Status "$work/installed" \
            Dir::State::Extended_States "$work/extended" Dir::Cache "$work/cache" \
            Debug::NoLocking true APT::Sandbox::User "" APT::Install-Recommends false \
            APT::Update::Error-Mode any Acquire::AllowInsecureRepositories false APT::Get::AllowUnauthenticated false \
            Acquire::Languages none Acquire::IndexTargets::deb::DEP-11::DefaultEnabled false Acquire::Retries 3
    } >"$work/apt.conf"
    APT_CONFIG=$work/apt.conf apt-get -qq "$@" </dev/null
}

# Links the CPU variants of ggml to where it looks for them: beside the program, which is the loader here.
link_backends() {
    local libraries=$1 backend
    for backend in "$libraries"/ggml/backends*/libggml-cpu-*.so; do
        [ -e "$backend" ] || fail "the packages hold no CPU backend where it was expected: $libraries/ggml"
        ln -sf "${backend#"$libraries"/}" "$libraries/"
    done
}

# A starter that runs the server through the unpacked loader. `exec` keeps the process id.
write_starter() {
    local root=$1 triplet=$2 loader=$3
    cat >"$root/llama-server" <<STARTER
#!/bin/sh
libraries='$folder/usr/lib/$triplet'
exec "\$libraries/$loader" --library-path "\$libraries:\$libraries/llama" --argv0 llama-server '$folder/usr/bin/llama-server' "\$@"
STARTER
    chmod 755 "$root/llama-server"
}

say "llama-server: fetching Debian $SUITE's $PACKAGE from $(mirror)"
private_apt update
private_apt --download-only --yes install "$PACKAGE"

root=$work/root
mkdir -p "$root"
for package in "$work"/cache/archives/*.deb; do
    dpkg-deb --extract "$package" "$root"
done
rm -rf "${root:?}"/usr/share "${root:?}"/etc "${root:?}"/var

server=$root/usr/bin/llama-server
[ -x "$server" ] || fail "$PACKAGE no longer holds usr/bin/llama-server"
loaders=("$root"/usr/lib/*/ld-linux-*.so.*)
loader=$(basename "${loaders[0]}")
triplet=$(basename "$(dirname "${loaders[0]}")")
link_backends "$root/usr/lib/$triplet"
write_starter "$root" "$triplet" "$loader"

rm -rf "$folder"
mv "$root" "$folder"
version=$("$folder/llama-server" --version 2>&1 | grep -i -m 1 version) || fail "the unpacked llama-server does not start"
mark_done llama-server "$want"
say "llama-server: $version, $(du -sh "$folder" | cut -f1) in $folder"
