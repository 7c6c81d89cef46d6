# Sourced by run and wheels: steps that are counted, and do not stop those after them.
passed=0 failed=0 skipped=0 report=""

# step NAME COMMAND...
step() {
  local name=$1 start=$SECONDS outcome
  shift
  echo "=== $name"
  if "$@"; then
    outcome=passed passed=$((passed + 1))
  else
    outcome=FAILED failed=$((failed + 1))
  fi
  report+=$(printf '%-7s %5d s  %s' "$outcome" $((SECONDS - start)) "$name")$'\n'
  echo "=== $outcome: $name"
}

# skip NAME REASON
skip() {
  skipped=$((skipped + 1))
  report+=$(printf '%-7s %5s    %s (%s)' skipped "" "$1" "$2")$'\n'
}

# finish NAME: what was done, the closing line, and the exit status
finish() {
  echo
  printf '%s' "$report"
  echo "in all $SECONDS s"
  echo "$1: $passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]
}
