#!/bin/sh
# nginx, for the tests that want a server that is not ours. Without root and apt those tests are skipped.
command -v nginx >/dev/null && exit 0
command -v apt-get >/dev/null && [ "$(id -u)" = 0 ] || { echo "nginx is not installed; its tests are skipped"; exit 0; }
export DEBIAN_FRONTEND=noninteractive
# The package would start the service; the tests start their own.
apt-get install -y -qq --no-install-recommends nginx-light >/dev/null 2>&1 ||
    { apt-get update -qq >/dev/null 2>&1 && apt-get install -y -qq --no-install-recommends nginx-light >/dev/null 2>&1; } ||
    echo "nginx could not be installed; its tests are skipped"
exit 0
