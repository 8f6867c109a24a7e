#!/usr/bin/env bash
# `make demo`: the shop of Examples/shop, a payments service that fails now and then, and Outrider between them.
# Needs no server and no account. Prints at most ten lines. KEEP=1 leaves it running until Ctrl-C.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
place=$(mktemp -d "${TMPDIR:-/tmp}/outrider-demo.XXXXXX")
state=$place/state
payments_pid="" outrider_pid=""

clean_up() {
  # By id, and only what this script started.
  [ -z "$outrider_pid" ] || kill -TERM "$outrider_pid" 2>/dev/null || true
  [ -z "$outrider_pid" ] || wait "$outrider_pid" 2>/dev/null || true
  [ -z "$payments_pid" ] || kill -TERM "$payments_pid" 2>/dev/null || true
  [ -z "$payments_pid" ] || wait "$payments_pid" 2>/dev/null || true
  rm -rf "$place"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

give_up() {
  echo "demo: $1" >&2
  [ ! -s "$place/outrider.log" ] || tail -n 20 "$place/outrider.log" >&2
  exit 1
}

say() { printf '%-9s %s\n' "$1" "$2"; }

# Runs the rest of the arguments until it succeeds, for at most $1 tenths of a second.
within() {
  local left=$1
  shift
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ $left -gt 0 ] || return 1
    [ -z "$outrider_pid" ] || kill -0 "$outrider_pid" 2>/dev/null || return 1
    sleep 0.1
  done
}

mkdir -p .build
say build "dist/outrider (the first time takes some minutes; see .build/demo-build.log)"
make --no-print-directory build >.build/demo-build.log 2>&1 || {
  tail -n 30 .build/demo-build.log >&2
  give_up "the build failed; the whole log is .build/demo-build.log"
}
outrider=$root/dist/outrider

# Four free ports, all held at once while they are chosen so that they differ.
read -r APP_PORT INBOUND_PORT OUTBOUND_PORT ADMIN_PORT < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(s.getsockname()[1] for s in held))')
export APP_PORT INBOUND_PORT OUTBOUND_PORT ADMIN_PORT SECRETS_DIR=$place

key=sk_demo_$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
"$outrider" secrets init --file "$place/secrets.age" --identity "$place/identity.txt" >"$place/outrider.log" 2>&1 ||
  give_up "could not make the encrypted secrets file"
printf %s "$key" | "$outrider" secrets set payments.key --file "$place/secrets.age" --identity "$place/identity.txt" \
  >>"$place/outrider.log" 2>&1 || give_up "could not write the payment key into the encrypted file"

python3 -u Examples/shop/payments.py 0 >"$place/payments.port" 2>"$place/payments.log" &
payments_pid=$!
within 100 test -s "$place/payments.port" || give_up "payments.py did not start: $(cat "$place/payments.log")"
PAYMENTS_PORT=$(cat "$place/payments.port")
export PAYMENTS_PORT
say payments "127.0.0.1:$PAYMENTS_PORT answers 503 to every third call"

(cd Examples/shop && exec "$outrider" run --config outrider.yaml --state "$state") >"$place/outrider.log" 2>&1 &
outrider_pid=$!
within 300 curl -sf --max-time 2 "http://127.0.0.1:$ADMIN_PORT/readyz" || give_up "outrider did not become ready"
say outrider "shop: http://127.0.0.1:$INBOUND_PORT  health, metrics: http://127.0.0.1:$ADMIN_PORT  state: $state"

answers=""
for _ in 1 2 3 4 5 6; do
  answers+="$(curl -s -o /dev/null -w '%{http_code}' --max-time 20 -X POST "http://127.0.0.1:$INBOUND_PORT/buy") "
done
stats=$(curl -s "http://127.0.0.1:$PAYMENTS_PORT/stats")
say requests "6 purchases answered ${answers% }"
say retried "payments itself says $stats: its failures were tried again and the shop never saw them"

has_lines() { "$outrider" logs --state "$state" --grep "$1" | grep . >/dev/null; }
within 100 has_lines "order 6 paid" || give_up "the shop's log lines did not arrive in the store"
# The access record of an outbound call that took more than one try.
retried_record() {
  "$outrider" logs --state "$state" --source access --output json | grep -F /charges/ |
    grep -E '"tries" ?: ?"?[2-9]' | tail -n 1 | cut -c 1-220 | grep .
}
last_of() { "$outrider" logs --state "$state" --output json "$@" | tail -n 1 | cut -c 1-220; }
say record "$(last_of --grep 'order 6 paid')"
within 50 retried_record || true
say access "$(retried_record || last_of --source access)"
masked=$("$outrider" logs --state "$state" --output json --grep 'shop opens' |
  sed -n 's/.*"key_masked" *: *"\([^"]*\)".*/\1/p' | tail -n 1)
hidden=$("$outrider" logs --state "$state" --grep 'payment key is' | tail -n 1)
if "$outrider" logs --state "$state" --output json | grep -F "$key" >/dev/null; then
  give_up "the payment key is in a log record; this is a bug"
fi
say secret "the shop received $masked; it printed it plainly, and the store has: $(printf %s "$hidden" | tail -c 60)"

if [ "${KEEP:-}" = 1 ]; then
  say look "dist/outrider logs --follow --state $state  |  dist/outrider status --state $state  |  Ctrl-C ends it"
  wait "$outrider_pid" || true
else
  kill -TERM "$outrider_pid"
  code=0
  wait "$outrider_pid" || code=$?
  outrider_pid=""
  say end "outrider stopped the shop, then itself, with the shop's exit code $code; KEEP=1 make demo leaves it running"
fi
