#!/usr/bin/env bash
# Fetch Triton's load tool for the interoperability tests: perf_analyzer.sh ENVIRONMENT. Called by the Makefile.
# Leaves ENVIRONMENT/perf-analyzer/run, which takes perf_analyzer's arguments. Its wheel wants a newer C library than many systems
# have; where that is so, and apt is there, the libraries of Debian 13 are unpacked beside it, without being installed.
set -euo pipefail
cd "$(dirname "$0")/.."
VERSION=2.60.0
LIBRARIES="libc6 libstdc++6 libgcc-s1 libssl3t64 zlib1g libzstd1"

environment="$PWD/${1#"$PWD"/}"
target="$environment/perf-analyzer"
if [ -x "$target/run" ]; then exit 0; fi
if [ "$(uname -sm)" != "Linux x86_64" ]; then echo "perf_analyzer is for Linux on x86-64" >&2; exit 1; fi

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

export PATH="$environment/bin:$PWD/.venv/bin:$PATH" # where setup.sh puts uv when it is nowhere else
uv pip install --quiet --python "$environment/bin/python" --target "$work/out/wheel" --no-deps --only-binary :all: \
  --python-platform x86_64-manylinux_2_38 "perf-analyzer==$VERSION"
binary=wheel/perf_analyzer/bin/perf_analyzer
chmod +x "$work/out/$binary"
loader=""
if ! "$work/out/$binary" --version >/dev/null 2>&1; then
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  if ! command -v apt-get >/dev/null || [ ! -f "$keyring" ]; then
    echo "perf_analyzer needs a C library of 2.38 or newer here, and there is no apt to fetch one with" >&2
    exit 1
  fi
  mkdir -p "$work"/apt/{state/lists/partial,cache/archives/partial} "$work/debs" "$work/out/root"
  echo "deb [signed-by=$keyring] http://deb.debian.org/debian trixie main" > "$work/apt/sources.list"
  touch "$work/apt/status"
  apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State=$work/apt/state" -o "Dir::State::status=$work/apt/status" -o "Dir::Cache=$work/apt/cache")
  if [ "$(id -u)" = 0 ]; then apt+=(-o APT::Sandbox::User=root); fi
  "${apt[@]}" update
  # shellcheck disable=SC2086  # one word each
  (cd "$work/debs" && "${apt[@]}" download $LIBRARIES)
  for package in "$work"/debs/*.deb; do dpkg-deb -x "$package" "$work/out/root"; done
  libraries='$here/root/usr/lib/x86_64-linux-gnu'
  loader="\"$libraries/ld-linux-x86-64.so.2\" --library-path \"$libraries\" "
fi
printf '#!/bin/sh\nhere="$(dirname "$0")"\nexec %s"$here/%s" "$@"\n' "$loader" "$binary" > "$work/out/run"
chmod +x "$work/out/run"
"$work/out/run" --version >/dev/null
rm -rf "$target"
mv "$work/out" "$target"
