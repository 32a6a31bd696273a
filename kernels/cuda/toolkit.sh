#!/bin/sh
# Prints, as make variables, where CUDA's compiler and libraries are: the toolkit's of this machine,
# what it lacks from PyPI's wheels, which are installed into venvs of the cache folder.
#
#     toolkit.sh CACHE [NVCC] [CUBLAS]
#
# NVCC: a compiler to use instead of the one in PATH; "wheel" takes the wheel's.
# CUBLAS: "wheel" takes the wheel's, which is PyTorch's own build, by default only where the toolkit
# has none; a folder takes what is in its include/ and lib/, and its libcudart where it has one.
set -eu

cache=$1
nvcc=${2:-$(command -v nvcc || echo wheel)}
cublas=${3:-}
here=$(dirname "$0")

# The folder that the wheels of a requirement file are in, installed if need be.
wheels() {
    "$here/../../configs/models/venv.sh" "$cache/cuda-$1-venv" "$here/$1.txt"
    for folder in "$cache/cuda-$1-venv"/lib/python*/site-packages/nvidia/cu13; do
        [ -d "$folder" ] && echo "$folder" && return
    done
    echo "$cache/cuda-$1-venv: no nvidia/cu13 in it" >&2
    return 1
}

# The first file of that name, or of a versioned name, in the library folders of a toolkit.
library() {
    for file in "$1"/lib64/$2.so "$1"/lib/$2.so "$1"/lib64/$2.so.* "$1"/lib/$2.so.* \
                "$1"/targets/*/lib/$2.so; do
        [ -e "$file" ] && echo "$file" && return
    done
    return 1
}

if [ "$nvcc" = wheel ]; then
    home=$(wheels toolkit)
    nvcc=$home/bin/nvcc
else
    command -v "$nvcc" >/dev/null || { echo "NVCC=$nvcc: no such program" >&2; exit 1; }
    # nvcc tells where it is, whatever script or link calls it
    home=$(readlink -f "$("$nvcc" --dryrun -x cu /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p')")
fi

cudart=$(library "$home" libcudart)
if [ -d "$cublas" ]; then
    cublas_home=$cublas
    cudart=$(library "$cublas" libcudart || echo "$cudart")
elif [ "$cublas" = wheel ] || ! library "$home" libcublasLt >/dev/null ||
   [ ! -e "$home/include/cublasLt.h" ]; then
    cublas_home=$(wheels cublas)
else
    cublas_home=$home
fi
blas=$(library "$cublas_home" libcublas)
blas_lt=$(library "$cublas_home" libcublasLt)

[ -e "$cublas_home/include/cublasLt.h" ] || { echo "$cublas_home: no include/cublasLt.h" >&2; exit 1; }
echo "CUDA_NVCC := $nvcc"
echo "CUDA_INCLUDE := -isystem $cublas_home/include"
echo "CUDA_LIBS := $blas $blas_lt $cudart"
echo "CUDA_RPATH := -Wl,-rpath,$(dirname "$blas") -Wl,-rpath,$(dirname "$cudart")"
