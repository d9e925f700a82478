#!/bin/sh
# Build the wheel by way of the sdist, install it where no checkout is near, and use it.
# A file that is missing from either cannot pass.  Runs in the project's own environment.
set -eu
cd "$(dirname -- "$0")/.."
work=$(mktemp -d /tmp/fleet-wheel-XXXXXX)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

python -m build --outdir "$work/dist" . >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; exit 1; }
python -m venv "$work/venv"
"$work/venv/bin/pip" install "$work"/dist/*.whl >"$work/log" 2>&1 || { tail -n 30 "$work/log" >&2; exit 1; }

mkdir "$work/empty"
cd "$work/empty"
PATH=$work/venv/bin:$PATH
python -c 'import fleet, sys; assert fleet.__file__.startswith(sys.prefix), fleet.__file__'
fleet --help >help.txt
fleet version

cat >fleet.toml <<'TOML'
version = 1
[pipelines.emails]
handler = "jobs:send"
numprocs = 2
TOML
fleet render -o rendered
grep -q '^numprocs=2$' rendered/fleet.emails.conf

# The whole story, without a terminal: queue, supervisord, workers, proof.
fleet demo >table.txt
cat table.txt
(cd .fleet/demo/out && sha256sum --quiet -c SHA256SUMS)
if pgrep -f "$work" >left.txt; then
    echo "still running after the demo:" && cat left.txt
    exit 1
fi
