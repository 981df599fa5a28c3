#!/bin/bash
# Put MapLibre GL JS into the package, where the map preview finds it and wheels carry it.
#
#   web/build.sh [--optional]
#
# Needs npm, and whatever registry npm is set up for; package-lock.json holds the versions and
# their hashes. With --optional it is no error that either is missing, and it is tried once: the
# preview then says how to build it. A second run finds its own mark and returns at once.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
target=../edge_server/sidecar/pages/vendor
mark=node_modules/.svc-edge
tried=node_modules/.svc-edge-tried
is_optional=${1:-}

wanted=$(cat build.sh package.json package-lock.json | sha256sum | cut -d' ' -f1)
if [ "$(cat "$mark" 2>/dev/null)" = "$wanted" ] && [ -e "$target/maplibre-gl.mjs" ]; then exit 0; fi
# An npm that comes later, or another one, is another try.
attempt="$wanted $(command -v npm || true)"
if [ "$is_optional" = --optional ] && [ "$(cat "$tried" 2>/dev/null)" = "$attempt" ]; then exit 0; fi

give_up() {
    printf 'pages: %s; the map preview is not built in (make pages does it)\n' "$*" >&2
    mkdir -p node_modules
    echo "$attempt" >"$tried"
    [ "$is_optional" = --optional ]
    exit
}

command -v npm >/dev/null || give_up "npm is missing (Debian's package is called npm)"
echo '==> building the map preview'
npm ci --silent --no-progress --fetch-retries=1 --fetch-timeout=30000 || give_up 'npm could not install maplibre-gl'

library=node_modules/maplibre-gl
mkdir -p "$target"
rm -f "$target"/*
for name in maplibre-gl.mjs maplibre-gl-worker.mjs; do
    # The map of the source is not shipped, and a browser's tools should not look for it.
    sed '/^\/\/# sourceMappingURL=/d' "$library/dist/$name" >"$target/$name"
done
cp "$library/dist/maplibre-gl.css" "$target/"
cp "$library/LICENSE.txt" "$target/maplibre-gl.LICENSE.txt"
echo "$wanted" >"$mark"
