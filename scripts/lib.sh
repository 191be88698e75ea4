# shellcheck shell=bash
# What the scripts share. To be sourced, after `set -euo pipefail`.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=$ROOT/target
export CARGO_TARGET_DIR=$TARGET

say() { printf '==> %s\n' "$*"; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Prints the comment at the top of the script that calls it.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

# --- what must be installed ------------------------------------------------

has_c_compiler() {
    command -v cc >/dev/null &&
        printf '#include <stdio.h>\nint main(void) { return 0; }\n' |
        cc -x c -o /dev/null - 2>/dev/null
}

# Whether bindgen would find libclang and the headers that come with it.
has_libclang() {
    local found
    found=$(libclang_library) || return 1
    # LIBCLANG_PATH is the user's own choice, headers included.
    [ -n "${LIBCLANG_PATH:-}" ] || clang_headers "$(dirname "$(readlink -f "$found")")"
}

libclang_library() {
    local directory file
    local -a directories=(/usr/lib/llvm-*/lib /usr/lib /usr/lib64 /usr/lib/*-linux-gnu /usr/local/lib)
    if [ -n "${LIBCLANG_PATH:-}" ]; then
        directories=("$LIBCLANG_PATH")
        if [ -f "$LIBCLANG_PATH" ]; then
            echo "$LIBCLANG_PATH"
            return
        fi
    fi
    for directory in "${directories[@]}"; do
        for file in "$directory"/libclang.so "$directory"/libclang-*.so "$directory"/libclang{,-*}.so.*; do
            # A link that leads nowhere is no library; libclang-cpp is another one.
            if [ -f "$file" ] && [[ $file != *-cpp.* ]]; then
                echo "$file"
                return
            fi
        done
    done
    [ -z "${LIBCLANG_PATH:-}" ] || return 1
    ldconfig -p 2>/dev/null | awk '/libclang(-[0-9.]+)?\.so/ { print $NF; exit }' | grep .
}

clang_headers() {
    local file
    for file in "$1"/clang/*/include/stddef.h /usr/lib/llvm-*/lib/clang/*/include/stddef.h \
        /usr/lib{,64}/clang/*/include/stddef.h /usr/local/lib/clang/*/include/stddef.h; do
        [ ! -f "$file" ] || return 0
    done
    return 1
}

has_venv() { command -v python3 >/dev/null && python3 -c 'import ensurepip, venv' 2>/dev/null; }

# The Debian packages that are missing for: build, redis, python, prometheus, roots.
missing_packages() {
    local for_what
    for for_what; do
        case $for_what in
        build)
            has_c_compiler || echo gcc libc6-dev
            has_libclang || echo libclang-dev
            ;;
        redis)
            command -v redis-server >/dev/null || echo redis-server
            command -v redis-cli >/dev/null || echo redis-tools
            ;;
        python)
            command -v python3 >/dev/null || echo python3
            has_venv || echo python3-venv
            ;;
        prometheus)
            command -v prometheus >/dev/null || echo prometheus
            ;;
        roots)
            command -v debootstrap >/dev/null || echo debootstrap
            [ -f /usr/share/keyrings/debian-archive-keyring.gpg ] || echo debian-archive-keyring
            command -v ip >/dev/null || echo iproute2
            command -v rpm >/dev/null || echo rpm
            ;;
        *) die "need_packages: nothing is known of '$for_what'" ;;
        esac
    done
}

# Installs, with apt-get, what is missing for: build, redis, python, prometheus, roots.
need_packages() {
    local missing
    missing=$(missing_packages "$@" | xargs)
    [ -n "$missing" ] || return 0

    local -a as_root=() packages
    read -ra packages <<<"$missing"
    command -v apt-get >/dev/null ||
        die "please install what Debian calls: $missing (there is no apt-get here to do it)"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            die "please install, as root: apt-get install $missing"
        as_root=(sudo)
    fi
    say "installing Debian packages: $missing"
    "${as_root[@]}" sh -euc "$INSTALL" sh "${packages[@]}" ||
        die "could not install: $missing (see above)"

    missing=$(missing_packages "$@" | xargs)
    [ -z "$missing" ] ||
        die "still missing after the installation: $missing${LIBCLANG_PATH:+ (LIBCLANG_PATH=$LIBCLANG_PATH)}"
}

# Run as root with the packages as arguments. Debian's redis-server package
# starts a server of its own: a policy-rc.d that answers 101 forbids that while
# it is installed, and the service is left disabled. A policy that was there
# before is left alone.
# shellcheck disable=SC2016
INSTALL='
    policy=/usr/sbin/policy-rc.d
    mark="put here by the scripts of mlserve while they install packages"
    if grep -qs "$mark" "$policy"; then rm -f "$policy"; fi
    if (set -C; printf "#!/bin/sh\n# %s\nexit 101\n" "$mark" >"$policy") 2>/dev/null; then
        trap "rm -f $policy" EXIT
        trap "exit 1" HUP INT TERM
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get -q -o DPkg::Lock::Timeout=300 update ||
        echo "apt-get update failed; going on with the package lists that are here"
    apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
    case " $* " in *" redis-server "*)
        if [ -d /run/systemd/system ]; then systemctl disable --quiet redis-server || true; fi
    esac
'

need_cargo() {
    if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH=$HOME/.cargo/bin:$PATH
    fi
    command -v cargo >/dev/null ||
        die "cargo is missing: install Rust, 1.88 or newer (with rustup, or your system's packages)"
}

# --- Python ----------------------------------------------------------------

# The private virtual environment, target/venv, with what the examples, the benchmarks
# and the tests need, and the package of clients/python as it is there.
venv() {
    private_venv "$TARGET/venv" "Python packages into target/venv/ (once, about 1 GB)" \
        "$ROOT"/{examples,benches}/requirements.txt "$ROOT"/clients/python/requirements-test.txt
    # The wheel of limits has no tests; its source distribution does.
    if ! compgen -G "$TARGET/venv/sdists/limits-*.tar.gz" >/dev/null; then
        "$TARGET/venv/bin/python" -m pip --disable-pip-version-check download --quiet \
            --no-deps --no-binary :all: --dest "$TARGET/venv/sdists" limits==5.8.0
    fi
}

# The environment of Feast, target/feast: it wants older versions of some packages.
feast_venv() {
    private_venv "$TARGET/feast" "Feast into target/feast/ (once, about 700 MB)" \
        "$ROOT/tests/feast/requirements.txt"
}

# Makes a virtual environment with what some files of requirements name; says so in
# these words.
private_venv() {
    local directory=$1 what=$2 wanted file
    local -a requirements=()
    shift 2
    wanted=$(cat "$@" <(python3 -VV) | sha256sum)
    # The mark is written last: an installation that was cut short starts anew.
    if [ "$(cat "$directory/installed" 2>/dev/null)" = "$wanted" ] && "$directory/bin/python" -c ''; then
        return
    fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        die "Python 3.10 or newer is needed; python3 is $(python3 -V)"
    say "installing $what"
    mkdir -p "$TARGET"
    python3 -m venv --clear "$directory"
    for file; do requirements+=(--requirement "$file"); done
    # From there, as a path in such a file counts from where pip is called.
    (cd "$ROOT" &&
        "$directory/bin/python" -m pip --disable-pip-version-check install --no-input "${requirements[@]}")
    printf '%s\n' "$wanted" >"$directory/installed"
}

free_port() {
    python3 -c '
import socket
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    print(s.getsockname()[1])'
}
