#!/usr/bin/env bash
# flock(1) and `portlock run`: a command holds the lock. See README.md for the protocol.

role=$1 kind=$2 file=$3 hold=$4
case $kind in
    flock) locked=(flock "$file") ;;
    run) locked=("$PEERS_PORTLOCK" run --wait --dir "$(dirname "$file")" peer --) ;;
esac

# Microseconds since 1970. The start and the end of the command count, too.
# shellcheck disable=SC2016 # The command expands it.
held='got=${EPOCHREALTIME/./}
    while ((${EPOCHREALTIME/./} < got + hold)); do :; done
    echo "${got}000 ${EPOCHREALTIME/./}000"'
export hold

echo ready
read -r end
case $role in
    contend)
        while ((${EPOCHREALTIME/./} < end / 1000)); do
            "${locked[@]}" bash -c "$held"
        done
        ;;
    hold) exec "${locked[@]}" bash -c 'echo held; exec sleep 3600' ;;
    # Messages about the dead holder are dropped; a failure prints no time.
    # shellcheck disable=SC2016
    wait) exec "${locked[@]}" bash -c 'echo "${EPOCHREALTIME/./}000"' 2>/dev/null ;;
esac
