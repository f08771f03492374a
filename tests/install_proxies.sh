#!/bin/sh
# The proxies that are not ours, for tests/kit/real_proxies.py: squid, tinyproxy, microsocks; and nss_wrapper, with which
# they know names that nobody else knows. They go into .servers/, which git does not see: unpacked, nothing of theirs is
# started, or stays on the machine. What is there already is left alone; what cannot be installed is named, and its tests
# are skipped: this script never fails, so that the other tests run everywhere.
cd "$(dirname "$0")/.." || exit 0
HERE=$PWD/.servers
. tests/install_common.sh

# As in install_interop.sh: the package and what it needs that this machine has not, into the folder where we are.
download() {
    mkdir -p partial
    limited 300 apt-get -qq install --download-only --yes --no-install-recommends -o Debug::NoLocking=1 \
        -o Dir::Cache::Archives="$PWD" "$1" >/dev/null 2>&1
}

# A fresh machine has no lists of packages, an older one has old lists: fetched when the first download fails, once.
lists() {
    [ -z "$LISTS" ] && LISTS=fetched && is_root && limited 120 apt-get -qq update >/dev/null 2>&1
}

unpack() {
    mkdir "$HERE/$1.new" && cd "$HERE/$1.new" || return
    download "$1" || { lists && download "$1"; } || return
    # The C library belongs to the machine's loader: never another one beside it.
    rm -rf partial lock libc6_*.deb
    for file in ./*.deb; do
        # No file: the package is on the machine already, and is used from there.
        [ -f "$file" ] || continue
        dpkg-deb -x "$file" . && rm "$file" || return
    done
}

for package in squid tinyproxy microsocks libnss-wrapper; do
    [ -d "$HERE/$package" ] && continue
    rm -rf "$HERE/$package.new"
    if has apt-get && unpack "$package"; then
        mv "$HERE/$package.new" "$HERE/$package"
    else
        rm -rf "$HERE/$package.new"
        sorry "$package"
    fi
done
exit 0
