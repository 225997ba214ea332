/* Where a kernel runs: on the CPU, or as a launch on the device and the current stream of the tensors that it is given.
 *
 * sumix_run_<name>(at, args, status) runs the kernel sumix_<name> on the device of `at`, and returns 0, or -1 with a
 * message. A launch is not waited for: what goes wrong on a GPU later, a later call reports.
 */
#ifndef SUMIX_DEVICE_H
#define SUMIX_DEVICE_H

#include "boxed.h"

/* SUMIX_CUDA: csrc/cuda is part of this build; it names the architectures, "sm_80 sm_90". SUMIX_CUDA_EMULATED: the
 * tests have compiled it for the CPU, where it takes the place of csrc/cpu. */
#if defined SUMIX_CUDA_EMULATED
static inline bool sumix_is_on_device(const struct sumix_tensor *at) { return at != NULL; }
#elif defined SUMIX_CUDA
static inline bool sumix_is_on_device(const struct sumix_tensor *at)
{
  return at->device_type == libtorch_cuda.device_type;
}
#else
static inline bool sumix_is_on_device(const struct sumix_tensor *at) { return at == NULL; }
#endif

/* From begin to end the device of a tensor is the current one. */
struct sumix_launch {
  CUDAGuardHandle guard;
  void *stream;
};
int sumix_launch_begin(const struct sumix_tensor *at, struct sumix_launch *launch, struct sumix_status *status);
/* error: what the launcher returned. */
int sumix_launch_end(const struct sumix_launch *launch, int error, struct sumix_status *status);

#if defined SUMIX_CUDA || defined SUMIX_CUDA_EMULATED
#define SUMIX_RUN(name)                                                                                                \
  static inline int sumix_run_##name(const struct sumix_tensor *at, const struct sumix_##name##_args *args,            \
                                     struct sumix_status *status)                                                      \
  {                                                                                                                    \
    if (!sumix_is_on_device(at)) return sumix_cpu.name(args, status);                                                  \
    struct sumix_launch launch;                                                                                        \
    SUMIX_TRY(sumix_launch_begin(at, &launch, status));                                                                \
    return sumix_launch_end(&launch, sumix_##name##_cuda(args, launch.stream), status);                                \
  }
#else
#define SUMIX_RUN(name)                                                                                                \
  static inline int sumix_run_##name(const struct sumix_tensor *at, const struct sumix_##name##_args *args,            \
                                     struct sumix_status *status)                                                      \
  {                                                                                                                    \
    return (void)at, sumix_cpu.name(args, status);                                                                     \
  }
#endif
SUMIX_KERNELS(SUMIX_RUN)
#undef SUMIX_RUN

/* After torch could not allocate where `at` is: fails with the reason. On a GPU that need not be memory: an assertion
 * that failed in an earlier launch shows wherever CUDA is asked next. */
int sumix_not_allocated(const struct sumix_tensor *at, struct sumix_status *status);

/* Memory that a launch needs besides its arguments. data is NULL where bytes is 0, or where `at` is a tensor for the
 * CPU kernels. It may be freed once the kernel is launched: torch gives it out again in the order of the stream. */
struct sumix_device_scratch {
  AtenTensorHandle tensor;
  void *data;
};
int sumix_scratch_new(const struct sumix_tensor *at, int64_t bytes, struct sumix_device_scratch *scratch,
                      struct sumix_status *status);
void sumix_scratch_free(struct sumix_device_scratch *scratch);

#endif
