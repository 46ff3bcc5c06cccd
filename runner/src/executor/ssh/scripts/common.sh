# What the scripts share. $D is the attempt's folder; a bare POSIX shell must do.

nap() { sleep 0.05 2>/dev/null || sleep 1; }

# Sets `up` to hundredths of seconds that only grow: on Linux those since its start,
# elsewhere what the watchdog counts, or the time of day before there is one.
clock() {
    if { read -r up _ </proc/uptime; } 2>/dev/null; then
        # A number that begins with 0 would be octal.
        up=$((${up%.*} * 100 + 1${up#*.} - 100))
    elif { read -r up <"$D/clock"; } 2>/dev/null; then
        :
    else
        up=$(($(date +%s) * 100))
    fi
}

# The living processes whose environment has the entry $1.
marked() {
    [ -r /proc/self/environ ] || return 0
    # Mostly there is none, and this needs three processes whatever the number is.
    cat /proc/[0-9]*/environ 2>/dev/null | tr '\000' '\n' | grep -qF -e "$1" || return 0
    case $(grep --version 2>/dev/null) in
        # It sees beyond the first NUL.
        *GNU*) grep -lF -e "$1" /proc/[0-9]*/environ ;;
        *) echo /proc/[0-9]*/environ | tr ' ' '\n' ;;
    esac 2>/dev/null | while read -r environment; do
        if tr '\000' '\n' <"$environment" | grep -qFx -e "$1"; then
            environment=${environment%/environ}
            echo "${environment#/proc/}"
        fi
    done 2>/dev/null
}

# The living processes of the job's session and group.
session() {
    main=
    { read -r main <"$D/main"; } 2>/dev/null
    [ -n "$main" ] || return 0
    if [ -r /proc/self/stat ]; then
        cat /proc/[0-9]*/stat 2>/dev/null | sed -n \
            -e "s/^\([0-9]*\) (.*) [^ZXx] [0-9]* $main [0-9]* .*/\1/p" -e t \
            -e "s/^\([0-9]*\) (.*) [^ZXx] [0-9]* [0-9]* $main .*/\1/p"
    else
        ps -A -o pid= -o pgid= -o stat= | while read -r pid group state; do
            case $group$state in "$main"[!Z]*) echo "$pid" ;; esac
        done
    fi
}

# Sends SIGKILL to all that is left of the job until two looks in a row find nothing.
sweep() {
    looks=0
    while [ "$looks" -lt 2 ]; do
        pids=$(session)
        [ -n "$pids" ] || pids=$(marked "BATON_ATTEMPT_DIR=$D")
        if [ -z "$pids" ]; then
            looks=$((looks + 1))
            continue
        fi
        looks=0
        { read -r main <"$D/main" && kill -s KILL -- "-$main"; } 2>/dev/null
        kill -s KILL $pids 2>/dev/null
        { for pid in $pids; do echo "$pid"; done >>"$D/killed"; } 2>/dev/null
        nap
    done
}
