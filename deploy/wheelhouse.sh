#!/usr/bin/env bash
# Fills dist/wheelhouse with the wheels that deploy/Dockerfile installs: ours, compiled here, and
# those it depends on. The image's build then needs no network and no compiler.
#
#   deploy/wheelhouse.sh [PYTHON_VERSION]    such as 3.11: that of the base image; default: ours
#
# Needs .venv (`make check` or `make unit` makes it). Equal sources give equal bytes, so that Docker
# finds its cached layers again.
set -euo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top"
bin=$top/.venv/bin
out=dist/wheelhouse
version=${1:-$("$bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')}

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$top/target}
export PYO3_PYTHON=${PYO3_PYTHON:-$bin/python}
export PIP_DISABLE_PIP_VERSION_CHECK=1
# The time stamps of the wheel's members; the earliest that a zip file can hold.
export SOURCE_DATE_EPOCH=315532800

mkdir -p "$out"
fresh=$(mktemp -d "$out/.fresh.XXXXXX")
trap 'rm -rf "$fresh"' EXIT

"$bin/maturin" build --quiet --release --locked --out "$fresh"
wheel=$(echo "$fresh"/shardtls-*.whl)

# The dependencies are asked for again only when the wheel names others.
requirements=$("$bin/python" - "$wheel" <<'PYTHON'
import email, fnmatch, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    (metadata,) = fnmatch.filter(wheel.namelist(), "*.dist-info/METADATA")
    wanted = email.message_from_bytes(wheel.read(metadata)).get_all("Requires-Dist", [])
print(*sorted(line for line in wanted if "extra ==" not in line), sep="\n")
PYTHON
)
wanted=$(printf 'python %s\n%s\n' "$version" "$requirements" | sha256sum | cut -d' ' -f1)
if [[ $(cat "$out/.requirements" 2>/dev/null) != "$wanted" ]]; then
  mapfile -t names <<<"$requirements"
  rm -f "$out"/*.whl "$out/.requirements"
  "$bin/pip" download --quiet --only-binary=:all: --python-version "$version" --dest "$out" "${names[@]}"
  echo "$wanted" >"$out/.requirements"
fi
rm -f "$out"/shardtls-*.whl
mv "$wheel" "$out/"
