#!/bin/sh
# Fuzzes frames, and the whole path from frame to event, for SECONDS in all. What is found is left
# in build/fuzz, and the exit code is not 0. The corpora stay there and grow from run to run.
#
#   sh tests/c/fuzz.sh [SECONDS]
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}
out=build/fuzz
mkdir -p $out/path $out/frame $out/path-seeds $out/frame-seeds

# Loops over all instruments, and the checks of the target itself, tell the fuzzer nothing.
printf 'fun:%s\n' describe_books feed_ledger close_session books_create books_clear 'check_*' run drain > $out/uncovered
core=$(ls csrc/*.c csrc/*/*.c | grep -v /dpdk/)
build() {
    clang -std=gnu11 -g -O2 -march=x86-64-v2 -Wall -Wextra -Werror -Icsrc -o $out/$1 tests/c/$1.c $core -lz -lzstd -lpthread \
        -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fsanitize-coverage-ignorelist=$out/uncovered
}
build fuzz_frame &
build fuzz_path
wait $!

PYTHONPATH=. ${PYTHON:-python3} -c "
import sys
from pathlib import Path
from testbed.hostile import write_corpus
write_corpus(Path(sys.argv[1]), Path(sys.argv[2]))" $out/path-seeds $out/frame-seeds

# $1 what, $2 longest input
fuzz() {
    log=$out/$1.log
    if ! $out/fuzz_$1 -max_total_time=$((seconds / 2)) -max_len=$2 -rss_limit_mb=2048 -timeout=10 -len_control=20 \
        -print_final_stats=1 -artifact_prefix=$out/$1- $out/$1 $out/$1-seeds > $log 2>&1; then
        echo "fuzz $1: FOUND" >&2
        grep -e '^finding:' -e 'ERROR: ' -e 'runtime error' -e 'Test unit written' -e '^    #[0-9] ' $log | head -30 >&2
        exit 1
    fi
    cover=$(grep -o 'cov: [0-9]*' $log | tail -1)
    runs=$(sed -n 's/.*number_of_executed_units: *//p' $log)
    echo "fuzz $1: $runs executions in $((seconds / 2)) s, $cover edges, nothing found"
}
fuzz frame 2048
fuzz path 4096
