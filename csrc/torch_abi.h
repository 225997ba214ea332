/* The part of libtorch's stable C ABI that sumix uses, declared for C.
 *
 * Torch publishes this ABI in two headers (torch/csrc/inductor/aoti_torch/c/shim.h and torch/csrc/stable/c/shim.h) that
 * have C linkage but C++ text. We declare what we call, and find it in the libtorch that `import torch` has already
 * loaded, so building sumix needs no torch and one binary serves every release from 2.10 on.
 *
 * To use another function: add one line to SUMIX_TORCH_SYMBOLS, to SUMIX_TORCH_CUDA_SYMBOLS what only a torch with CUDA
 * has, or to SUMIX_TORCH_LATER_SYMBOLS what can be done without. tests/test_torch_abi.py compares every line with
 * torch's own headers.
 */
#ifndef SUMIX_TORCH_ABI_H
#define SUMIX_TORCH_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct AtenTensorOpaque *AtenTensorHandle;
typedef struct TorchLibraryOpaque *TorchLibraryHandle;
typedef struct CUDAGuardOpaque *CUDAGuardHandle;
typedef int32_t AOTITorchError;  // 0: success
typedef uint64_t StableIValue;   // an argument or result of a boxed kernel
typedef void (*BoxedKernel)(StableIValue *stack, uint64_t num_args, uint64_t num_results);
typedef void (*ParallelFunc)(int64_t begin, int64_t end, void *context);

/* The ABI this code is written for: major, minor, in the top bytes. Registration tells torch, so that a later torch
 * converts. */
#define SUMIX_TORCH_ABI ((UINT64_C(2) << 56) | (UINT64_C(10) << 48))

/* X(torch release it arrived in, result, name, parameters) */
#define SUMIX_TORCH_SYMBOLS(X)                                                                                         \
  X(2.9, void, aoti_torch_check,                                                                                       \
    (bool condition, const char *function, const char *file, uint32_t line, const char *message))                      \
  X(2.9, AOTITorchError, aoti_torch_library_init_def,                                                                  \
    (const char *ns, const char *file, uint32_t line, TorchLibraryHandle *library))                                    \
  X(2.9, AOTITorchError, aoti_torch_library_init_impl,                                                                 \
    (const char *ns, const char *key, const char *file, uint32_t line, TorchLibraryHandle *library))                   \
  X(2.9, AOTITorchError, aoti_torch_library_def, (TorchLibraryHandle library, const char *schema))                     \
  X(2.10, AOTITorchError, torch_library_impl,                                                                          \
    (TorchLibraryHandle library, const char *name, BoxedKernel kernel, uint64_t abi_version))                          \
  X(2.10, AOTITorchError, torch_parallel_for,                                                                          \
    (int64_t begin, int64_t end, int64_t grain_size, ParallelFunc body, void *context))                                \
  X(2.9, int32_t, aoti_torch_dtype_float32, (void))                                                                    \
  X(2.9, int32_t, aoti_torch_dtype_float64, (void))                                                                    \
  X(2.9, int32_t, aoti_torch_dtype_float16, (void))                                                                    \
  X(2.9, int32_t, aoti_torch_dtype_bfloat16, (void))                                                                   \
  X(2.9, int32_t, aoti_torch_dtype_uint8, (void))                                                                      \
  X(2.9, int32_t, aoti_torch_dtype_int8, (void))                                                                       \
  X(2.9, int32_t, aoti_torch_dtype_int16, (void))                                                                      \
  X(2.9, int32_t, aoti_torch_dtype_int32, (void))                                                                      \
  X(2.9, int32_t, aoti_torch_dtype_int64, (void))                                                                      \
  X(2.9, int32_t, aoti_torch_dtype_bool, (void))                                                                       \
  X(2.9, int32_t, aoti_torch_device_type_cpu, (void))                                                                  \
  X(2.9, int32_t, aoti_torch_device_type_cuda, (void))                                                                 \
  X(2.9, size_t, aoti_torch_dtype_element_size, (int32_t dtype))                                                       \
  X(2.9, AOTITorchError, aoti_torch_get_dim, (AtenTensorHandle tensor, int64_t *dim))                                  \
  X(2.9, AOTITorchError, aoti_torch_get_sizes, (AtenTensorHandle tensor, int64_t **sizes))                             \
  X(2.9, AOTITorchError, aoti_torch_get_dtype, (AtenTensorHandle tensor, int32_t *dtype))                              \
  X(2.9, AOTITorchError, aoti_torch_get_device_type, (AtenTensorHandle tensor, int32_t *type))                         \
  X(2.9, AOTITorchError, aoti_torch_get_device_index, (AtenTensorHandle tensor, int32_t *index))                       \
  X(2.9, AOTITorchError, aoti_torch_get_strides, (AtenTensorHandle tensor, int64_t **strides))                         \
  X(2.9, AOTITorchError, aoti_torch_get_numel, (AtenTensorHandle tensor, int64_t *numel))                              \
  X(2.9, AOTITorchError, aoti_torch_get_data_ptr, (AtenTensorHandle tensor, void **data))                              \
  X(2.9, AOTITorchError, aoti_torch_empty_strided,                                                                     \
    (int64_t dim, const int64_t *sizes, const int64_t *strides, int32_t dtype, int32_t device_type,                    \
     int32_t device_index, AtenTensorHandle *tensor))                                                                  \
  X(2.9, AOTITorchError, aoti_torch_delete_tensor_object, (AtenTensorHandle tensor))

/* NULL in a torch before that release. */
#define SUMIX_TORCH_LATER_SYMBOLS(X) X(2.13, const char *, torch_exception_get_what_without_backtrace, (void))

/* In libtorch_cuda. */
#define SUMIX_TORCH_CUDA_SYMBOLS(X)                                                                                    \
  X(2.9, AOTITorchError, aoti_torch_create_cuda_guard, (int32_t device_index, CUDAGuardHandle *guard))                 \
  X(2.9, AOTITorchError, aoti_torch_delete_cuda_guard, (CUDAGuardHandle guard))                                        \
  X(2.9, AOTITorchError, aoti_torch_get_current_cuda_stream, (int32_t device_index, void **stream))

#define SUMIX_TORCH_MEMBER(since, result, name, parameters) result(*name) parameters;
extern struct sumix_libtorch {
  SUMIX_TORCH_SYMBOLS(SUMIX_TORCH_MEMBER)
  SUMIX_TORCH_LATER_SYMBOLS(SUMIX_TORCH_MEMBER)
} libtorch;
extern struct sumix_libtorch_cuda {
  int32_t device_type;  // of CUDA tensors, or SUMIX_NO_DEVICE where torch has no CUDA: the rest is NULL then
  SUMIX_TORCH_CUDA_SYMBOLS(SUMIX_TORCH_MEMBER)
} libtorch_cuda;
#undef SUMIX_TORCH_MEMBER

enum { SUMIX_NO_DEVICE = -1 };

/* Fills `libtorch` and `libtorch_cuda` from the loaded libtorch. Returns NULL, or the name of what is missing. */
const char *sumix_torch_load(void);

#endif
