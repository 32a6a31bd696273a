#!/bin/sh
# Makes a folder of stand-ins: lib/libcudart.so.13, lib/libcublas.so.13, lib/libcublasLt.so.13 and the programs beside
# them.
#
#     make.sh FOLDER NVCC INCLUDE_OPTIONS...
set -eu
folder=$1
nvcc=$2
here=$(dirname "$0")
shift 2
mkdir -p "$folder/lib"
for pair in cudart:cudart cublas:cublas cublas:cublasLt; do
    name=lib${pair##*:}.so.13
    echo "$name { global: *; };" >"$folder/version"
    "$nvcc" --cudart none -O2 -shared -Xcompiler -fPIC,-Wall,-Wextra "$@" \
        -Xlinker "-soname,$name,--version-script=$folder/version" "$here/${pair%%:*}.c" -o "$folder/lib/$name"
done
rm "$folder/version"
cp "$here/nvidia-smi" "$here/python" "$folder/"
