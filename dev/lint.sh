#!/usr/bin/env bash
# Builds everything in debug and fails on a warning in our own sources, or on an import that
# Package.swift does not declare. Dependencies may warn: they are not ours to fix.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scratch=${1:-.build}
log=$scratch/lint.log
mkdir -p "$scratch"
status=0
swift build --build-tests --scratch-path "$scratch" --explicit-target-dependency-import-check error 2>&1 |
  tee "$log" | sed -n '/error:/p;/warning:/p' || status=$?
if [ "$status" != 0 ]; then
  echo "lint: the build failed; the last lines of $log:" >&2
  tail -n 30 "$log" >&2
  exit 1
fi
root=$(pwd -P)
if grep -E "^($root/)?(Sources|Tests|Fuzz|Package\.swift)[^:]*:[0-9]+:[0-9]+: warning:" "$log"; then
  echo "lint: warnings in our own sources count as errors" >&2
  exit 1
fi
# An import that no dependency edge allows is reported without a position.
if grep -E "warning: Target [A-Za-z0-9]+ imports" "$log"; then
  echo "lint: add the dependency to Package.swift, or remove the import" >&2
  exit 1
fi

# House rules that a compiler does not know.
broken=0
if grep -rnE '^(package |public |internal )?import Foundation$' Sources; then
  echo "lint: full Foundation is not allowed in Sources; use FoundationEssentials or Glibc" >&2
  broken=1
fi
if grep -rnE 'try!|fatalError\(|TODO|FIXME' Sources --include='*.swift'; then
  echo "lint: no try!, fatalError, TODO or FIXME in Sources" >&2
  broken=1
fi
# (A program that a test runs may pace itself; the test itself may not.)
if grep -rnE '(^|[^.A-Za-z])(sleep|usleep|nanosleep)\(|Task\.sleep' Tests --include='*.swift' |
  grep -v '// between two looks' ||
  grep -rnE '\bsleep\(' Tests --include='*.py'; then
  echo "lint: tests wait for something to happen, they do not sleep" >&2
  broken=1
fi
while IFS= read -r file; do
  lines=$(wc -l <"$file")
  if [ "$lines" -gt 500 ]; then
    echo "$file: $lines lines; 500 is the limit" >&2
    broken=1
  fi
done < <(find Sources Tests Fuzz -name '*.swift' -o -name '*.py' | grep -v __pycache__)
exit $broken
