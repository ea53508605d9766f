# Sourced by scripts/demo and scripts/test: makes .venv beside the checkout's files and installs
# the project into it. Prints what it does; does nothing that is already done.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv="${RETRIEVAL_GROUNDING_VENV:-$root/.venv}"

say() { printf '== %s\n' "$*"; }

# install EXTRAS: e.g. install cpu,dev
install() {
    if [ ! -x "$venv/bin/python" ]; then
        say "making a virtual environment in $venv"
        "${PYTHON:-python3}" -m venv "$venv"
    fi
    # PyPI's faiss-gpu and faiss-cpu overwrite each other: keep the one that is there.
    local stamp="$venv/.installed-${1//,/-}"
    if [ -e "$stamp" ] && [ "$stamp" -nt "$root/pyproject.toml" ]; then
        say "packages are installed already ($1)"
        return
    fi
    say "installing the project with [$1]; the first time this downloads PyTorch (some GB)"
    "$venv/bin/python" -m pip install --quiet --editable "$root[$1]"
    touch "$stamp"
}

# The browser of tests/browser, which are skipped without it. Only where packages can be installed.
install_chromium() {
    if command -v chromium >/dev/null || command -v chromium-browser >/dev/null; then
        return
    fi
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        say "no Chromium here, so the tests of the page are skipped"
        return
    fi
    say "installing Chromium for the tests of the page"
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null ||
        say "Chromium cannot be installed, so the tests of the page are skipped"
}
