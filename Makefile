# make demo, make test: all set-up included, in a virtual environment of their own. TORCH names the torch to install;
# SUMIX_WERROR=1 in the environment makes warnings errors, as CI does.
VENV ?= .venv
PYTHON ?= python3
TORCH ?= torch==2.13.0
comma := ,
BIN := $(VENV)/bin
# How many jobs run at a time: MAX_JOBS, or as many as there are processors. make -j1 overrides it for make's own jobs.
JOBS := $(or $(MAX_JOBS),$(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN))
ifeq ($(MAKELEVEL)$(filter clean,$(MAKECMDGOALS)),0)
MAKEFLAGS += -j$(JOBS)
endif
SOURCES := setup.py pyproject.toml $(wildcard csrc/*.[ch] csrc/args/*.h csrc/cpu/*.[ch] csrc/cuda/*)
# What nvcc, where there is one, compiles for: this machine's GPUs, or one architecture, so that it takes no longer than it
# must.
TORCH_CUDA_ARCH_LIST ?= $(if $(shell command -v nvidia-smi 2>/dev/null),native,8.0)
export TORCH_CUDA_ARCH_LIST
C_TESTS := $(patsubst tests/c/%.c,%,$(wildcard tests/c/test_*.c))

.PHONY: demo quick test unit package sanitize races emulated emulated-races emulate emulated-extension fuzz registers lint bench \
        gpu clean

demo: $(VENV)/built
	$(BIN)/python -m benchmarks.demo

quick: $(VENV)/built
	$(BIN)/python -m benchmarks.demo --quick

# The tiers are in CONTRIBUTING.md: `make test` before every commit, the others in CI, `gpu`, `emulate` and `bench` by hand.
PYTEST := $(BIN)/python -m pytest -q
PARALLEL := -n $(JOBS) --dist worksteal

test: sanitize

# The tests that need a GPU share it, so they run one after another. pytest's status 5: it cannot be used, and none ran.
test unit: $(VENV)/built emulated-extension
	$(PYTEST) $(PARALLEL) -m "not cuda and not package"
	$(if $(shell command -v nvidia-smi 2>/dev/null),$(PYTEST) -m cuda || test $$? -eq 5)

package: $(VENV)/built
	$(PYTEST) $(PARALLEL) -m package

$(VENV)/packages: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	$(BIN)/pip install -q $(TORCH)
	$(BIN)/pip install -q "setuptools>=77" wheel
	$(BIN)/pip install -q --no-build-isolation -e ".[test,demo,dev]"
	touch $@

$(VENV)/built: $(VENV)/packages $(SOURCES)
	$(BIN)/python setup.py -q build_ext --inplace
	touch $@

# The kernels without torch, under AddressSanitizer and UndefinedBehaviorSanitizer where the compiler has them: once plain,
# and once vectorised for this machine's processor.
C_FLAGS := -std=c11 -D_GNU_SOURCE -g -O1 -fopenmp-simd -Wall -Wextra -Wno-pass-failed $(if $(SUMIX_WERROR),-Werror)
SANITIZE = $(shell echo 'int main(void){return 0;}' | $(CC) -x c -fsanitize=$(1) - -o /dev/null 2>/dev/null && echo -fsanitize=$(1) -fno-sanitize-recover=all)

# Which the compiler is asked once for, and only if something needs to know.
ADDRESS = $(eval ADDRESS := $(call SANITIZE,address$(comma)undefined))$(ADDRESS)
THREAD = $(eval THREAD := $(call SANITIZE,thread))$(THREAD)

# A test that has passed leaves a stamp, and does not run again until something that it is made of changes.
build/%.passed: build/%
	@echo "$<"
	@$<
	@touch $@

build/sanitize/% build/native/%: FLAGS = $(ADDRESS)
sanitize: $(C_TESTS:%=build/sanitize/%.passed) $(C_TESTS:%=build/native/%.passed)
	@test -n "$(ADDRESS)" || echo "$(CC) has no sanitizer runtimes: the C tests run without"

# ThreadSanitizer over the rows that threads share.
build/races/%: FLAGS = $(THREAD)
races: $(patsubst %,build/races/%.passed,$(filter-out test_maths,$(C_TESTS)))

# What promises equal bits everywhere is compiled without contraction, as in setup.py; csrc/exact.h says why.
EXACT_STEMS := evidence_mask mask mix mix_inplace mix_mask mix_normalize mix_resize sample test_evidence_mask test_mix_resize test_sample
EXACT = $(if $(filter $(EXACT_STEMS),$(basename $(notdir $@))),-ffp-contract=off -DSUMIX_NO_CONTRACTION)
KERNELS := $(patsubst csrc/cpu/%.c,%.o,$(wildcard csrc/cpu/*.c))
HEADERS := Makefile $(wildcard csrc/*.h csrc/args/*.h csrc/cpu/*.h)
define C_KERNEL
	@mkdir -p $(@D)
	@echo "$(CC) $@"
	@$(CC) $(C_FLAGS) $(NATIVE) $(FLAGS) $(EXACT) -c $< -o $@
endef
define C_TEST
	@echo "$(CC) $@"
	@$(CC) $(C_FLAGS) $(NATIVE) $(FLAGS) $(EXACT) $(filter %.c %.o,$^) -lm -lpthread -o $@
endef

.SECONDARY:  # keep the kernels for the next test

build/native/%: NATIVE := -O3 -march=native -ffp-contract=fast -fno-math-errno -fno-trapping-math

build/sanitize/cpu/%.o: csrc/cpu/%.c $(HEADERS)
	$(C_KERNEL)

build/sanitize/%: tests/c/%.c $(wildcard tests/c/*.h) $(KERNELS:%=build/sanitize/cpu/%)
	$(C_TEST)

build/native/cpu/%.o: csrc/cpu/%.c $(HEADERS)
	$(C_KERNEL)

build/native/%: tests/c/%.c $(wildcard tests/c/*.h) $(KERNELS:%=build/native/cpu/%)
	$(C_TEST)

build/races/cpu/%.o: csrc/cpu/%.c $(HEADERS)
	$(C_KERNEL)

build/races/%: tests/c/%.c $(wildcard tests/c/*.h) $(KERNELS:%=build/races/cpu/%)
	$(C_TEST)

# The CUDA kernels on the CPU (tests/cuda_emulation): the same C tests, whose reference loops know nothing of either, with
# the emulated kernels in the CPU kernels' place. Under AddressSanitizer; `make emulated-races` under ThreadSanitizer.
EMULATED_TESTS := $(filter-out test_maths test_device,$(C_TESTS))
CUDA_HEADERS := $(HEADERS) $(wildcard csrc/cuda/*.cuh tests/cuda_emulation/*.h)
CXX_FLAGS := -std=c++20 -g -O1 -Wall -Wextra -Wno-unknown-pragmas $(if $(SUMIX_WERROR),-Werror)

build/emulated/%: FLAGS = $(ADDRESS)
emulated: $(EMULATED_TESTS:%=build/emulated/%.passed)

build/emulated_races/%: FLAGS = $(THREAD) -DSUMIX_MOST_BLOCKS=3
emulated-races: $(EMULATED_TESTS:%=build/emulated_races/%.passed)

# Shared memory is what a kernel file has of .bss, and gets a section of its own, which the emulator fills anew for every
# block. Not by an attribute: gcc forgets those of a template's variables.
AS_SHARED = objcopy --rename-section .bss=sumix_shared,alloc,load,data,contents $@$(1)
define CUDA_KERNEL
	@mkdir -p $(@D)
	@echo "$(CXX) $@"
	@$(CXX) $(CXX_FLAGS) $(FLAGS) $(EXACT) -Itests/cuda_emulation -x c++ -c $< -o $@
	@$(if $(filter %.cu,$<),$(AS_SHARED))
endef
define EMULATED_TEST
	@echo "$(CC) $@"
	@$(CC) $(C_FLAGS) $(FLAGS) $(EXACT) -DSUMIX_TEST_CUDA -c $< -o $@.o
	@$(CXX) $(FLAGS) $@.o $(filter %.o,$^) -Wl,-z,now -lm -lpthread -ldl -o $@
endef
EMULATED := fibres as_cpu $(patsubst csrc/cuda/%.cu,%,$(filter-out csrc/cuda/device.cu,$(wildcard csrc/cuda/*.cu)))

# Without sanitizers: it tells them what it does.
build/emulated/cuda/fibres.o build/emulated_races/cuda/fibres.o: tests/cuda_emulation/fibres.cpp $(CUDA_HEADERS)
	@mkdir -p $(@D)
	@echo "$(CXX) $@"
	@$(CXX) $(CXX_FLAGS) -fno-tree-loop-distribute-patterns -c $< -o $@

build/emulated/cuda/%.o: tests/cuda_emulation/%.cpp $(CUDA_HEADERS)
	$(CUDA_KERNEL)

build/emulated/cuda/%.o: csrc/cuda/%.cu $(CUDA_HEADERS)
	$(CUDA_KERNEL)

build/emulated/%: tests/c/%.c $(wildcard tests/c/*.h) $(EMULATED:%=build/emulated/cuda/%.o)
	$(EMULATED_TEST)

build/emulated_races/cuda/%.o: tests/cuda_emulation/%.cpp $(CUDA_HEADERS)
	$(CUDA_KERNEL)

build/emulated_races/cuda/%.o: csrc/cuda/%.cu $(CUDA_HEADERS)
	$(CUDA_KERNEL)

build/emulated_races/%: tests/c/%.c $(wildcard tests/c/*.h) $(EMULATED:%=build/emulated_races/cuda/%.o)
	$(EMULATED_TEST)

# What a GPU refuses and x86 does not: a vector at an address that is no multiple of its size is an illegal instruction.
ALIGNED := -fsanitize=alignment -fsanitize-undefined-trap-on-error

# Kernels with an error each, to show that the emulator tells.
build/planted/plain: FLAGS = $(ALIGNED)
build/planted/address: FLAGS = $(ADDRESS) -fno-sanitize=alignment,object-size
build/planted/thread: FLAGS = $(THREAD)
build/planted/%: tests/cuda_emulation/planted.cu $(CUDA_HEADERS) build/extension/cuda/fibres.o
	@mkdir -p $(@D)
	@echo "$(CXX) $@"
	@$(CXX) $(CXX_FLAGS) $(FLAGS) -Itests/cuda_emulation -x c++ -c $< -o $@.o
	@$(call AS_SHARED,.o)
	@$(CXX) $(FLAGS) $@.o build/extension/cuda/fibres.o -ldl -o $@

# The whole extension with the emulated kernels: sumix.so in the place of sumix._C, sumix_emulated.so beside it, which
# registers torch.ops.sumix_emulated. PYTHON_INCLUDE: where Python.h is.
PYTHON_INCLUDE ?= $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')
EXTENSION := $(patsubst %,build/extension/cuda/%.o,$(filter-out as_cpu,$(EMULATED))) $(KERNELS:%=build/extension/cpu/%) \
             $(patsubst csrc/%.c,build/extension/%.o,$(filter-out csrc/module.c,$(wildcard csrc/*.c)))

# Both, and the long cases against the CPU kernels.
emulate: emulated emulated-races emulated-extension $(VENV)/built
	SUMIX_EMULATE=thorough $(PYTEST) $(PARALLEL) tests/test_cuda_emulation.py

# And the planted errors: all that tests/test_cuda_emulation.py loads or runs.
emulated-extension: build/extension/sumix.so build/extension/sumix_emulated.so $(patsubst %,build/planted/%,plain address thread)

build/extension/cuda/fibres.o: tests/cuda_emulation/fibres.cpp $(CUDA_HEADERS)
	@mkdir -p $(@D)
	@echo "$(CXX) $@"
	@$(CXX) $(CXX_FLAGS) -fPIC -O2 -fno-tree-loop-distribute-patterns -c $< -o $@

build/extension/cuda/%.o: FLAGS = -fPIC -O2 -fvisibility=hidden $(ALIGNED)
build/extension/cuda/%.o: csrc/cuda/%.cu $(CUDA_HEADERS)
	$(CUDA_KERNEL)

build/extension/%.o: FLAGS = -fPIC -fexceptions -fvisibility=hidden -DSUMIX_CUDA_EMULATED
build/extension/cpu/%.o: csrc/cpu/%.c $(HEADERS)
	$(C_KERNEL)

build/extension/%.o: csrc/%.c $(HEADERS)
	$(C_KERNEL)

build/extension/%.so: csrc/module.c $(EXTENSION)
	@echo "$(CC) $@"
	@$(CC) $(C_FLAGS) -fPIC -fexceptions -fvisibility=hidden -DSUMIX_CUDA_EMULATED -DSUMIX_NAMESPACE='"$*"' -I$(PYTHON_INCLUDE) \
	  -c $< -o build/extension/$*_module.o
	@$(CXX) -shared build/extension/$*_module.o $(EXTENSION) -lm -lpthread -ldl -o $@

# The op table under hostile calls, the extension built with AddressSanitizer and UndefinedBehaviorSanitizer: FUZZ are the
# fuzzer's options. Sanitizers, and the library whose exceptions they look after, must come before all others.
FUZZ ?= --seconds 600 --seed $(shell date +%s)
FUZZED := $(patsubst csrc/%.c,build/fuzz/%.o,$(wildcard csrc/*.c csrc/cpu/*.c))
build/fuzz/%.o build/fuzz/sumix.so: FLAGS = -fPIC -fexceptions -fvisibility=hidden -I$(PYTHON_INCLUDE) \
                                            $(call SANITIZE,address$(comma)undefined)

build/fuzz/%.o: csrc/%.c $(HEADERS)
	$(C_KERNEL)

build/fuzz/sumix.so: $(FUZZED)
	@$(CC) $(FLAGS) -shared $^ -lm -ldl -o $@

fuzz: build/fuzz/sumix.so $(VENV)/built
	@LD_PRELOAD="$(foreach library,asan stdc++,$(shell $(CC) -print-file-name=lib$(library).so))" \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 \
	  $(BIN)/python -m tests.fuzz --extension $< $(FUZZ) || { cat build/fuzz/call; exit 1; }

# Registers, spills and occupancy of the CUDA kernels, on every architecture; needs nvcc, and no GPU.
registers:
	@$(PYTHON) tests/check_registers.py

lint: $(VENV)/packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror csrc/*.[ch] $(wildcard csrc/args/*.h csrc/cuda/*.h csrc/cuda/*.cuh csrc/cuda/*.cu) csrc/cpu/*.[ch] tests/c/*.[ch]

bench: $(VENV)/built
	$(BIN)/python -m benchmarks.bench_loss --json runs/bench/loss.json
	$(BIN)/python -m benchmarks.bench_mix --json runs/bench/mix.json
	$(BIN)/python -m benchmarks.bench_transforms --json runs/bench/transforms.json
	$(BIN)/python -m benchmarks.bench_saliency --json runs/bench/saliency.json
	$(BIN)/python -m benchmarks.bench_mask --json runs/bench/mask.json
	$(BIN)/python -m benchmarks.bench_sample --json runs/bench/sample.json
	$(BIN)/python -m benchmarks.bench_masked_similarity --json runs/bench/masked_similarity.json
	$(BIN)/python -m benchmarks.bench_foreground --json runs/bench/foreground.json

# Where there is a GPU, and not in CI: the tests that need one, and every bench on it.
gpu: $(VENV)/built
	$(PYTEST) -m cuda -rs
	$(BIN)/python -m benchmarks.gpu --json runs/gpu/gpu.json

clean:
	rm -rf build dist runs $(VENV) sumix/*.so *.egg-info
