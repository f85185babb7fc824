#!/usr/bin/env bash
# Makes a base image for deploy/Dockerfile out of this machine's own Debian packages, for machines
# that reach no container registry. With a registry there is no need for it: the default base is
# python:3.11-slim.
#
#   deploy/base-image.sh        prints the image's name on stdout; progress goes to stderr
#
# Needs mmdebstrap, apt and a Docker engine. The root file system is kept as a tarball under
# .cache/, and the image is labelled with a hash of this file and of the package list: what is there
# already is not made again. Delete .cache/base-*.tar.gz to pick up newer packages.
# The image has no package sources (so it does not give away the address of this machine's mirror).
set -euo pipefail

# haproxy: the same image serves as the balancer in the compose tests.
packages=python3,python3-venv,ca-certificates,haproxy

top=$(cd "$(dirname "$0")/.." && pwd)
cache=$top/.cache
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
arch=$(dpkg --print-architecture)
hash=$( (echo "$suite $arch $packages"; cat "$0") | sha256sum | cut -c1-16)
image=shardtls-base:$suite-$hash
tarball=$cache/base-$suite-$arch-$hash.tar.gz

say() { echo "base-image: $*" >&2; }

for tool in docker mmdebstrap; do
  command -v "$tool" >/dev/null || { say "$tool is missing: apt-get install $tool"; exit 1; }
done

if [[ $(docker image inspect --format '{{index .Config.Labels "shardtls.base"}}' "$image" 2>/dev/null) == "$hash" ]]; then
  echo "$image"
  exit
fi

if [[ ! -s $tarball ]]; then
  say "making $suite/$arch with $packages"
  mkdir -p "$cache"
  work=$(mktemp -d "$cache/base.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  # The suites of this distribution that the machine itself installs from. `indextargets` reads both
  # source formats; third-party sources (another suite name) are left out.
  # Its field SIGNED_BY is not filled by every apt, hence the keyring of the distribution.
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  apt-get indextargets --format '$(CREATED_BY) $(REPO_URI) $(SUITE) $(CODENAME) $(COMPONENT)' |
    awk -v suite="$suite" -v keyring="$keyring" '
      $1 == "Packages" && $4 ~ "^" suite "(-|$)" {
        line = "deb [signed-by=" keyring "] " $2 " " $4 " " $5
        if (!seen[line]++) print line
      }' >"$work/sources.list"
  [[ -s $work/sources.list ]] || { say "apt knows no index of $suite: run apt-get update"; exit 1; }
  # usrmerge and its perl are not needed when the tree is merged from the start. Documentation,
  # locales and lists make half the size; every build step compares the whole tree.
  mmdebstrap --quiet --variant=minbase --include="$packages" \
    --aptopt='Acquire::Languages "none"' \
    --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
    --customize-hook='rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/* "$1"/usr/share/info/* "$1"/var/cache/* "$1"/var/lib/apt/lists/* "$1"/var/log/*.log "$1"/etc/apt/sources.list*' \
    "$suite" "$work/root.tar" "$work/sources.list" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; say "mmdebstrap failed"; exit 1; }
  gzip -1 "$work/root.tar"
  mv "$work/root.tar.gz" "$tarball"
fi

say "importing $(basename "$tarball")"
docker import --change "LABEL shardtls.base=$hash" --change 'CMD ["bash"]' "$tarball" "$image" >/dev/null
echo "$image"
