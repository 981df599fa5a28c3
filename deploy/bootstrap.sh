#!/bin/bash
# Make this checkout ready to run: system packages, .venv, the package installed into it.
#
#   deploy/bootstrap.sh demo|live|test|fuzz|bench
#
# As root with apt-get it installs what is missing; otherwise it prints the packages and
# exits 1, changing nothing. PYTHON chooses the interpreter, VENV the folder (.venv).
# A second run finds its own mark in the folder and returns at once.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
purpose=${1:-demo}
venv=${VENV:-.venv}
export PATH="$PATH:/usr/sbin:/sbin" PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

# The guard's hooks are tested on each platform they are for: musl, and arm64 under qemu. On Debian 12
# that is 57 MB to fetch and 270 MB on the disk; an arm64 machine needs musl alone. A real Prometheus
# (100 MB) reads the metrics. Nobody is held up by it, without root or where the distribution lacks one of
# them: those tests are skipped, with the packages' names.
platforms=''
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    platforms='musl-gcc:musl-tools promtool:prometheus losetup:mount mkfs.ext4:e2fsprogs'
    if [ "$(uname -m)" = x86_64 ]; then
        platforms+=' aarch64-linux-gnu-gcc:gcc-aarch64-linux-gnu qemu-aarch64:qemu-user'
        platforms+=' /usr/aarch64-linux-gnu/include/stdio.h:libc6-dev-arm64-cross'
    fi
    # The status page and the map preview are looked at in a real browser.
    platforms+=' chromium:chromium chromedriver:chromium-driver npm:npm'
    # The image is built and run, the unit judged: 30 MB to fetch and 130 MB on the disk. The first build makes a base
    # image and fetches about 150 MB of packages and wheels; all of it stays in ~/.cache/svc-edge (1 to 2 GB).
    platforms+=' podman:podman buildah:buildah runc:runc mmdebstrap:mmdebstrap systemd-analyze:systemd'
    platforms+=' mandoc:mandoc'  # judges the manual page
fi

case $purpose in
    demo)  extras='' tools='' wishes='' ;;
    live)  extras='[demo]' tools='' wishes='' ;;
    bench) extras='' tools='nginx:nginx-light wrk:wrk' wishes='' ;;
    test)  extras='[test,dev]' tools='curl:curl jq:jq logrotate:logrotate nginx:nginx-light slowhttptest:slowhttptest strace:strace'
           wishes=$platforms ;;
    fuzz)  extras='[test,dev]' tools='' wishes='' ;;
    *) echo "usage: $0 demo|live|test|fuzz|bench" >&2; exit 2 ;;
esac

scratch=$(mktemp -d)
policy=''  # the file that keeps packages from starting services, if it is ours
trap 'rm -rf "$scratch" ${policy:+"$policy"}' EXIT

say() { printf '==> %s\n' "$*"; }
die() { printf 'bootstrap: %s\n' "$*" >&2; exit 1; }

is_usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

# Whether configure was asked for profile-guided optimisation (the official images, uv, conda).
is_optimised() { "$1" -c 'import sys, sysconfig
sys.exit("--enable-optimizations" not in (sysconfig.get_config_var("CONFIG_ARGS") or ""))' 2>/dev/null; }

# The distribution's interpreter first: Debian and Ubuntu build it with PGO and LTO, which is
# worth a quarter of the CPU of every request. Then any optimised one, then the newest.
find_python() {
    local candidate found=''
    if is_usable /usr/bin/python3; then echo /usr/bin/python3; return; fi
    for candidate in python3.13 python3.12 python3.11 python3.10 python3; do
        candidate=$(command -v "$candidate") || continue
        is_usable "$candidate" || continue
        if is_optimised "$candidate"; then echo "$candidate"; return; fi
        found=${found:-$candidate}
    done
    echo "$found"
}

# clang's sanitizers and libFuzzer are a package of clang's version.
missing_fuzzer() {
    local version=''
    if command -v clang >/dev/null; then
        printf 'int LLVMFuzzerTestOneInput(void) { return 0; }\n' |
            clang -x c -fsanitize=fuzzer,address,undefined - -o "$scratch/probe" 2>/dev/null && return
        version=$(clang -dumpversion)
    else
        echo clang
        version=$(apt-cache depends clang 2>/dev/null | sed -n 's/^ *Depends: clang-\([0-9]*\)$/\1/p' | head -n 1) || true
    fi
    if [ -n "$version" ]; then echo "libclang-rt-${version%%.*}-dev"; fi
}

# Names the packages of those tools (command or path, colon, package) that are not there.
lacking() {
    local tool
    for tool in "$@"; do
        [ -e "${tool%%:*}" ] || command -v "${tool%%:*}" >/dev/null || echo "${tool##*:}"
    done
}

# Names the Debian packages that hold what $1 (an interpreter, or nothing) and the build lack.
missing_packages() {
    local python=$1 prefix=python3 compiler
    if [ -z "$python" ]; then
        echo python3 python3-dev python3-venv
    else
        # An interpreter beside the distribution's own has packages of its own version.
        if [ "$("$python" -c 'import sys; print(sys.version_info[:2])')" != \
             "$(/usr/bin/python3 -c 'import sys; print(sys.version_info[:2])' 2>/dev/null)" ]; then
            prefix=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
        fi
        "$python" -c 'import ensurepip, venv' 2>/dev/null || echo "$prefix-venv"
        "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || echo "$prefix-dev"
    fi
    compiler=${CC:-$(if [ -n "$python" ]; then
        "$python" -c 'import sysconfig; print((sysconfig.get_config_var("CC") or "gcc").split()[0])'
    fi)}
    compiler=${compiler:-gcc}
    # shellcheck disable=SC2086
    compiles() { printf '%s\n' "$1" 'int main(void) { return 0; }' |
        $compiler -x c - -o "$scratch/probe" -I/usr/include/libev -I/usr/local/include "${@:2}" 2>/dev/null; }
    if ! command -v "${compiler%% *}" >/dev/null; then
        echo gcc libc6-dev
        ls /usr/include/ev.h /usr/include/libev/ev.h /usr/local/include/ev.h >/dev/null 2>&1 || echo libev-dev
    elif ! compiles '#include <stdio.h>'; then
        echo libc6-dev libev-dev
    elif ! compiles '#include <ev.h>' -L/usr/local/lib -lev; then
        echo libev-dev
    fi
    if [ "$purpose" = fuzz ]; then missing_fuzzer; fi
    # shellcheck disable=SC2086
    lacking $tools
}

# nginx and prometheus are tools here: no service of theirs begins, now or at the next boot.
keep_services_from_starting() {
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
}

disable_services() {
    local package
    for package in "$@"; do
        case $package in nginx-light | prometheus) systemctl --quiet disable "${package%-light}" ;; esac
    done >/dev/null 2>&1 || true   # no systemd, nothing to disable
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=120 "$@" >>"$scratch/apt" 2>&1 </dev/null; }

