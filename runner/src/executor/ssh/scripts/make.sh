# Makes the attempt's folder, unless the job was started there.
if [ ! -d "$D/started" ]; then
    why=$({
        mkdir -p "$base/attempts" && mkdir -p "$D/work" "$D/tmp" &&
            echo "$runner" >"$D/runner" && : >>"$D/out" && : >>"$D/err" &&
            printf '%s\n' "$keeper_text" >"$D/keeper" && printf '%s\n' "$job_text" >"$D/job" &&
            { [ -p "$D/alive" ] || mkfifo "$D/o" "$D/e" "$D/alive"; }
    } 2>&1) || fail "cannot make $D: $why"
fi
