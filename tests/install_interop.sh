#!/bin/sh
# The HTTP/2 servers that are not ours, for tests/kit/interop.py: nghttpd, Apache, HAProxy, Caddy, lighttpd, h2o,
# Hypercorn, Granian; with --short only the last two, which tests/test_interop.py needs, and which are quick. (nginx and
# Node come with tests/install_servers.sh.) All goes into .servers/, which git does not see. What is there already is left
# alone; what cannot be installed is named, and its tests are skipped: this script never fails, so that the other tests
# run everywhere.
cd "$(dirname "$0")/.." || exit 0
# lighttpd comes with its module for TLS, which depends on it.
DEBIAN_PACKAGES="nghttp2-server apache2-bin haproxy caddy lighttpd-mod-openssl h2o"
PYTHON_PACKAGES="hypercorn==0.18.0 granian==2.8.7"

HERE=$PWD/.servers
. tests/install_common.sh

debian() {
    for package in $DEBIAN_PACKAGES; do
        [ -d "$HERE/$package" ] && continue
        rm -rf "$HERE/$package.new"
        if has apt-get && unpack "$package"; then
            mv "$HERE/$package.new" "$HERE/$package"
        else
            rm -rf "$HERE/$package.new"
            sorry "$package"
        fi
    done
}

python_servers() {
    done_before interop "$PYTHON_PACKAGES" && "$HERE/interop/bin/python" -c '' 2>/dev/null && return
    rm -rf "$HERE/interop"
    # shellcheck disable=SC2086
    "${PYTHON:-python3}" -m venv "$HERE/interop" >/dev/null 2>&1 &&
        limited 180 "$HERE/interop/bin/python" -m pip --quiet --disable-pip-version-check install \
            --retries 2 $PYTHON_PACKAGES >/dev/null 2>&1 &&
        note interop "$PYTHON_PACKAGES" || sorry "Hypercorn and Granian"
}

python_servers &
[ "$1" = --short ] || debian
wait
exit 0
