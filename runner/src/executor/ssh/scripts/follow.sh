# Writes what the job has written, each stream from where $out and $err say, and what it
# goes on to write.
if [ -e "$D/status" ]; then
    tail -c "+$((out + 1))" "$D/out"
    tail -c "+$((err + 1))" "$D/err" >&2
    exit 0
fi
if tail -s 0.1 -c +1 /dev/null 2>/dev/null; then
    # It is woken by what is written.
    tail -s 0.1 -c "+$((out + 1))" -f "$D/out" 2>/dev/null &
    readers=$!
    tail -s 0.1 -c "+$((err + 1))" -f "$D/err" 1>&2 2>/dev/null &
    readers="$readers $!"
else
    (
        exec 3<"$D/out" 4<"$D/err"
        dd bs=1 count=0 skip="$out" <&3 2>/dev/null
        dd bs=1 count=0 skip="$err" <&4 2>/dev/null
        ended= rounds=0
        while [ -z "$ended" ]; do
            [ ! -e "$D/status" ] || ended=yes
            cat <&3
            cat <&4 >&2
            rounds=$((rounds + 1))
            if [ "$rounds" -lt 20 ]; then nap; else sleep 0.2 2>/dev/null || sleep 1; fi
        done
    ) &
    readers=$!
fi
# The end of standard input is the end of interest.
read -r _
kill $readers 2>/dev/null
exit 0
