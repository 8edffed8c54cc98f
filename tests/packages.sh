# SPDX-License-Identifier: MIT
# packages.sh - sourced by tests/run, stress/run, bench/run and .ci/run: what Debian 12 must have installed, and getting it.

PACKAGES_BUILD=(meson ninja-build gcc g++ libc6-dev pkg-config liburcu-dev libjemalloc-dev libgtest-dev googletest
                python3 libunicorn-dev)
PACKAGES_UNICORN=(binutils-riscv64-linux-gnu)
PACKAGES_VHOST=(qemu-system-common dpdk-dev librte-net-vhost23)
PACKAGES_KVM=(qemu-system-x86 cpio)
PACKAGES_CLANG=(clang libclang-rt-14-dev)
PACKAGES_CI=(git valgrind)
PACKAGES_BENCH=(meson ninja-build gcc libc6-dev pkg-config liburcu-dev libjemalloc-dev python3 valgrind)
PACKAGES_BENCH_MORE=(libunicorn-dev gnuplot-nox)     # bench/run does without them, too

# need_packages PACKAGE... - installs those that are missing, through sudo when not root; silent when all are there.
need_packages() {
    local package as_root=() missing=()

    if ! command -v dpkg-query >/dev/null; then
        echo "packages: this is not Debian; trusting that these or their like are here: $*"
        return 0
    fi
    for package in "$@"; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0

    if ((EUID != 0)); then
        if ! command -v sudo >/dev/null; then
            echo "packages: missing, and neither root nor sudo to install them: ${missing[*]}" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    echo "packages: installing ${missing[*]}"
    apt_get update && apt_get install -y --no-install-recommends "${missing[@]}"
}

# apt-get prints pages of progress; they matter only when it fails.
apt_get() {
    local log status=0

    log=$(mktemp)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" \
        </dev/null >"$log" 2>&1 || status=$?
    if ((status)); then
        cat "$log" >&2
        echo "packages: apt-get $1 failed" >&2
    fi
    rm -f "$log"
    return "$status"
}
