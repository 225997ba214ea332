/* Picks the CPU kernels once, when the module is imported. csrc/cpu is compiled once per instruction set (setup.py),
 * each time with another SUMIX_ISA, which csrc/cpu/isa.h appends to every kernel's name. */
#include "kernels.h"

#include <string.h>

struct sumix_cpu_kernels sumix_cpu;

#ifdef SUMIX_CUDA_EMULATED  // csrc/device.h: in such a build nothing runs here

int sumix_cpu_choose(const char *wanted, struct sumix_status *status)
{
  (void)wanted, (void)status;
  sumix_cpu.isa = "none";
  return 0;
}

#else

#define DECLARE(name, isa) int sumix_##name##_cpu_##isa(const struct sumix_##name##_args *, struct sumix_status *);

#define DECLARE_BASELINE(name) DECLARE(name, baseline)
SUMIX_KERNELS(DECLARE_BASELINE)
#define BASELINE(name) sumix_##name##_cpu_baseline,
static const struct sumix_cpu_kernels baseline = {"baseline", SUMIX_KERNELS(BASELINE)};

#ifdef SUMIX_X86_LEVELS
#define DECLARE_V3(name) DECLARE(name, v3)
#define DECLARE_V4(name) DECLARE(name, v4)
SUMIX_KERNELS(DECLARE_V3)
SUMIX_KERNELS(DECLARE_V4)
#define V3(name) sumix_##name##_cpu_v3,
#define V4(name) sumix_##name##_cpu_v4,
static const struct sumix_cpu_kernels v3 = {"v3", SUMIX_KERNELS(V3)}, v4 = {"v4", SUMIX_KERNELS(V4)};

/* The features that setup.py's flags for each level let the compiler use. */
static int has_v3(void)
{
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}

static int has_v4(void)
{
  return has_v3() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

static const struct sumix_cpu_kernels *available(const char *isa)
{
#ifdef SUMIX_X86_LEVELS
  __builtin_cpu_init();
  if (strcmp(isa, "v4") == 0 && has_v4()) return &v4;
  if (strcmp(isa, "v3") == 0 && has_v3()) return &v3;
#endif
  return strcmp(isa, "baseline") == 0 ? &baseline : NULL;
}

int sumix_cpu_choose(const char *wanted, struct sumix_status *status)
{
  static const char *const best_first[] = {"v4", "v3", "baseline"};
  const struct sumix_cpu_kernels *found = NULL;
  if (wanted != NULL) found = available(wanted);
  for (size_t i = 0; wanted == NULL && found == NULL; i++) found = available(best_first[i]);
  SUMIX_CHECK(found != NULL, status, "SUMIX_CPU_ISA=%s: this build or this processor does not have it", wanted);
  sumix_cpu = *found;
  return 0;
}

#endif
