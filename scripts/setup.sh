#!/usr/bin/env bash
# Create or update an environment from uv.lock. Called by the Makefile:
#   setup.sh ENVIRONMENT [arguments of `uv sync`...]     LIMEN_REBUILD=1 runs the build hook again
#   setup.sh lock [arguments of `uv lock`...]
#   setup.sh build                               wheel and source archive into dist/
# Works with nothing but Python >= 3.11: uv is fetched into the environment when it is not on PATH.
# LIMEN_PYTHON names the interpreter; without it, the first recent one on PATH is taken.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
fail() { printf '\n%s\n' "$*" >&2; exit 1; }

is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
  local name
  for name in python3 python3.13 python3.12 python3.11 python3.14 python; do
    if command -v "$name" >/dev/null && is_recent "$name"; then command -v "$name"; return; fi
  done
  return 1
}

find_uv() {
  local candidate
  for candidate in uv "$environment/bin/uv" .venv/bin/uv; do
    if "$candidate" --version >/dev/null 2>&1; then command -v "$candidate"; return; fi
  done
  return 1
}

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

case "$1" in lock | build) environment=.venv ;; *) environment="$1" ;; esac
if [ -n "${LIMEN_PYTHON:-}" ]; then
  python="$(command -v "$LIMEN_PYTHON" || true)"
  is_recent "$python" || fail "LIMEN_PYTHON names no Python 3.11 or newer: $LIMEN_PYTHON"
  if [ -x "$environment/bin/python" ] && [ "$(version "$environment/bin/python")" != "$(version "$python")" ]; then
    fail "$environment has Python $(version "$environment/bin/python"), and LIMEN_PYTHON names Python $(version "$python").
Remove $environment, or make another one: make setup VENV=.venv-$(version "$python")"
  fi
else
  python="$(find_python || true)"
fi
uv="$(find_uv || true)"

if [ -z "$python" ] && [ -z "$uv" ]; then
  fail "Limen needs Python 3.11 or newer, and none is on PATH (found: $( (python3 --version || echo none) 2>/dev/null)).
  Debian, Ubuntu:  apt install python3 python3-venv
  Fedora:          dnf install python3.12
  macOS:           brew install python@3.12
  anywhere:        install uv (https://docs.astral.sh/uv/); it brings its own Python
If it is installed elsewhere: LIMEN_PYTHON=/path/to/python3.12 make setup"
fi

if [ -z "$uv" ]; then
  say "uv is not on PATH: fetching it into $environment"
  "$python" scripts/bootstrap.py "$environment"
  uv="$environment/bin/uv"
fi

if [ "$1" = lock ]; then
  shift
  # Only the public index goes into the lock, whatever this machine is configured to use.
  env -u UV_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
    "$uv" lock --no-config --default-index https://pypi.org/simple "$@"
  exit
fi

if [ "$1" = build ]; then exec "$uv" build --quiet --out-dir dist; fi

shift
if [ "${LIMEN_REBUILD:-}" = 1 ]; then set -- "$@" --reinstall-package limen; fi
if [ -n "$python" ] && [ ! -x "$environment/bin/python" ]; then export UV_PYTHON="$python"; fi

if [ -x "$environment/bin/python" ]; then say "Updating $environment"
else say "Installing into $environment (about a minute the first time, mostly downloads)"; fi
# With pip, for what a user adds; `--inexact` leaves that alone when the environment is brought up to date.
if [ ! -x "$environment/bin/python" ]; then "$uv" venv --quiet --seed --allow-existing "$environment"; fi
# The list of a hundred packages is left out; downloads and errors are shown.
if ! UV_PROJECT_ENVIRONMENT="$environment" "$uv" sync --locked --inexact "$@" 2>&1 | awk '!/^ [-+~] /{print; fflush()}' >&2; then
  fail "Setting up $environment failed; the reason is above. Usual causes:
  - no way to the package index: the first set-up needs pypi.org (or set UV_DEFAULT_INDEX to a mirror and UV_FROZEN=1)
  - Python 3.14 and no C++ compiler: apt install g++ python3.14-dev (pysimdjson has no wheel for it yet)
  - pyproject.toml was changed: run \`make lock\` and commit uv.lock
  - an old environment: remove $environment and try again"
fi
