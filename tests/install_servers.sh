#!/bin/sh
# The servers that are not ours, for the tests: nginx with nchan, etcd, Datasette, PouchDB Server, an MCP server.
# All but nginx go into .servers/, which git does not see. What is there already is left alone; what cannot be installed
# is named, and its tests are skipped: this script never fails, so that the other tests run everywhere.
cd "$(dirname "$0")/.." || exit 0
DATASETTE=0.65.5
NPM_PACKAGES="pouchdb-server@4.2.0 @modelcontextprotocol/server-everything@2026.8.31"

HERE=$PWD/.servers
. tests/install_common.sh
# Node brings certificates of its own; what the system trusts is trusted too.
[ -f /etc/ssl/certs/ca-certificates.crt ] && export NODE_EXTRA_CA_CERTS="${NODE_EXTRA_CA_CERTS:-/etc/ssl/certs/ca-certificates.crt}"

# Twice: a fresh machine has no lists of packages. One apt at a time.
apt() {
    has apt-get || return 1
    limited 300 apt-get -qq "$@" >/dev/null 2>&1 && return
    is_root && limited 120 apt-get -qq update >/dev/null 2>&1 && limited 300 apt-get -qq "$@" >/dev/null 2>&1
}

debian() {
    # RUNLEVEL: the package would start the service; the tests start their own.
    has nginx || { is_root && RUNLEVEL=1 apt install -y --no-install-recommends nginx-light; } || sorry nginx
    # These are only unpacked: nothing of theirs is started, or stays on the machine.
    for package in etcd-server libnginx-mod-nchan; do
        [ -d "$HERE/$package/usr" ] && continue
        rm -rf "$HERE/$package" "$HERE/$package.new"
        mkdir "$HERE/$package.new"
        (cd "$HERE/$package.new" && apt download "$package" && dpkg-deb -x ./*.deb .) &&
            mv "$HERE/$package.new" "$HERE/$package" || sorry "$package"
    done
    # Hundreds of packages: nothing for a machine on which somebody works.
    if ! has npm && is_root && [ -n "$CI" ]; then
        apt install -y --no-install-recommends nodejs npm
    fi
}

datasette() {
    done_before datasette "$DATASETTE" && "$HERE/datasette/bin/python" -c '' 2>/dev/null && return
    # An environment of its own: its dependencies are many, and not ours.
    rm -rf "$HERE/datasette"
    "${PYTHON:-python3}" -m venv "$HERE/datasette" >/dev/null 2>&1 &&
        limited 180 "$HERE/datasette/bin/python" -m pip --quiet --disable-pip-version-check install \
            --retries 2 "datasette==$DATASETTE" >/dev/null 2>&1 &&
        note datasette "$DATASETTE" || sorry Datasette
}

node_servers() {
    done_before npm "$NPM_PACKAGES" && return
    # Without the scripts of the packages: some would compile a database that is not used here.
    # shellcheck disable=SC2086
    has npm && limited 240 npm install --prefix "$HERE" --ignore-scripts --no-audit --no-fund --fetch-retries=2 \
        --loglevel=silent $NPM_PACKAGES >/dev/null 2>&1 &&
        note npm "$NPM_PACKAGES" || sorry "PouchDB Server and the MCP server (npm)"
}

datasette &
if has npm; then
    node_servers &
    debian
else
    debian
    node_servers
fi
wait
exit 0
