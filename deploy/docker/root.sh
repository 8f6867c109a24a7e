#!/usr/bin/env bash
# root.sh BINARY DIRECTORY: an image's root with the binary as /outrider, the libraries it needs at the paths where its
# loader looks for them, and the machine's certificate bundle when it has one.
set -euo pipefail

[ $# = 2 ] || {
  echo "usage: root.sh BINARY DIRECTORY" >&2
  exit 64
}
binary=$1 root=$2
rm -rf "$root"
mkdir -p "$root/etc/ssl/certs"
strip -o "$root/outrider" "$binary"
chmod 755 "$root/outrider"
# Lines of ldd: "name => /path (address)" and "/path/of/the/loader (address)". The paths are kept, so that the loader and
# the binary's own search path find them. A static binary has none.
ldd "$binary" 2>/dev/null | sed -nE 's#^[^/]*(/[^ ]+) \(0x.*#\1#p' | sort -u | while read -r library; do
  mkdir -p "$root${library%/*}"
  cp -L "$library" "$root$library"
done
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
