#!/bin/bash
# SPDX-License-Identifier: MIT
# sabotage.sh FLATVIEW SECONDS [ACCELERATOR] - each fault that `flatview storm` can be given (those of accelerators, if one is
# named) must be found within that time, as TAP: exit status 1, neither 0 (missed) nor 2 (it did not run). ThreadSanitizer
# finds some itself and says so with 66.
set -uo pipefail

flatview=$1 seconds=$2
accel=(${3:+--accel "$3"})
mapfile -t faults < <("$flatview" storm "${accel[@]}" --sabotage list | grep "^${3:+accel-}")
if ((${#faults[@]} == 0)); then
    echo "Bail out! storm --sabotage list prints nothing"
    exit 1
fi
echo "1..$((${#faults[@]} + 1))"
failed=0 n=0
run() { # status allowed, name, fault
    local status=0 output

    output=$("$flatview" storm "${accel[@]}" --quiet --seconds "$seconds" --sabotage "$3" 2>&1) || status=$?
    n=$((n + 1))
    if [[ $status =~ ^($1)$ ]]; then
        echo "ok $n - $2"
    else
        echo "not ok $n - $2"
        echo "# status $status"
        tail -n 20 <<<"$output" | cut -c1-300 | sed 's/^/# /'
        failed=1
    fi
}
for fault in "${faults[@]}"; do
    run '1|66' "$fault is caught" "$fault"
done
run 0 "the same binary without a fault passes" none
exit "$failed"
