#!/bin/sh
# Builds for CUDA, installs PyTorch and runs check_gpu.py; without a GPU does nothing, and says so.
#
#     check_gpu.sh CACHE [ARGUMENTS of check_gpu.py]
#
# MAKE names make, PYTHON the interpreter of the venvs.
set -eu

cache=$1
shift
cd "$(dirname "$0")/../.."
if ! nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then
    echo "skip: no NVIDIA GPU here"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi

# PyTorch's own build of cuBLAS: torch-cuda's bits are its bits.
"${MAKE:-make}" -j"$(nproc)" CUDA=1 CUBLAS=wheel SAN= all build/cuda/tests/kernels/test_cuda_ops \
    build/cuda/tests/kernels/ops_driver build/cuda/tests/check_gpu/probe
configs/models/venv.sh "$cache/venv" configs/models/requirements.txt
configs/models/venv.sh "$cache/check-gpu-venv" tests/check_gpu/requirements.txt
# They make PyTorch call other kernels.
unset CUBLAS_WORKSPACE_CONFIG CUBLASLT_WORKSPACE_SIZE TORCH_BLAS_PREFER_CUBLASLT NVIDIA_TF32_OVERRIDE \
    TORCH_ALLOW_TF32_CUBLAS_OVERRIDE DISABLE_ADDMM_CUDA_LT
export SAMEBIT_CACHE="$cache" SAMEBIT_VENV="$cache/venv" TOKENIZERS_PARALLELISM=false
exec "$cache/check-gpu-venv/bin/python" tests/check_gpu/check_gpu.py --build build/cuda \
    --out build/check_gpu.json "$@"
