# For the scripts beside it that install servers; they set HERE to the folder that these go to.
export DEBIAN_FRONTEND=noninteractive
export HOME="${HOME:-$HERE/home}" # npm and pip want one
mkdir -p "$HERE" "$HOME" 2>/dev/null

sorry() { echo "$1 could not be installed; its tests are skipped"; }
has() { command -v "$1" >/dev/null 2>&1; }
limited() { if has timeout; then timeout "$@"; else shift && "$@"; fi; }
is_root() { [ "$(id -u)" = 0 ]; }
done_before() { [ "$(cat "$HERE/$1.installed" 2>/dev/null)" = "$2" ]; }
note() { printf '%s\n' "$2" >"$HERE/$1.installed"; }

# The package and what it needs that this machine has not, into the folder where we are. Nothing is installed, so
# nothing is locked, and no service is started.
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
