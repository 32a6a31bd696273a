# cuda.mk - what the Makefile adds for CUDA.
#
# CUDA=emulated  the .cu through the C++ compiler, kernels on the CPU (tests/emulated/cuda/)
# CUDA=1         nvcc: NVCC=PROGRAM, else the one in PATH, else the one of PyPI's wheels (NVCC=wheel);
#                cuBLAS: the toolkit's where it has one, else the wheel that PyTorch takes
#                (CUBLAS=wheel), or a folder's that has include/ and lib/.  See toolkit.sh.
# SM=90          for that architecture alone, in build/cuda/sm_90
#
# nvcc may contract in kernels/cuda/aten only, as in PyTorch's build; FMAD_NAME := true or false says
# otherwise for kernels/cuda/NAME.cu (NAME: linear, aten/mean, ...).  CUFLAGS_NAME goes to either
# compiler.
NVCC     ?=
CUBLAS   ?=
EMULATED := $(filter emulated,$(CUDA))
CUDA_DEFINES := -DSAMEBIT_CUDA $(if $(EMULATED),-DSAMEBIT_CUDA_EMULATED)

KERNELS_CU := $(wildcard kernels/cuda/*.cu kernels/cuda/aten/*.cu)
# An emulated build's programs are test equipment: the emulator and the cuBLAS doubles are in them.
KERNELS_CU += $(if $(EMULATED),$(wildcard tests/emulated/cuda/*.cpp tests/emulated/cuda/*.cu))
EMULATED_INCLUDE := $(if $(EMULATED),-Itests/emulated/cuda/include)
# The other tests have nothing to do with the device; tools are for Python's.
TEST_C := $(filter tests/unit/tool_%,$(TEST_C)) $(wildcard tests/unit/test_cuda_*.c \
          tests/kernels/test_cuda_*.c tests/kernels/test_cuda_*.cu) \
          $(if $(EMULATED),$(wildcard tests/kernels/test_emulat*.cu tests/kernels/test_cudart.cu))
# Models of PyTorch's kernels, with correctly rounded approximations and products in one chain: they
# describe the emulated device.  A real one is compared with PyTorch itself (make check-gpu).
TEST_C := $(if $(EMULATED),$(TEST_C),$(filter-out tests/kernels/test_cuda_aten%,$(TEST_C)))
# What tests share.
TEST_CU := $(if $(EMULATED),$(filter-out tests/kernels/test_%,$(wildcard tests/kernels/*.cu)), \
           tests/emulated/cuda/cublas_recording.cu)

CXXFLAGS_ = -std=c++17 -D_GNU_SOURCE $(EMULATED_INCLUDE) -I. $(OPT) -g -Wall -Wextra -Wshadow \
            -Wno-unknown-pragmas \
            $(if $(WERROR),-Werror) -mfma -ffp-contract=off $(SANFLAGS) $(CUDA_DEFINES)

$(B)/obj/%.cpp.o: %.cpp Makefile kernels/cuda/cuda.mk | $(B)/.deps
	@mkdir -p $(@D)
	$(call say,c++ $<)$(CXX) $(CXXFLAGS_) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

file = $(patsubst kernels/cuda/%,%,$*)
fmad = $(or $(FMAD_$(1)),$(if $(filter aten/%,$(1)),true,false))
ifneq ($(EMULATED),)
$(B)/obj/%.cu.o: %.cu Makefile kernels/cuda/cuda.mk | $(B)/.deps
	@mkdir -p $(@D)
	$(call say,c++ $<)$(CXX) -x c++ $(CXXFLAGS_) $(CUFLAGS_$(file)) -MMD -MP -MF $(@:.o=.d) -c $< -o $@
else
TOOLKIT := $(B)/toolkit$(addprefix -,$(subst /,_,$(CUBLAS))).mk
$(TOOLKIT): kernels/cuda/toolkit.sh $(wildcard kernels/cuda/*.txt)
	@mkdir -p $(@D)
	@kernels/cuda/toolkit.sh '$(CACHE)' '$(NVCC)' '$(CUBLAS)' >$@.part
	@mv $@.part $@
include $(TOOLKIT)
# Where the libraries are found when a program starts; a bundle's are beside its programs.
CUDA_LIBS += $(CUDA_RPATH)

ARCHITECTURES := $(or $(SM),80 86 89 90 100 120)
# PTX of the newest, for what comes later.
GENCODE  := $(foreach a,$(ARCHITECTURES),-gencode arch=compute_$(a),code=sm_$(a)) \
            $(if $(SM),,-gencode arch=compute_120,code=compute_120)
NVFLAGS_ = -std=c++17 -D_GNU_SOURCE -I. $(OPT) -g -lineinfo --threads 2 $(GENCODE) $(CUDA_INCLUDE) \
           -Xcompiler -Wall,-Wextra,-Wshadow $(if $(WERROR),--Werror all-warnings) \
           -Xptxas -v,--warn-on-spills $(CUDA_DEFINES) $(NVFLAGS)

# What ptxas tells of each kernel stays beside the object; warnings are shown.
$(B)/obj/%.cu.o: %.cu Makefile kernels/cuda/cuda.mk $(TOOLKIT) | $(B)/.deps
	@mkdir -p $(@D)
	$(call say,nvcc $<)if $(CUDA_NVCC) $(NVFLAGS_) --fmad=$(call fmad,$(file)) $(CUFLAGS_$(file)) \
	    -MMD -MP -MF $(@:.o=.d) -c $< -o $@ >$(@:.o=.ptxas) 2>&1; then \
	    grep -v -e '^ptxas info' -e 'bytes stack frame' $(@:.o=.ptxas); true; else \
	    cat $(@:.o=.ptxas); exit 1; fi

# Libraries that take every call and compute nothing, for trying programs without a GPU.
STANDINS ?= $(B)/standins
standins:
	@tests/check_gpu/standin/make.sh $(STANDINS) $(CUDA_NVCC) $(CUDA_INCLUDE)

# The same once more with contraction allowed, for two architectures: nothing may change.
UNFUSED := $(foreach f,$(filter %.cu,$(KERNELS_CU)),$(if $(filter false,$(call fmad,$(f:kernels/cuda/%.cu=%))),$(f)))
FUSED_FLAGS = $(filter-out --threads 2 -gencode arch=%,$(NVFLAGS_)) $(foreach a,80 120,-gencode arch=compute_$(a),code=sm_$(a))
$(B)/fused/%.cu.o: %.cu Makefile kernels/cuda/cuda.mk $(TOOLKIT) | $(B)/.deps
	@mkdir -p $(@D)
	$(call say,nvcc --fmad=true $<)$(CUDA_NVCC) $(FUSED_FLAGS) --fmad=true $(CUFLAGS_$(file)) \
	    -MMD -MP -MF $(@:.o=.d) -c $< -o $@ >$(@:.o=.ptxas) 2>&1 || { cat $(@:.o=.ptxas); exit 1; }

cuda-report: $(call obj,$(filter %.cu,$(KERNELS_CU))) $(UNFUSED:%=$(B)/fused/%.o)
	@cuobjdump=$$(command -v cuobjdump) || { \
	    configs/models/venv.sh '$(CACHE)/cuda-report-venv' kernels/cuda/report.txt && \
	    cuobjdump=$$(ls '$(CACHE)'/cuda-report-venv/lib/python*/site-packages/nvidia/cu13/bin/cuobjdump); } && \
	$(PYTHON) tests/kernels/cuda_report.py --cuobjdump "$$cuobjdump" --fused $(B)/fused \
	    --expected tests/kernels/cuda_expected.txt $(filter $(B)/obj/%,$^) >$(B)/report.txt; \
	status=$$?; cat $(B)/report.txt; exit $$status
endif
.PHONY: standins cuda-report cuda-mutations
-include $(shell find $(B)/fused -name '*.d' 2>/dev/null)

cuda-mutations: all $(TESTS)
	@$(PYTHON) tests/kernels/remove_barriers.py --build $(B) $(MUTATIONFLAGS)
