#!/bin/sh
# Compiles the kernel side to dist/, with the hashes of it and of what it was made of. Needs clang, llvm and libbpf-dev; the result is
# committed, so that nobody else needs them. Debian 12's clang 14 made what is there.
set -eu
cd "$(dirname "$0")"
for source in *.bpf.c; do
    object=dist/${source%.c}.o
    # Little-endian, as both machines are that this runs on; v3: jumps and arithmetic on 32 bits, in every kernel since 5.1.
    clang -O2 -g -target bpfel -mcpu=v3 -Wall -Wextra -Werror -fdebug-compilation-dir=. \
        "-I/usr/include/$(uname -m)-linux-gnu" -c "$source" -o "$object"
    # The types stay (BTF), the debugger's part goes.
    llvm-strip -g "$object"
done
sha256sum -- *.bpf.c *.h build.sh dist/*.bpf.o >dist/sha256
