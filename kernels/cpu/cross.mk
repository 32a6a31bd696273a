# cross.mk - what the Makefile adds to build for another machine than its own: ARCH=aarch64, or
# CC=aarch64-linux-gnu-gcc.  Headers and libraries are the target's, in a folder of the cache; programs
# run in qemu.
SYSROOT := $(CACHE)/$(CROSS)-root
SYSROOT_FLAG := --sysroot=$(SYSROOT)
CXX := $(CROSS)-linux-gnu-g++

$(B)/.deps: kernels/cpu/cross_root.sh
	@mkdir -p $(B)
	@kernels/cpu/cross_root.sh '$(SYSROOT)' $(CROSS) libc6-dev libstdc++-12-dev $(filter lib%,$(DEBIAN))
	@touch $@

test: RUNFLAGS = --emulator 'qemu-$(CROSS) -L $(SYSROOT)'
