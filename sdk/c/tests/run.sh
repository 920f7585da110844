#!/bin/sh
# Compiles and runs the tests of the SDK: sh sdk/c/tests/run.sh. Needs a C compiler (CC), and for one of them a C++ compiler (CXX).
set -e
cd "$(dirname "$0")"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
CC=${CC:-cc}
CXX=${CXX:-c++}
WARNINGS="-Wall -Wextra -Wpedantic -Werror"
CHECKS="-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"

for file in ../src/*.c; do
    $CC -std=c11 $WARNINGS $CHECKS -I ../include -c "$file" -o "$out/$(basename "$file" .c).o"
done
contract=../../../tests/guests/contract/c
$CC -std=gnu11 -Wall -Wextra -Werror $CHECKS -I ../include tests.c canvas_test.c $contract/canvas.c "$out"/*.o -o "$out/tests"
"$out/tests" ../../../tests/fixtures/contract/compose.json
$CC -std=gnu11 -Wall -Wextra -Werror $CHECKS -I ../src -I ../include numbers.c "$out"/*.o -o "$out/numbers" -lm
"$out/numbers" "${TASKHOST_FUZZ_ROUNDS:-3000}"
$CC -std=gnu11 -Wall -Wextra -Werror $CHECKS -I ../src -I ../include fuzz.c "$out"/*.o -o "$out/fuzz"
"$out/fuzz" "${TASKHOST_FUZZ_ROUNDS:-3000}"
if command -v "$CXX" >/dev/null; then
    $CXX -std=c++20 -Wall -Wextra -Werror $CHECKS -I ../include plus.cpp "$out"/*.o -o "$out/plus"
    "$out/plus"
else
    echo "skipped: plus.cpp, there is no C++ compiler"
fi
