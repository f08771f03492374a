#!/bin/sh
# The proxies that are not ours, for tests/kit/real_proxies.py: squid, tinyproxy, microsocks; and nss_wrapper, with which
# they know names that nobody else knows. They go into .servers/, which git does not see: unpacked, nothing of theirs is
# started, or stays on the machine. What is there already is left alone; what cannot be installed is named, and its tests
# are skipped: this script never fails, so that the other tests run everywhere.
cd "$(dirname "$0")/.." || exit 0
HERE=$PWD/.servers
. tests/install_common.sh

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
