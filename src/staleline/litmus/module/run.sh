#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Load the module, ask it the tests, write its answers, unload it: sh run.sh [RESULT [TESTS [OPTION...]]]
# RESULT is litmus.jsonl, TESTS tests.litmus; options are the module's, such as tries=128.

set -eu
result=${1:-litmus.jsonl}
here=$(dirname "$0")
tests=${2:-$here/tests.litmus}
shift $(($# > 2 ? 2 : $#))
asked=/proc/staleline_litmus

if [ -e "$here/staleline_litmus.ko" ]; then
	insmod "$here/staleline_litmus.ko" "$@"
else
	modprobe staleline_litmus "$@"
fi
trap 'rmmod staleline_litmus' EXIT

# What was answered is on disk before the next test: a machine that hangs leaves what it told.
ask() {
	status=0
	printf '%s\n' "$1" >$asked || status=$?
	cat $asked >>"$result"
	sync "$result"
	return $status
}

: >"$result"
while IFS= read -r line; do
	case $line in '' | '#'*) continue ;; esac
	ask "$line"
	if grep -q '"refused":"' "$result"; then
		echo "refused: $(sed -n 's/.*"refused":"\([^"]*\)".*/\1/p' "$result")" >&2
		break
	fi
done <"$tests"
if ! grep -q '"refused":"' "$result"; then
	ask cost
fi
ask end
echo "$result is written"
