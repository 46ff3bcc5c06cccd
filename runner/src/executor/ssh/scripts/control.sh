# Serves one attempt for as long as the connection lasts: orders come in as lines, reports
# go out as lines.

# Says so when the keeper has ended, whoever ended it.
await() {
    [ -z "$waiter" ] || return
    (
        # Opened for writing too, the first is never waited for.
        exec 8<>"$D/alive" 7<"$D/alive" 8>&-
        read -r _ <&7
        verdict
    ) &
    waiter=$!
}

verdict() {
    if [ -e "$D/status" ]; then
        echo "end $(cat "$D/status")"
    else
        echo "lost $(tail -n 1 "$D/log" 2>/dev/null)"
    fi
}

keepers() {
    if [ -r /proc/self/environ ]; then
        marked "BATON_KEEPER_DIR=$D"
    elif { read -r keeper <"$D/keeper.pid" && kill -0 "$keeper"; } 2>/dev/null; then
        echo "$keeper"
    fi
}

start() {
    if ! command -v setsid >/dev/null 2>&1; then
        (set -m && case $- in *m*) ;; *) exit 1 ;; esac) 2>/dev/null ||
            fail "it has neither setsid nor a shell with job control"
    fi
    # It lets go of this pipe when it has begun.
    begun=$(
        if command -v setsid >/dev/null 2>&1; then detach=setsid; else detach= && set -m; fi
        BATON_KEEPER_DIR=$D $detach sh "$D/keeper" "$D" "$mask" "$limit" </dev/null 2>"$D/log" &
        echo "$!" >"$D/keeper.pid"
    )
    [ -d "$D/started" ] || fail "the job cannot be started there: $(tail -n 1 "$D/log" 2>/dev/null)"
    echo "begun $begun"
    await
}

terminate() {
    pids="$(session) $(marked "BATON_ATTEMPT_DIR=$D")"
    kill -s TERM $pids
    # A stopped process would not notice.
    kill -s CONT $pids
} 2>/dev/null

# Ends the job and its keeper, or sees to it that there never is one.
bury() {
    if mkdir "$D/started" 2>/dev/null; then
        echo "gone 137 0 0 0 never"
        return
    fi
    rounds=0 patience=60
    sweep
    pids=$(keepers)
    while [ -n "$pids" ]; do
        rounds=$((rounds + 1))
        { read -r keeper <"$D/keeper.pid" && kill -0 "$keeper"; } 2>/dev/null || patience=6
        # It ends by itself when the job has, unless somebody stopped or killed it.
        [ "$rounds" -lt "$patience" ] || kill -s KILL $pids 2>/dev/null
        nap
        sweep
        pids=$(keepers)
    done
    # What it started last.
    sweep
    if [ -e "$D/status" ]; then
        echo "gone $(cat "$D/status")"
        return
    fi
    killed=0
    [ ! -e "$D/killed" ] || killed=$(sort -u "$D/killed" | wc -l)
    sizes=$({ wc -c <"$D/out" && wc -c <"$D/err"; } 2>/dev/null) || sizes="0 0"
    echo gone 137 $killed $sizes lost
}

clean() {
    rm -rf "$D" 2>/dev/null
    if [ -e "$D" ]; then
        chmod -R u+rwX "$D" 2>/dev/null
        why=$(rm -rf "$D" 2>&1) || fail "cannot remove $D: $why"
    fi
    echo clean
}

waiter=
clock
if [ -d "$D/started" ]; then
    echo "hello $up begun"
    await
elif [ -d "$D" ]; then
    echo "hello $up new"
else
    echo "hello $up nothing"
fi
while read -r order due; do
    case $order in
        start)
            printf '%12s\n' "$due" >"$D/lease" || fail "cannot write to $D"
            start
            ;;
        # In place: also when the disk is full.
        lease) { printf '%12s\n' "$due" 1<>"$D/lease"; } 2>/dev/null ;;
        term) terminate ;;
        kill) bury ;;
        clean) clean ;;
    esac
done
[ -z "$waiter" ] || kill "$waiter" 2>/dev/null
exit 0