# Installs packages, all or none; apt's lists are fetched once, if there are none yet or old ones.
try_packages() {
    keep_services_from_starting
    apt install --no-install-recommends "$@" && disable_services "$@" && return
    [ -e "$scratch/updated" ] && return 1
    apt update || true
    touch "$scratch/updated"
    apt install --no-install-recommends "$@" && disable_services "$@"
}

install_packages() {
    say "installing system packages: $*"
    try_packages "$@" && return
    tail -n 20 "$scratch/apt" >&2
    die "apt-get could not install: $*"
}

# Installs what only some tests need; what cannot be had is told once and not tried again in this environment.
install_wishes() {
    local given_up=$venv/.svc-edge-without package wanted=''
    # shellcheck disable=SC2086
    for package in $(lacking $wishes); do
        grep -qsx "$package" "$given_up" || wanted+=" $package"
    done
    [ -n "$wanted" ] || return 0
    say "installing packages for some of the tests:$wanted"
    # shellcheck disable=SC2086
    try_packages $wanted && return
    for package in $wanted; do
        try_packages "$package" && continue
        say "apt-get cannot install $package: tests that need it are skipped ($given_up keeps it from being tried again)"
        echo "$package" >>"$given_up"
    done
}

require_packages() {
    local missing
    missing=$(missing_packages "$1")
    missing=${missing//$'\n'/ }
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        {
            echo "bootstrap: these system packages are missing: $missing"
            if command -v apt-get >/dev/null; then
                echo "Install them as root, then run the same command again:"
                echo
                echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing"
            else
                echo "These are Debian's names, and there is no apt-get here. What is needed: Python 3.10 or"
                echo "newer with its headers and venv, a C compiler with the C library's headers, libev's headers."
            fi
        } >&2
        exit 1
    fi
    # shellcheck disable=SC2086
    install_packages $missing
}

make_venv() {
    if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then die "$venv exists and is no virtual environment"; fi
    say "creating $venv with $("$1" --version) ($1)"
    "$1" -m venv --clear "$venv"
}

base_of() { "$1" -c 'import sys; print(sys.version_info[:3], sys.base_prefix)' 2>/dev/null; }

if [ -n "${PYTHON:-}" ]; then
    python=$(command -v "$PYTHON") || die "PYTHON=$PYTHON: no such command"
    is_usable "$python" || die "PYTHON=$PYTHON is older than 3.10"
elif is_usable "$venv/bin/python"; then
    python=$venv/bin/python
else
    python=$(find_python)
fi

require_packages "$python"
# Without apt's lists, the version of clang is only known once it is installed.
if [ "$purpose" = fuzz ]; then require_packages "$python"; fi
python=${python:-$(find_python)}
[ -n "$python" ] || die "no Python 3.10 or newer here; Debian 12, Ubuntu 22.04 and later have one"
still=$(missing_packages "$python")
[ -z "$still" ] || die "still missing after the installation:" $still

if ! is_usable "$venv/bin/python" || [ "$(base_of "$python")" != "$(base_of "$venv/bin/python")" ]; then
    make_venv "$python"
fi
install_wishes

mark_of() { { cat setup.py setup.cfg pyproject.toml edge_server/guard/*.[ch] deploy/bootstrap.sh; pwd; base_of "$venv/bin/python"; echo "$1"; } |
    sha256sum | cut -d' ' -f1; }
mark=$venv/.svc-edge
case $purpose in demo|live|test) web/build.sh --optional ;; esac
for done_extras in "$extras" '[test,dev]'; do
    if [ "$(cat "$mark" 2>/dev/null)" = "$(mark_of "$done_extras")" ]; then exit 0; fi
done

say "installing svc-edge$extras into $venv (a minute the first time; bjoern is compiled)"
# bjoern has a legacy setup.py: built in isolation it needs no setuptools or wheel in the environment.
PIP_USE_PEP517=1 "$venv/bin/python" -m pip install --quiet --editable ".$extras" || die "pip could not install the package"
"$venv/bin/python" -c 'import bjoern' || die "bjoern was built and does not import"
mark_of "$extras" >"$mark"
