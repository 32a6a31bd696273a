#!/bin/bash
# What `make run` does after building: fetches a model, serves it, asks it something, goes on
# serving until Ctrl-C or SIGTERM.
#
# Environment: MODEL (see configs/models/fetch.py), LISTEN, B (the build folder), VENV; PROMPT; OPTIONS for
# samebitd; RUN_ONCE=1 stops after the answers.
set -euo pipefail

model=${MODEL:-smollm2-135m}
listen=${LISTEN:-127.0.0.1:8642}
build=${B:-build}
prompt=${PROMPT:-The capital of France is}
python=${VENV:+$VENV/bin/}python3
daemon= fetching= found=

say() { printf '%s\n' "$*" >&2; }
heading() { printf '\n%s\n\n' "$*"; }

# Ends the daemon whatever ends this script; it is given time to finish its replies.
stop() {
    trap '' INT TERM HUP
    if [ -n "$fetching" ]; then
        kill -TERM "$fetching" 2>/dev/null && wait "$fetching" || true
    fi
    rm -f "$found"
    [ -n "$daemon" ] || return 0
    kill -TERM "$daemon" 2>/dev/null || true
    for _ in $(seq 100); do
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$daemon" 2>/dev/null && say "samebitd did not stop by itself: killed"
    wait "$daemon" 2>/dev/null || true
    daemon=
    [ -z "$serving" ] || say "stopped"
}
trap stop EXIT
# While it serves, being told to stop is how it ends well.
serving=
trap 'exit ${serving:-130}' INT
trap 'exit ${serving:-143}' TERM HUP

# Is something listening there already?  (Then its answers would be taken for ours.)
taken() { (exec 3<>"/dev/tcp/${listen%:*}/${listen##*:}") 2>/dev/null; }

# Waits until /health says 200, with the words of the daemon about its progress.
wait_ready() {
    local shown= text terminal=
    [ ! -t 2 ] || terminal=1
    until text=$(curl --silent --show-error --max-time 5 --fail-with-body "$url/health" 2>/dev/null); do
        if ! kill -0 "$daemon" 2>/dev/null; then
            wait "$daemon" || true
            daemon=
            say "samebitd ended before it was ready; its reason is above"
            exit 1
        fi
        text=$("$python" -c '
import json, sys
try:
    p = json.load(sys.stdin)
    percent = f""" {100 * p["progress"]:.0f} %""" if sys.argv[1:] else ""
    print(f"""{p["what"]}{percent}""")
except (ValueError, KeyError, TypeError):
    pass' ${terminal:+percent} <<<"$text")
        if [ -n "$text" ] && [ "$text" != "$shown" ]; then
            shown=$text
            if [ -n "$terminal" ]; then printf '\r\033[K%s' "$text" >&2; else say "$text"; fi
        fi
        sleep 0.2
    done
    [ -z "$shown" ] || [ -z "$terminal" ] || printf '\r\033[K' >&2
}

if [ "${listen##*:}" = 0 ]; then
    listen=${listen%:*}:$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
fi
url=http://$listen

# In the background, because only then is a signal heeded at once.
found=$(mktemp)
"$python" configs/models/fetch.py "$model" >"$found" &
fetching=$!
wait "$fetching"
fetching=
folder=$(<"$found")

if taken; then
    say "$listen is taken by another program: stop it, or choose another: make run LISTEN=127.0.0.1:8643"
    exit 1
fi
say "serving $folder"
# Where it can be had: the daemon goes too when this script is killed outright.
guard=$(command -v setpriv >/dev/null && echo setpriv --pdeathsig TERM || true)
# shellcheck disable=SC2086
$guard "$build/samebitd" --model "$folder" --listen "$listen" ${OPTIONS:-} </dev/null &
daemon=$!
wait_ready

export SAMEBIT_URL=$url
heading "The continuation of \"$prompt\":"
"$build/samebit" generate -n 32 "$prompt"
heading "The five most likely next tokens, with their logits:"
"$build/samebit" logits --top-k 5 "$prompt"
attention=$("$build/samebit" model | sed -n 's/^attention  *//p')
heading "Layer 0, value by value, with $attention attention:"
"$build/samebit" trace --digest -v model.embed_tokens -v 'model.layers.0.*' -v model.layers.0 "$prompt"

if [ "${RUN_ONCE:-}" = 1 ]; then
    exit 0
fi
serving=0
heading "Serving on $url until Ctrl-C.  Try:"
cat <<END
    $build/samebit generate "Once upon a time"
    $build/samebit values
    $build/samebit trace --attention eager --digest -v attn_weights "Once upon a time"
    curl $url/v1/model
END
printf '\nThe numerics of PyTorch on this machine (samebitd --which-numerics): %s\n' "$("$build/samebitd" --which-numerics | head -n 1)"
status=0
wait "$daemon" || status=$?
daemon=
# A signal to both may end the daemon before it is heeded here.
[ "$status" != 0 ] || { say stopped; exit 0; }
say "samebitd ended with status $status"
exit "$status"
