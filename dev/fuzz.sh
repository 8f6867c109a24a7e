#!/usr/bin/env bash
# Builds the fuzzer and runs its targets one after the other: FUZZ=name for one, FUZZ_SECONDS for all of them together
# (600). What is found stays in Fuzz/Findings, and what helped to find it in .build-fuzz/corpus.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scratch=${FUZZ_SCRATCH:-.build-fuzz}
fail() {
  echo "dev/fuzz.sh: $1" >&2
  exit 1
}

resources=$(swiftc -print-target-info | sed -n 's/.*"runtimeResourcePath": "\(.*\)".*/\1/p')
runtime=$resources/clang/lib/linux/libclang_rt.fuzzer_no_main-$(uname -m).a
[ -e "$runtime" ] || fail "no libFuzzer in this toolchain: $runtime is not there"
export OUTRIDER_FUZZ=$runtime
# The handlers of signals are libFuzzer's, which keeps the input then.
export SWIFT_BACKTRACE=enable=no
swift build --product outrider-fuzz --scratch-path "$scratch"
program=$(swift build --product outrider-fuzz --scratch-path "$scratch" --show-bin-path)/outrider-fuzz

known=$(ls Fuzz/Corpus)
targets=${FUZZ:-$known}
seconds=$((${FUZZ_SECONDS:-600} / $(wc -w <<<"$targets")))
status=0
for target in $targets; do
  [ -d "Fuzz/Corpus/$target" ] || fail "no target '$target'; there are: ${known//$'\n'/ }"
  mkdir -p "$scratch/corpus/$target" Fuzz/Findings
  # The first directory takes what is new; the tree's own is only read.
  FUZZ_TARGET=$target "$program" -max_total_time=$((seconds > 0 ? seconds : 1)) -timeout=10 -rss_limit_mb=1024 \
    -max_len="${FUZZ_LENGTH:-4096}" -artifact_prefix="Fuzz/Findings/$target-" -print_final_stats=1 \
    "$scratch/corpus/$target" "Fuzz/Corpus/$target" >"$scratch/$target.log" 2>&1 || status=$?
  awk -v target="$target" '/number_of_executed_units/ { runs = $2 } /cov:/ { sub(/.*cov: /, ""); cover = $1 }
    END { printf "%-14s %12d executions, %5d edges\n", target, runs, cover }' "$scratch/$target.log"
  if [ "$status" != 0 ]; then
    tail -n 30 "$scratch/$target.log" >&2
    fail "$target: a finding; see Fuzz/Findings and $scratch/$target.log. Mend it, and move the file to Fuzz/Corpus/$target under a name that says what it is"
  fi
done
