#!/usr/bin/env bash
# Judges the release binary: what it links, what it must not contain, its size, its idle memory.
# Prints one table; the exit code is 0 when every row is within its limit.
#
#   dev/gate.sh [BINARY]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
binary=${1:-dist/outrider}
limit_size=$((40 * 1000 * 1000))
limit_resident=$((40 * 1024))
limit_anonymous=$((12 * 1024))
verdict=0
rows=()

[ -x "$binary" ] || { echo "gate: $binary is not there; run 'make build' first" >&2; exit 1; }

row() { # name, value, limit, ok|FAIL
  rows+=("$(printf '| %-34s | %-28s | %-22s | %-4s |' "$1" "$2" "$3" "$4")")
  [ "$4" = ok ] || verdict=1
}

judge() { # name, number, limit, unit divisor, unit name
  local word=ok
  [ "$2" -le "$3" ] || word=FAIL
  row "$1" "$(awk -v n="$2" -v d="$4" 'BEGIN { printf "%.1f", n / d }') $5" "<= $(awk -v n="$3" -v d="$4" 'BEGIN { printf "%.0f", n / d }') $5" $word
}

check_libraries() {
  local extra
  extra=$(ldd "$binary" | awk '{ print $1 }' | sed 's|.*/||' |
    grep -vE '^(libc|libm|libstdc\+\+|libgcc_s|libdl|libpthread|ld-linux[a-z0-9_-]*|linux-vdso)\.so' | tr '\n' ' ' || true)
  if [ -z "${extra// /}" ]; then
    row "shared libraries" "glibc and libstdc++ only" "no other" ok
  else
    row "shared libraries" "also $extra" "no other" FAIL
  fi
}

# The stripped binary has no symbols to look at; the linker's own output beside it has.
check_foundation() {
  local unstripped found=""
  unstripped=$(swift build -c release --scratch-path .build --show-bin-path)/outrider
  [ -f "$unstripped" ] || { echo "gate: $unstripped is not there; run 'make build'" >&2; exit 1; }
  # Symbols of module Foundation are mangled as $s10Foundation...; FoundationEssentials is 20 letters long.
  # Each reader reads to the end: with pipefail an early exit would look like a failure of the writer.
  local symbols
  symbols=$(nm "$unstripped" 2>/dev/null | awk '$2 ~ /^[TtDdRr]$/ && $3 ~ /^_?\$s10Foundation[0-9A-Z]/ { n++ } END { print n + 0 }')
  if [ "$symbols" != 0 ]; then
    found="full Foundation ($symbols symbols)"
  fi
  if grep -qaE 'icudt[0-9]+|_FoundationICU' "$unstripped"; then
    found="${found:+$found, }ICU data"
  fi
  if [ -z "$found" ]; then
    row "full Foundation or ICU data" "none" "none" ok
  else
    row "full Foundation or ICU data" "$found" "none" FAIL
  fi
}

# Resident and anonymous KiB of a process.
memory_of() {
  awk '/^Rss:/ { r = $2 } /^Anonymous:/ { a = $2 } END { print r + 0, a + 0 }' "/proc/$1/smaps_rollup"
}

children_of() { cat "/proc/$1/task/"*/children 2>/dev/null || true; }

check_idle_memory() {
  local scratch supervisor worker="" pid total_resident=0 total_anonymous=0 r a
  scratch=$(mktemp -d)
  printf 'admin: { listen: "127.0.0.1:0" }\n' >"$scratch/outrider.yaml"
  "$binary" run --state "$scratch/state" --config "$scratch/outrider.yaml" -- sleep 120 >"$scratch/out" 2>&1 &
  supervisor=$!
  local waited=0 answer=""
  while :; do
    answer=$(curl -s -o /dev/null -w '%{http_code}' --max-time 2 --unix-socket "$scratch/state/outrider.sock" \
      http://outrider/readyz || true)
    [ "$answer" != 200 ] || break
    waited=$((waited + 1))
    if [ $waited -gt 100 ] || ! kill -0 $supervisor 2>/dev/null; then
      echo "gate: '$binary run -- sleep' was not ready after 20 s (readyz said ${answer:-nothing}); it wrote:" >&2
      tail -n 20 "$scratch/out" >&2
      kill $supervisor 2>/dev/null || true
      rm -rf "$scratch"
      exit 1
    fi
    sleep 0.2
  done
  sleep 2 # let what starting took be given back: idle is what is measured
  for pid in $(children_of $supervisor); do
    case $(tr '\0' ' ' <"/proc/$pid/cmdline") in *' worker'*) worker=$pid ;; esac
  done
  for pid in $supervisor $worker; do
    read -r r a < <(memory_of "$pid")
    total_resident=$((total_resident + r))
    total_anonymous=$((total_anonymous + a))
  done
  kill -TERM $supervisor
  wait $supervisor 2>/dev/null || true
  rm -rf "$scratch"
  if [ -z "$worker" ]; then
    row "worker process" "not found" "a child 'outrider worker'" FAIL
    return
  fi
  judge "idle RSS, supervisor + worker" $total_resident $limit_resident 1024 MiB
  judge "of which anonymous" $total_anonymous $limit_anonymous 1024 MiB
}

check_libraries
check_foundation
judge "size of $binary" "$(stat -c %s "$binary")" $limit_size 1000000 MB
check_idle_memory

printf '| %-34s | %-28s | %-22s | %-4s |\n' "release binary" "is" "limit" ""
printf '| %s | %s | %s | %s |\n' ---------------------------------- ---------------------------- ---------------------- ----
printf '%s\n' "${rows[@]}"
exit $verdict
