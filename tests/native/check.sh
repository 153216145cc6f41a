#!/usr/bin/env bash
# The native kernel under the address and undefined-behaviour sanitizers: its tests, then a fuzz target for a
# while. PYTHON is an interpreter with the test dependencies, CC a compiler with sanitizers, FUZZ_SECONDS the while.
set -euo pipefail
cd "$(dirname "$0")/../.."
python="$(realpath --no-symlinks "${PYTHON:-.venv/bin/python}")"
cc="${CC:-gcc}"
seconds="${FUZZ_SECONDS:-30}"
build="$PWD/build/native-check"
sanitize=(-g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
warnings=(-Wall -Wextra -Werror -Wno-missing-field-initializers -Wno-cast-function-type)

rm -rf "$build"
mkdir -p "$build/lib"

echo "== tests, sanitized"
cp -r parties protocol psi scenarios "$build/lib"
rm -f "$build"/lib/protocol/encryption/_kernel.*.so
suffix="$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')"
include="$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')"
module="$build/lib/protocol/encryption/_kernel$suffix"
"$cc" -O2 "${sanitize[@]}" "${warnings[@]}" -shared -fPIC -I"$include" protocol/encryption/native/{*,python/*}.c -o "$module"
# malloc instead of Python's own arenas, so that every buffer has its red zones; Python's leaks are not ours.
sanitized=(
    env LD_PRELOAD="$("$cc" -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0
    PYTHONMALLOC=malloc PYTHONPATH="$build/lib" PYTHONDONTWRITEBYTECODE=1 "$python" -P
)
"${sanitized[@]}" -c "import sys; from protocol.encryption import _kernel; sys.exit(_kernel.__file__ != '$module')"
"${sanitized[@]}" -m pytest -p no:cacheprovider tests/protocol/encryption/test_kernel.py

echo "== without x86 the module is empty"
mkdir "$build/empty"
"$cc" "${warnings[@]}" -DKERNEL_X86=0 -shared -fPIC -I"$include" protocol/encryption/native/{*,python/*}.c \
    -o "$build/empty/_kernel$suffix"
PYTHONPATH="$build/empty" "$python" -P -c "import _kernel; assert _kernel.paths() == []"

fuzz_sources=(protocol/encryption/native/{modulus,path_ifma,path_avx2}.c tests/native/fuzz.c "$build"/{plan,schoolbook}.o)
build_fuzz() {
    "$1" -O2 "${sanitize[@]}" "${warnings[@]}" -Dplan_dense=usual_plan_dense -Iprotocol/encryption/native \
        -c protocol/encryption/native/plan.c -o "$build/plan.o"
    "$1" -O3 "${warnings[@]}" -c tests/native/schoolbook.c -o "$build/schoolbook.o"
    "$1" -O2 "${sanitize[@]}" "${warnings[@]}" "${@:2}" -Iprotocol/encryption/native "${fuzz_sources[@]}" -o "$build/fuzz"
}
if command -v clang >/dev/null && build_fuzz clang -fsanitize=fuzzer 2>"$build/clang.log"; then
    echo "== libFuzzer, $seconds s"
    mkdir "$build/corpus"
    "$build/fuzz" -max_total_time="$seconds" -max_len=4096 -len_control=0 -print_final_stats=1 \
        -artifact_prefix="$build/" "$build/corpus" >"$build/fuzz.log" 2>&1 || { tail -40 "$build/fuzz.log"; exit 1; }
    tail -5 "$build/fuzz.log"
else
    echo "== random driver, $seconds s"
    build_fuzz "$cc" -DSTANDALONE
    "$build/fuzz" "$seconds"
fi
