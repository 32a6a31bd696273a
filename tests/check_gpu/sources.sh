#!/bin/sh
# Prints a digest of the sources that a bundle's programs are made of.
cd "$(dirname "$0")/../.." &&
find kernels server client tests/kernels tests/unit tests/check_gpu tests/emulated \
     -name '*.c' -o -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.def' -o -name '*.inc' -o -name '*.html' |
    LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-16
