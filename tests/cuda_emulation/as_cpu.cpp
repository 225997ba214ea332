/* Puts the emulated CUDA kernels in the place of the CPU kernels, so that tests/c tests them. Each call runs its blocks
 * and threads in another order; the tests compare the bits of repeated calls. */
#include <stdlib.h>
#include <string.h>

#include "../../csrc/kernels.h"
#include "cuda_runtime.h"
#include "emulated.h"

/* In memory of its own, so that AddressSanitizer sees its end; garbage at first. */
template <typename args_type, typename launcher, typename scratch_size>
static int run(const args_type *args, launcher launch, scratch_size bytes, struct sumix_status *status)
{
  static int calls;
  sumix_emulated_order(calls++ % 4);
  args_type copy = *args;
  void *scratch = NULL;
  if constexpr (requires { copy.scratch; }) {
    copy.scratch = scratch = malloc((size_t)bytes(&copy));
    memset(scratch, 0xa5, (size_t)bytes(&copy));
  }
  const cudaError_t error = launch(&copy, NULL);
  free(scratch);
  if (error != cudaSuccess) sumix_explain(status, "%s", cudaGetErrorString(error));
  return error == cudaSuccess ? 0 : -1;
}

/* Looked up where the template is used: only kernels with a member `scratch` have the function. */
#define AS_CPU(name)                                                                                                   \
  extern "C" int sumix_##name##_cpu_baseline(const struct sumix_##name##_args *args, struct sumix_status *status)      \
  {                                                                                                                    \
    return run(args, sumix_##name##_cuda, [](auto *a) { return sumix_##name##_scratch(a); }, status);                  \
  }
SUMIX_KERNELS(AS_CPU)
