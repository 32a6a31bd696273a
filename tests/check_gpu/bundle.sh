#!/bin/sh
# Makes a folder that checks a GPU on a machine without a network, a compiler or development packages.
#
#     bundle.sh FOLDER SM         SM: 90, ...; "emulated": programs that need no GPU, to try the bundle itself
#
# In it: programs for that architecture, with the libraries that they need beside them except cuBLAS and cudart,
# which are PyTorch's there; the check's Python and data; the recipes of random models.  FOLDER/check-gpu runs all.
# MAKE names make.
set -eu

folder=$1
sm=$2
most=$((55 << 20)) # bytes
cd "$(dirname "$0")/../.."
programs=$(cat tests/check_gpu/programs.txt)
strip=strip
case $sm in
emulated)
    programs=$(grep -v /probe tests/check_gpu/programs.txt) # asks the hardware
    strip='strip --strip-debug' # the emulator reads the symbols
    set -- CUDA=emulated B=build/bundle/emulated
    ;;
[0-9]*) set -- CUDA=1 SM="$sm" B="build/bundle/sm_$sm" ;;
*) echo "SM=$sm: a number, as 90, is expected" >&2; exit 1 ;;
esac
for word; do built=${word#B=}; done

# No folder of this machine in the programs: its toolkit would come before PyTorch's cuBLAS.
origin='-Wl,--disable-new-dtags,-rpath,\$$ORIGIN/lib:\$$ORIGIN/../../lib'
"${MAKE:-make}" -j"$(nproc)" SAN= "$@" CUDA_RPATH= LDFLAGS="$origin" NVFLAGS='-Xfatbin -compress-all' all \
    $(echo "$programs" | sed "s,^tests/,$built/tests/,;t;d")

rm -rf "$folder"
mkdir -p "$folder/programs/lib"
for program in $programs; do
    mkdir -p "$folder/programs/$(dirname "$program")"
    $strip -o "$folder/programs/$program" "$built/$program"
done
echo "$programs" | sed "s,^,$folder/programs/," | xargs ldd | awk '$3 ~ /^\// {print $3}' | sort -u |
    grep -v -E '/lib(cublas|cublasLt|cudart|c|m|pthread|dl|rt|resolv)\.so' | while read -r library; do
    cp -L "$library" "$folder/programs/lib/"
done

# The check itself, at the places where it is at home.
git ls-files --cached --others --exclude-standard -- configs kernels/ops.def tests/run.py tests/bench/'*.py' \
    tests/check_gpu tests/cuda tests/http tests/kernels/'*.py' tests/kernels/traces tests/parity tests/tiny |
    grep -v -E '\.(cu|c|h)$' | tar -cf - -T - | tar -xf - -C "$folder"
printf 'sm=%s\nsources=%s\ncommit=%s\n' "$sm" "$(tests/check_gpu/sources.sh)" \
    "$(git describe --always --dirty 2>/dev/null || echo unknown)" >"$folder/programs/about"
cat >"$folder/check-gpu" <<'END'
#!/bin/sh
# Checks the GPU of this machine: ./check-gpu [--only SECTION,...] [--seconds N]; the report goes to $OUT (build).
exec "$(dirname "$0")/tests/check_gpu/check_gpu.sh" "${SAMEBIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/samebit}" "$@"
END
chmod 755 "$folder/check-gpu"

size=$(du -sb "$folder" | cut -f1)
echo "$folder: $((size >> 20)) MiB for sm_$sm; there: $(basename "$folder")/check-gpu"
[ "$size" -le "$most" ] || { echo "$folder: $size bytes, more than $most" >&2; exit 1; }
