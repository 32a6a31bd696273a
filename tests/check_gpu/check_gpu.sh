#!/bin/sh
# Runs check_gpu.py with programs for this machine's GPU; without a GPU does nothing, and says so.
#
#     check_gpu.sh CACHE [ARGUMENTS of check_gpu.py]
#
# Programs: those of the bundle that this script is part of, or of BUNDLE (build/check-gpu-bundle) where it is
# for this GPU and of these sources, else they are built.  Python: PYTHON (python3) as it is where it has PyTorch
# for CUDA, else a venv in CACHE.  cuBLAS and cudart are the files that this PyTorch has loaded: torch-cuda's bits
# are theirs.  OUT is the folder of the report (build).  MAKE names make.
#
# The time that check_gpu.py may take counts from here; what building or installing takes does not count unless
# --seconds is given.
set -eu

started=$(date +%s)
cache=$1
shift
cd "$(dirname "$0")/../.."
bundle=${BUNDLE:-build/check-gpu-bundle}
python=${PYTHON:-python3}

# What is between two marks of a bundle's facts.
fact() { sed -n "s/^$1=//p" "$programs/about"; }

if [ -e programs/about ]; then
    programs=programs
elif [ -e "$bundle/programs/about" ]; then
    programs=$bundle/programs
    if [ "$(fact sources)" != "$(tests/check_gpu/sources.sh)" ]; then
        echo "$bundle is of other sources: not used" >&2
        programs=
    fi
else
    programs=
fi

emulated=
if [ "$programs" ] && [ "$(fact sm)" = emulated ]; then
    emulated=yes
    set -- --emulated "$@"
elif ! nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then
    echo "skip: no NVIDIA GPU here"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
elif [ "$programs" ]; then
    sm=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. ')
    if [ "$(fact sm)" != "$sm" ]; then
        echo "$programs is for sm_$(fact sm), this GPU is sm_$sm: not used" >&2
        programs=
    fi
fi

prepared=
if ! libraries=$("$python" tests/check_gpu/yardstick.py ${emulated:+--cpu}); then
    configs/models/venv.sh "$cache/check-gpu-venv" tests/check_gpu/requirements.txt
    python=$cache/check-gpu-venv/bin/python
    libraries=$("$python" tests/check_gpu/yardstick.py)
    prepared=yes
fi
if [ ! "$programs" ]; then
    programs=build/cuda
    "${MAKE:-make}" -j"$(nproc)" CUDA=1 CUBLAS="$(dirname "${libraries%%:*}")" SAN= all \
        $(sed 's,^tests/,build/cuda/tests/,;t;d' tests/check_gpu/programs.txt) >&2
    prepared=yes
fi
case " $* " in *" --seconds"*) ;; *) [ ! "$prepared" ] || started=$(date +%s) ;; esac

# Before what the programs were linked with.
[ ! "$libraries" ] || export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
# They make PyTorch call other kernels.
unset CUBLAS_WORKSPACE_CONFIG CUBLASLT_WORKSPACE_SIZE TORCH_BLAS_PREFER_CUBLASLT NVIDIA_TF32_OVERRIDE \
    TORCH_ALLOW_TF32_CUBLAS_OVERRIDE DISABLE_ADDMM_CUDA_LT
export SAMEBIT_CACHE="$cache" TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
exec "$python" tests/check_gpu/check_gpu.py --build "$programs" --started "$started" \
    --out "${OUT:-build}/check_gpu.json" "$@"
