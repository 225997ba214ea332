/* Between torch's boxed calling convention and ours.
 *
 * An op here is `int op(const StableIValue *args, StableIValue *results, struct sumix_status *)`. It borrows its
 * arguments, fills results with new handles as it makes them, and returns 0, or -1 with a message. In every schema the
 * tensors come first, and every result is a tensor. sumix_boxed() owns what torch handed over: it frees it on every
 * path, and raises once, last, because an exception that passes through C frames runs nothing on its way. It calls the
 * op only if all tensors are on one device; torch dispatches on one of them and does not check the others.
 */
#ifndef SUMIX_BOXED_H
#define SUMIX_BOXED_H

#include <string.h>

#include "kernels.h"
#include "status.h"
#include "torch_abi.h"

enum { SUMIX_MAX_ARGS = 32, SUMIX_MAX_DIM = 8 };

typedef int (*sumix_op)(const StableIValue *args, StableIValue *results, struct sumix_status *status);

/* tensors: the names of the arguments that are tensors. */
void sumix_boxed(StableIValue *stack, uint64_t num_args, uint64_t num_results, const char *const *tensors,
                 uint64_t num_tensors, const char *name, sumix_op op);

/* Defines boxed_<op>, the function to register. */
#define SUMIX_BOXED(op, ...)                                                                                           \
  static void boxed_##op(StableIValue *stack, uint64_t num_args, uint64_t num_results)                                 \
  {                                                                                                                    \
    static const char *const tensors[] = {__VA_ARGS__};                                                                \
    sumix_boxed(stack, num_args, num_results, tensors, sizeof tensors / sizeof *tensors, #op, op);                     \
  }

/* What a kernel needs to know of a tensor; sizes and strides are borrowed from its handle. */
struct sumix_tensor {
  const char *name;  // of the argument, for messages
  void *data;
  const int64_t *sizes, *strides;
  int64_t dim, numel;
  int32_t torch_dtype, device_type, device_index;
  enum sumix_dtype dtype;
};

static inline int64_t sumix_int(StableIValue value)
{
  int64_t result;
  memcpy(&result, &value, sizeof result);
  return result;
}

static inline double sumix_float(StableIValue value)
{
  double result;
  memcpy(&result, &value, sizeof result);
  return result;
}

static inline bool sumix_bool(StableIValue value)
{
  bool result;
  memcpy(&result, &value, sizeof result);
  return result;
}

/* Describes a tensor of any layout, or only one that is contiguous. */
int sumix_tensor_read(StableIValue argument, const char *name, struct sumix_tensor *tensor,
                      struct sumix_status *status);
int sumix_tensor_read_contiguous(StableIValue argument, const char *name, struct sumix_tensor *tensor,
                                 struct sumix_status *status);

bool sumix_is_contiguous(const struct sumix_tensor *tensor);
bool sumix_is_channels_last(const struct sumix_tensor *tensor);  // of 4 or 5 dimensions
/* Whether it stands for a tensor that was not given: one of shape (0,). */
bool sumix_is_absent(const struct sumix_tensor *tensor);
size_t sumix_dtype_size(enum sumix_dtype dtype);
/* The type that a kernel computes in for inputs of `dtype`: float64 for itself, else float32. */
enum sumix_dtype sumix_real_of(enum sumix_dtype dtype);
bool sumix_is_floating(enum sumix_dtype dtype);

/* Fails unless the tensor has this dtype and this shape (size -1: any). */
int sumix_tensor_expect(const struct sumix_tensor *tensor, enum sumix_dtype dtype, int64_t dim, const int64_t *sizes,
                        struct sumix_status *status);

/* A new tensor on the device of `like`; strides NULL: contiguous. */
int sumix_tensor_new(const struct sumix_tensor *like, enum sumix_dtype dtype, int64_t dim, const int64_t *sizes,
                     const int64_t *strides, StableIValue *result, struct sumix_tensor *tensor,
                     struct sumix_status *status);

#endif
