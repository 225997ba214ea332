/* THE contract: every kernel's arguments, declared once, in csrc/args; csrc/cpu defines each kernel once per
 * instruction set, csrc/cuda once.
 *
 * Pointers are to contiguous memory of the shape beside them, in the dtype of the struct unless a C type says
 * otherwise; outputs overlap nothing. "real" there is float, or double for SUMIX_FLOAT64: what half precision is
 * computed in. A kernel trusts shapes and dtypes; what it must check are the values inside tensors (labels, partners,
 * ratios, boxes). It allocates no tensor. On a CPU it returns 0, or -1 with a message in status; the launcher of a CUDA
 * kernel works on the current device and the given stream, waits for nothing and returns a cudaError_t, and a value
 * that is out of range is a device-side assertion.
 */
#ifndef SUMIX_KERNELS_H
#define SUMIX_KERNELS_H

#include "args/evidence_mask.h"
#include "args/foreground.h"
#include "args/loss.h"
#include "args/mask.h"
#include "args/masked_similarity.h"
#include "args/mix.h"
#include "args/mix_inplace.h"
#include "args/mix_mask.h"
#include "args/mix_normalize.h"
#include "args/mix_resize.h"
#include "args/saliency.h"
#include "args/sample.h"
#include "args/semantic_distance.h"
#include "args/uncertainty.h"
#include "status.h"

/* X(name): the kernel sumix_<name>, which takes struct sumix_<name>_args. */
#define SUMIX_KERNELS(X)                                                                                               \
  X(sample_lam)                                                                                                        \
  X(sample_perm)                                                                                                       \
  X(sample_box)                                                                                                        \
  X(cut_box)                                                                                                           \
  X(sample_uniform)                                                                                                    \
  X(sample_normal)                                                                                                     \
  X(sample_seed)                                                                                                       \
  X(uncertainty)                                                                                                       \
  X(uncertainty_backward)                                                                                              \
  X(semantic_distance)                                                                                                 \
  X(sample_top_k)                                                                                                      \
  X(evidence_mask)                                                                                                     \
  X(mask_top_k)                                                                                                        \
  X(loss)                                                                                                              \
  X(loss_backward)                                                                                                     \
  X(masked_similarity)                                                                                                 \
  X(foreground)                                                                                                        \
  X(mix_box)                                                                                                           \
  X(mix_box_backward)                                                                                                  \
  X(mix_linear)                                                                                                        \
  X(mix_linear_backward)                                                                                               \
  X(soft_labels)                                                                                                       \
  X(saliency)                                                                                                          \
  X(mix_mask)                                                                                                          \
  X(mix_mask_backward)                                                                                                 \
  X(mix_resize)                                                                                                        \
  X(mix_resize_backward)                                                                                               \
  X(mix_inplace)                                                                                                       \
  X(mix_normalize)

#ifdef __cplusplus  // nvcc
extern "C" {
#endif

#define SUMIX_LAUNCHER(name) int sumix_##name##_cuda(const struct sumix_##name##_args *args, void *stream);
SUMIX_KERNELS(SUMIX_LAUNCHER)
#undef SUMIX_LAUNCHER

#ifdef __cplusplus
}
#endif

/* The CPU kernels in use: those of the best instruction set that this processor has. */
struct sumix_cpu_kernels {
  const char *isa;
#define SUMIX_KERNEL_MEMBER(name) int (*name)(const struct sumix_##name##_args *args, struct sumix_status *status);
  SUMIX_KERNELS(SUMIX_KERNEL_MEMBER)
#undef SUMIX_KERNEL_MEMBER
};
extern struct sumix_cpu_kernels sumix_cpu;

/* Fills sumix_cpu. wanted: the name of an instruction set, or NULL for the best. Returns 0, or -1 if it is not to be
 * had. */
int sumix_cpu_choose(const char *wanted, struct sumix_status *status);

#endif
