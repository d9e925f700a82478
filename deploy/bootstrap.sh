#!/bin/sh
# From a bare Debian or Ubuntu with python3 to a running demo, or to a finished test run.
set -eu
unset PYTHONPATH PYTHONHOME
PATH=$PATH:/usr/sbin:/usr/local/sbin # where Debian keeps daemons, in nobody's PATH but root's
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

usage() {
    cat <<'TEXT'
usage: sh deploy/bootstrap.sh demo [--dir DIR] [--seconds N]
       sh deploy/bootstrap.sh test [--sqlite-only] [PYTEST ARGUMENTS]

demo   installs fleet into .venv beside this checkout and runs its demo
test   the same, and PostgreSQL, MariaDB and beanstalkd from apt; then the
       linters, a try of the built wheel, and every test on private servers
       --sqlite-only   neither installs nor starts a server, and says so

PYTHON=/path/to/python3   use this interpreter, not the newest one in PATH
exit codes: 0 all well, 1 something failed, 2 usage, 4 the machine lacks something
TEXT
}

say() { printf '%-8s %s\n' "$1" "$2" >&2; }
lacks() { say "$1" "$2"; exit 4; }
has() { command -v "$1" >/dev/null; }

# --- Python and the virtual environment -------------------------------------

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

find_python() {
    for python in ${PYTHON:+"$PYTHON"} python3.14 python3.13 python3.12 python3.11 python3; do
        if "$python" -c "$new_enough" 2>/dev/null; then
            version=$("$python" -c 'import platform; print(platform.python_version())')
            say python "$version"
            return
        fi
        [ "$python" != "${PYTHON:-}" ] || lacks python "PYTHON=$PYTHON is not Python 3.11 or newer"
    done
    lacks python "3.11 or newer is needed; if it is not in PATH: PYTHON=/path/to/it sh deploy/bootstrap.sh"
}

make_venv() { # make_venv demo|test
    kind=$1
    key="$root $(cksum <"$root/pyproject.toml")"
    for stamp in "$kind" test; do # what test installs is enough for the demo
        [ "$(cat "$root/.venv/.stamp-$stamp" 2>/dev/null)" = "$key" ] && [ -x "$root/.venv/bin/python" ] && return
    done
    find_python
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then # Debian packs them apart
        package=python${version%.*}-venv
        may_install "$package" && apt_install "$package" || exit 4
    fi
    if "$root/.venv/bin/python" -c "import pip; $new_enough" 2>/dev/null; then
        say venv ".venv is not up to date: installing fleet and its libraries …"
    else
        say venv ".venv is new: installing fleet and its libraries …"
        "$python" -m venv --clear "$root/.venv"
    fi
    started=$(date +%s)
    rm -f "$root"/.venv/.stamp-* # written last, so that a run cut short is done again
    set -- install -e .
    [ "$kind" = demo ] || set -- "$@" --group test
    (cd "$root" && .venv/bin/pip install -U 'pip>=25.1' && .venv/bin/pip "$@") >"$root/.venv/bootstrap.log" 2>&1 || {
        tail -n 30 "$root/.venv/bootstrap.log" >&2
        say venv "could not install; the whole story is in .venv/bootstrap.log"
        exit 1
    }
    printf '%s\n' "$key" >"$root/.venv/.stamp-$kind"
    say venv "installed in $(($(date +%s) - started)) s"
}

# --- Debian packages --------------------------------------------------------

as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"

may_install() { # false, after saying what to type, where it would take a password
    if has apt-get && $as_root true 2>/dev/null; then
        say apt "installing $* …"
    else
        say apt "missing: $*. Run as root: apt-get install --no-install-recommends $*"
        return 1
    fi
}

apt_install() {
    # shellcheck disable=SC2086 # two words, or none
    set -- $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    "$@" >/dev/null 2>&1 && return
    $as_root apt-get update -qq >&2 # most often the lists are old, or there are none yet
    "$@" >/dev/null
}

policy=/usr/sbin/policy-rc.d
mark="# by fleet's bootstrap.sh for the time of one apt-get: start nothing"

forbid_starts() {
    trap allow_starts EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    [ -e $policy ] && return # somebody else's, which says the same
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" | $as_root tee $policy >/dev/null
    $as_root chmod 755 $policy
}

allow_starts() {
    trap - EXIT INT TERM HUP
    if grep -qF "$mark" $policy 2>/dev/null; then $as_root rm -f $policy; fi
}

install_servers() {
    set --
    ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || has initdb || set -- "$@" postgresql
    has mariadbd || set -- "$@" mariadb-server
    has beanstalkd || set -- "$@" beanstalkd
    has pgbouncer || set -- "$@" pgbouncer
    has openssl || set -- "$@" openssl # makes the certificates of the servers with TLS
    # What the chaos runs break things with.
    has strace || set -- "$@" strace
    ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || set -- "$@" faketime
    has mkfs.ext4 || set -- "$@" e2fsprogs
    [ $# -gt 0 ] || return 0
    if may_install "$@"; then
        forbid_starts # the tests start their own: apt must not take ports 5432, 3306 and 11300
        apt_install "$@" && allow_starts && return
        allow_starts
    fi
    say apt "tests of what is missing are skipped, and fail where CI=true"
}

# --- test -------------------------------------------------------------------

failed=
step() { # step NAME COMMAND...
    name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" || failed="$failed $name"
}

run_tests() {
    if [ "${1:-}" = --sqlite-only ]; then
        shift
        export FLEET_TEST_SERVERS=none
        say servers "NOT TESTED, as asked: PostgreSQL, MariaDB, beanstalkd"
    else
        install_servers
    fi
    make_venv test
    cd "$root"
    PATH="$root/.venv/bin:$PATH"
    step format ruff format --check .
    step lint ruff check .
    step types mypy
    step imports lint-imports
    step wheel sh deploy/try_wheel.sh
    if [ $# -gt 0 ]; then
        step tests pytest "$@"
    else
        # Most tests wait for real processes: four at a time, on however few cores.  The chaos runs judge
        # who was how fast: two at a time, with nothing else beside them.
        step tests pytest -n 4 --dist worksteal --ignore tests/chaos
        step chaos pytest -n 2 --dist worksteal tests/chaos
    fi
    if [ "$failed" ]; then
        echo "failed:$failed"
        exit 1
    fi
    echo "all passed: format lint types imports wheel tests chaos"
}

command=${1:-help}
[ $# -eq 0 ] || shift
case $command in
    demo)
        make_venv demo
        exec "$root/.venv/bin/fleet" demo "$@"
        ;;
    test) run_tests "$@" ;;
    help | -h | --help) usage ;;
    *)
        usage >&2
        exit 2
        ;;
esac
