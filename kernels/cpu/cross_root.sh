#!/bin/sh
# Makes a folder of Debian's headers and libraries for another machine, unless it is there, and
# installs the cross compiler and the emulator where they are missing.
#
#     cross_root.sh FOLDER ARCH PACKAGE...       cross_root.sh ~/.cache/samebit/aarch64-root aarch64 libjansson-dev
#
# The packages are unpacked there with all that they depend on; this machine's own list of packages and
# architectures stays as it is.  What was found complete is remembered in FOLDER/.complete-*.
set -eu

root=$1
arch=$2
shift 2
stamp=$root/.complete-$(echo "$@" | sha256sum | cut -c1-16)
case $arch in
aarch64) debian=arm64 ;;
*) debian=$arch ;;
esac

if ! command -v "$arch-linux-gnu-gcc" || ! command -v "$arch-linux-gnu-g++" || ! command -v "qemu-$arch"; then
    command -v apt-get || { echo "not a Debian: install gcc and g++ for $arch-linux-gnu and qemu-$arch" >&2; exit 1; }
    echo "installing Debian packages: g++-$arch-linux-gnu qemu-user" >&2
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "g++-$arch-linux-gnu" qemu-user
fi >/dev/null
[ ! -e "$stamp" ] || exit 0

mkdir -p "$(dirname "$root")"
exec 9>"$root.lock"
flock 9
[ ! -e "$stamp" ] || exit 0
echo "unpacking into $root: $*" >&2
rm -rf "$root"
mkdir -p "$root/apt/lists/partial" "$root/apt/archives/partial"
: >"$root/apt/status"
apt() {
    apt-get -qq -o APT::Architecture="$debian" -o APT::Architectures="$debian" \
        -o Dir::State="$root/apt" -o Dir::State::status="$root/apt/status" -o Dir::Cache="$root/apt" \
        -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=true "$@" >/dev/null
}
apt update
apt install -y --no-install-recommends --download-only "$@"
for package in "$root"/apt/archives/*.deb; do
    dpkg-deb -x "$package" "$root"
done
rm -rf "$root/apt"
: >"$stamp"
