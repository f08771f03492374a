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
