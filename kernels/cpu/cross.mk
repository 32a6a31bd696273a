# cross.mk - what the Makefile adds to build for another machine than its own: ARCH=aarch64, or
# CC=aarch64-linux-gnu-gcc.  Programs are emulated by qemu.
SYSROOT  := $(CACHE)/$(CROSS)-root
EMULATOR := qemu-$(CROSS) -L $(SYSROOT)
SYSROOT_FLAG := --sysroot=$(SYSROOT)

$(B)/.deps: kernels/cpu/cross_root.sh
	@mkdir -p $(B)
	@kernels/cpu/cross_root.sh $(SYSROOT) $(CROSS) libc6-dev $(filter lib%,$(DEBIAN))
	@touch $@
