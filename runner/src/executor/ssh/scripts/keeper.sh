# Stands by one job on the target: starts it, keeps its output, ends it when the lease is
# over, and records how it ended. Its arguments: the folder, the umask for the job, and
# the bytes of each stream that are of use to anybody.
D=$1 mask=$2 limit=$3
cd /
# Closed by nothing but this process's end, which is how others know of it.
exec 9<>"$D/alive"
# Whoever makes this folder decides: a job that was to be killed never starts, and none
# starts twice.
mkdir "$D/started" || exit 0
echo started
exec >/dev/null

# Sets `left` to the hundredths of seconds that the lease is good for. No: it never ends.
lease_ends() {
    { read -r due <"$D/lease"; } 2>/dev/null || return 1
    [ "${due:-0}" -gt 0 ] || return 1
    clock
    left=$((due - up))
}

# Without /proc/uptime: counts sleeps, and what the time of day went on in between.
tick() {
    today=$(date +%s)
    step=$((today - yesterday))
    [ "$step" -gt 0 ] || step=1
    yesterday=$today
    counted=$((counted + step * 100))
    echo "$counted" >"$D/clock"
}

watchdog() {
    trap 'kill "$sleeper"; exit 0' TERM
    yesterday=$(date +%s)
    counted=$((yesterday * 100))
    while [ -d "$D" ]; do
        pause=1
        if lease_ends; then
            if [ "$left" -le 0 ]; then
                sweep
                return
            fi
            [ "$left" -ge 100 ] || pause=0.$((left / 10))$((left % 10))
        fi
        sleep "$pause" 2>/dev/null &
        sleeper=$!
        # Where a sleep has no fractions.
        wait "$sleeper" || {
            sleep 1 &
            sleeper=$!
            wait "$sleeper"
        }
        [ -r /proc/uptime ] || tick
    done
}

# Keeps what comes through the pipe $1 in the file $2, and lets go what is far beyond the
# limit. Pipes, because a command that opens /dev/stderr anew would truncate a file.
keep() {
    exec 9>&- <"$D/$1" >>"$D/$2"
    kept=0 before=0 now=
    # Each writes what it has read at once, however little that is.
    while dd bs=65536 count=256 2>/dev/null || ! kept=1; do
        now=$(wc -c <"$D/$2") || now=0
        # It has read nothing but the end.
        [ "$now" -ne "$before" ] || break
        [ "$now" -lt "$limit" ] || break
        before=$now
    done
    cat >/dev/null
    exit "$kept"
}

# Processes that hold the job's pipes and are not the keeper's.
holders() {
    [ -r /proc/self/stat ] || return 0
    own=" $(marked "BATON_KEEPER_DIR=$D" | tr '\n' ' ') "
    ls -l /proc/[0-9]*/fd 2>/dev/null |
        sed -n -e '/^\/proc\/[0-9]*\/fd:$/{s/[^0-9]//g;h;}' -e "/\/attempts\/${D##*/}\/[oe]\$/{g;p;}" |
        while read -r pid; do
            case $own in *" $pid "*) ;; *) echo "$pid" ;; esac
        done
}

runs() {
    case $(cat "/proc/$1/stat" 2>/dev/null) in "" | *") Z "*) return 1 ;; esac
}

(keep o out) &
out=$!
(keep e err) &
err=$!
# In a shell of its own: one that only lends the file to a function keeps it open.
(
    exec 9>&-
    watchdog
) &
dog=$!
if command -v setsid >/dev/null 2>&1; then detach=setsid; else detach= && set -m; fi
# The variables are no secret; those of the job come from the file.
$detach env -i ${LANG:+LANG="$LANG"} ${TZ:+TZ="$TZ"} HOME="$HOME" USER="${USER:-}" \
    LOGNAME="${LOGNAME:-}" SHELL="${SHELL:-/bin/sh}" PATH="$PATH" TMPDIR="$D/tmp" \
    BATON_ATTEMPT_DIR="$D" sh "$D/job" "$mask" </dev/null >"$D/o" 2>"$D/e" 9>&- &
main=$!
echo "$main" >"$D/main"
wait "$main"
code=$?
set +m
sweep
# Whoever left the session with another environment is given away by the pipes.
while runs "$out" || runs "$err"; do
    nap
    pids=$(holders)
    [ -z "$pids" ] || kill -s KILL $pids 2>/dev/null
done
how=-
wait "$out" || how=torn
wait "$err" || how=torn
[ ! -e "$D/refused" ] || how=refused
kill "$dog"
wait "$dog"
killed=0
[ ! -e "$D/killed" ] || killed=$(sort -u "$D/killed" | wc -l)
# A full disk is waited for: without this, nobody knows how the job ended.
until echo $code $killed $(wc -c <"$D/out") $(wc -c <"$D/err") $how >"$D/status.new" &&
    mv "$D/status.new" "$D/status"; do
    sleep 1
done
