#!/bin/sh
# Installs openchat-local @VERSION@ with its models and adapters. Needs no network.
#   ./install [FOLDER]     FOLDER is where the program goes, @FOLDER@ in your home if not given
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
target=${1:-"$HOME/@FOLDER@"}
case $target in
/*) ;;
*) target=$PWD/$target ;;
esac

fail() {
    echo "install: $*" >&2
    exit 1
}

python=
for candidate in ${PYTHON:+"$PYTHON"} python@PYTHON@ python3 python; do
    if "$candidate" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "@PYTHON@")' \
        >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail "Python @PYTHON@ is missing (PYTHON=/path/to/python names one)."
case "$(uname -s) $(uname -m)" in
"@SYSTEM@") ;;
*) fail "this bundle is for @SYSTEM@, and this machine is $(uname -s) $(uname -m)." ;;
esac

cd "$here"
echo "Checking the files ..."
if command -v sha256sum >/dev/null 2>&1; then
    sha256sum -c SHA256SUMS >/dev/null || fail "a file is damaged: copy the bundle again."
else
    shasum -a 256 -c SHA256SUMS >/dev/null || fail "a file is damaged: copy the bundle again."
fi

echo "Installing into $target ..."
"$python" -m venv --without-pip "$target"
set -- wheels/pip-*.whl  # pip runs out of its own wheel, so that nothing has to bring it
"$target/bin/python" "$1/pip" --isolated install --quiet --no-index --find-links wheels \
    --disable-pip-version-check --no-cache-dir '@REQUIREMENT@'
program=$target/bin/openchat-local
"$program" --version

add_model() {
    "$program" models path "$1:$2" >/dev/null 2>&1 || "$program" models add "$3" --name "$1"
}
add_adapter() {
    "$program" adapters add "$2" --name "$1" --replace
}
@STEPS@
echo
echo "Done. Start it with: $program"
