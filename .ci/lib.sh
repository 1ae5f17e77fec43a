# What .ci/run, .ci/bounds and .ci/audit share; they source it, from the root of the project.

# Read trial's last line, which is "PASSED (skips=1, successes=9)" or "FAILED (failures=1, errors=2, ...)".
# Sets passed, failed, skipped. A test that is expected to fail proves nothing, so it counts as skipped.
count() {
    passed=0 failed=0 skipped=0
    local name number
    while IFS='=' read -r name number; do
        case $name in
            successes) passed=$((passed + number)) ;;
            failures | errors | unexpectedSuccesses) failed=$((failed + number)) ;;
            skips | expectedFailures) skipped=$((skipped + number)) ;;
        esac
    done < <(grep -oE '[A-Za-z]+=[0-9]+' <<<"$1" || true)
}

# README's second command, from README itself so that the two cannot differ: the line under this comment of it.
test_command() {
    awk '/^\.\. The test command/ { found = 1; next } found && /^ / { sub(/^ +/, ""); print; exit }' README.rst
}

# Print a pip constraint for each of our run-time dependencies, "twisted==25.5" for "twisted>=25.5"; one without a
# lower bound is an error.
lower_bounds() {
    awk '
        /^dependencies = \[/ { inside = 1; next }
        inside && /^\]/ { exit }
        inside && /^ *"/ {
            split($0, quoted, "\"")
            if (quoted[2] !~ />=/) { print quoted[2] " has no lower bound" > "/dev/stderr"; bad = 1; exit }
            match(quoted[2], />=[^,; ]+/)
            name = quoted[2]; sub(/[^A-Za-z0-9._-].*/, "", name)
            print name "==" substr(quoted[2], RSTART + 2, RLENGTH - 2)
            found = 1
        }
        END { if (bad || !found) exit 1 }
    ' pyproject.toml
}
