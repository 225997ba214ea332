#include "boxed.h"

#include "device.h"

#include <sys/mman.h>

static AtenTensorHandle handle(StableIValue value)
{
  AtenTensorHandle tensor;
  memcpy(&tensor, &value, sizeof tensor);
  return tensor;
}

static void delete_tensors(const StableIValue *values, uint64_t count)
{
  for (uint64_t i = 0; i < count; i++)
    if (values[i] != 0) libtorch.aoti_torch_delete_tensor_object(handle(values[i]));
}

/* Fails unless all tensors share a device, including empty ones that stand for an absent tensor. */
static int expect_one_device(const StableIValue *args, const char *const *tensors, uint64_t num_tensors,
                             struct sumix_status *status)
{
  int32_t first_type = 0, first_index = 0, type, index;
  for (uint64_t t = 0; t < num_tensors; t++) {
    if (libtorch.aoti_torch_get_device_type(handle(args[t]), &type) ||
        libtorch.aoti_torch_get_device_index(handle(args[t]), &index))
      SUMIX_FAIL(status, "torch could not describe %s", tensors[t]);
    if (t == 0) first_type = type, first_index = index;
    SUMIX_CHECK(type == first_type && index == first_index, status, "%s must be on the device of %s", tensors[t],
                tensors[0]);
  }
  return 0;
}

void sumix_boxed(StableIValue *stack, uint64_t num_args, uint64_t num_results, const char *const *tensors,
                 uint64_t num_tensors, const char *name, sumix_op op)
{
  StableIValue args[SUMIX_MAX_ARGS] = {0}, results[SUMIX_MAX_ARGS] = {0};
  struct sumix_status status = {"this op has more arguments than SUMIX_MAX_ARGS", 1};
  int failed = 1;

  if (num_args <= SUMIX_MAX_ARGS && num_results <= SUMIX_MAX_ARGS) {
    memcpy(args, stack, num_args * sizeof *args);
    sumix_explain(&status, "the kernel failed");
    failed = expect_one_device(args, tensors, num_tensors, &status) || op(args, results, &status);
  } else {
    num_results = 0;
  }
  delete_tensors(stack, num_tensors);  // ours since the call; the op only borrowed them
  if (failed) {
    delete_tensors(results, num_results);
    /* sumix/ops/checks.py knows by the prefix what was wrong with the arguments, and makes it a ValueError. */
    char message[sizeof status.message + 64];
    snprintf(message, sizeof message, "sumix::%s%s: %s", name, status.no_fault_of_the_arguments ? " failed" : "",
             status.message);
    libtorch.aoti_torch_check(false, name, __FILE__, __LINE__, message);  // does not return
  }
  memcpy(stack, results, num_results * sizeof *results);
}

/* Torch's numbers for the dtypes that kernels compute with, in the order of enum sumix_dtype. */
static int32_t torch_dtype(enum sumix_dtype dtype)
{
  switch (dtype) {
    case SUMIX_FLOAT32: return libtorch.aoti_torch_dtype_float32();
    case SUMIX_FLOAT64: return libtorch.aoti_torch_dtype_float64();
    case SUMIX_FLOAT16: return libtorch.aoti_torch_dtype_float16();
    case SUMIX_BFLOAT16: return libtorch.aoti_torch_dtype_bfloat16();
    case SUMIX_UINT8: return libtorch.aoti_torch_dtype_uint8();
    case SUMIX_INT8: return libtorch.aoti_torch_dtype_int8();
    case SUMIX_INT16: return libtorch.aoti_torch_dtype_int16();
    case SUMIX_INT32: return libtorch.aoti_torch_dtype_int32();
    case SUMIX_INT64: return libtorch.aoti_torch_dtype_int64();
    case SUMIX_OTHER: break;
  }
  return -1;
}

static enum sumix_dtype dtype_of(int32_t torch)
{
  for (int dtype = 0; dtype < SUMIX_OTHER; dtype++)
    if (torch_dtype((enum sumix_dtype)dtype) == torch) return (enum sumix_dtype)dtype;
  return SUMIX_OTHER;
}

static const char *const dtype_names[] = {"float32", "float64", "float16", "bfloat16", "uint8",
                                          "int8",    "int16",   "int32",   "int64",    "of another dtype"};

size_t sumix_dtype_size(enum sumix_dtype dtype) { return libtorch.aoti_torch_dtype_element_size(torch_dtype(dtype)); }

enum sumix_dtype sumix_real_of(enum sumix_dtype dtype)
{
  return dtype == SUMIX_FLOAT64 ? SUMIX_FLOAT64 : SUMIX_FLOAT32;
}

bool sumix_is_floating(enum sumix_dtype dtype) { return dtype <= SUMIX_BFLOAT16; }

/* If one dimension has size 0, the others may be so large that products overflow: kernels multiply sizes, also by small
 * constants. This refuses such sizes; no memory could hold so many elements. */
static int expect_small(const char *name, int64_t dim, const int64_t *sizes, struct sumix_status *status)
{
  const int64_t most = INT64_C(1) << 48;
  int64_t product = 1;
  for (int64_t d = 0; d < dim; d++) {
    const int64_t size = sizes[d] > 1 ? sizes[d] : 1;
    SUMIX_CHECK(size <= most / product, status, "%s must have sizes whose product, but for those of 0, is at most 2^48",
                name);
    product *= size;
  }
  return 0;
}

int sumix_tensor_read(StableIValue argument, const char *name, struct sumix_tensor *tensor, struct sumix_status *status)
{
  const AtenTensorHandle from = handle(argument);
  int64_t *sizes, *strides;
  if (libtorch.aoti_torch_get_dim(from, &tensor->dim) || libtorch.aoti_torch_get_sizes(from, &sizes) ||
      libtorch.aoti_torch_get_strides(from, &strides) || libtorch.aoti_torch_get_numel(from, &tensor->numel) ||
      libtorch.aoti_torch_get_dtype(from, &tensor->torch_dtype) ||
      libtorch.aoti_torch_get_device_type(from, &tensor->device_type) ||
      libtorch.aoti_torch_get_device_index(from, &tensor->device_index) ||
      libtorch.aoti_torch_get_data_ptr(from, &tensor->data))
    SUMIX_FAIL(status, "torch could not describe %s", name);
  tensor->name = name;
  tensor->sizes = sizes;
  tensor->strides = strides;
  tensor->dtype = dtype_of(tensor->torch_dtype);
  return expect_small(name, tensor->dim, sizes, status);
}

bool sumix_is_contiguous(const struct sumix_tensor *tensor)
{
  if (tensor->numel == 0) return true;
  int64_t stride = 1;
  for (int64_t d = tensor->dim - 1; d >= 0; d--) {
    if (tensor->sizes[d] != 1 && tensor->strides[d] != stride) return false;
    stride *= tensor->sizes[d];
  }
  return true;
}

/* Whether the strides are those of a dense tensor whose dimensions lie in memory in this order, outermost first. */
static bool has_order(const struct sumix_tensor *x, const int64_t *order)
{
  int64_t stride = 1;
  for (int64_t d = x->dim - 1; d >= 0; d--) {
    const int64_t at = order[d];
    if (x->sizes[at] != 1 && x->strides[at] != stride) return false;
    stride *= x->sizes[at];
  }
  return true;
}

bool sumix_is_channels_last(const struct sumix_tensor *x)
{
  static const int64_t order_2d[] = {0, 2, 3, 1}, order_3d[] = {0, 2, 3, 4, 1};
  return (x->dim == 4 && has_order(x, order_2d)) || (x->dim == 5 && has_order(x, order_3d));
}

bool sumix_is_absent(const struct sumix_tensor *tensor) { return tensor->dim == 1 && tensor->sizes[0] == 0; }

int sumix_tensor_read_contiguous(StableIValue argument, const char *name, struct sumix_tensor *tensor,
                                 struct sumix_status *status)
{
  SUMIX_TRY(sumix_tensor_read(argument, name, tensor, status));
  SUMIX_CHECK(sumix_is_contiguous(tensor), status, "%s must be contiguous", name);
  return 0;
}

int sumix_tensor_expect(const struct sumix_tensor *tensor, enum sumix_dtype dtype, int64_t dim, const int64_t *sizes,
                        struct sumix_status *status)
{
  SUMIX_CHECK(tensor->dtype == dtype, status, "%s must be %s, got %s", tensor->name, dtype_names[dtype],
              dtype_names[tensor->dtype]);
  SUMIX_CHECK(tensor->dim == dim, status, "%s must have %lld dimensions, got %lld", tensor->name, (long long)dim,
              (long long)tensor->dim);
  for (int64_t d = 0; d < dim; d++)
    SUMIX_CHECK(sizes[d] == -1 || tensor->sizes[d] == sizes[d], status,
                "%s must have size %lld in dimension %lld, got %lld", tensor->name, (long long)sizes[d], (long long)d,
                (long long)tensor->sizes[d]);
  return 0;
}

/* Memory of 32 MiB and more (glibc's largest mmap threshold) comes fresh from the system and goes back at once, so that
 * every call pays for all its pages again: 4 KiB at a time that takes several times as long as filling them. The advice
 * to use huge pages is refused or ignored where it does not apply. */
static void prefer_huge_pages(const struct sumix_tensor *tensor)
{
#ifdef MADV_HUGEPAGE
  const uintptr_t huge = (uintptr_t)1 << 21, start = ((uintptr_t)tensor->data + huge - 1) / huge * huge;
  const size_t bytes = (size_t)tensor->numel * libtorch.aoti_torch_dtype_element_size(tensor->torch_dtype);
  const uintptr_t end = ((uintptr_t)tensor->data + bytes) / huge * huge;
  if (bytes >= 16 * huge && tensor->device_type == libtorch.aoti_torch_device_type_cpu())
    madvise((void *)start, end - start, MADV_HUGEPAGE);
#else
  (void)tensor;
#endif
}

int sumix_tensor_new(const struct sumix_tensor *like, enum sumix_dtype dtype, int64_t dim, const int64_t *sizes,
                     const int64_t *strides, StableIValue *result, struct sumix_tensor *tensor,
                     struct sumix_status *status)
{
  int64_t contiguous[SUMIX_MAX_DIM];
  if (strides == NULL) {
    SUMIX_CHECK(dim <= SUMIX_MAX_DIM, status, "at most %d dimensions, got %lld", SUMIX_MAX_DIM, (long long)dim);
    SUMIX_TRY(expect_small("the result", dim, sizes, status));
    for (int64_t d = dim - 1, stride = 1; d >= 0; stride *= sizes[d] > 1 ? sizes[d] : 1, d--) contiguous[d] = stride;
    strides = contiguous;
  }
  AtenTensorHandle made;
  const int32_t code = dtype == SUMIX_OTHER ? like->torch_dtype : torch_dtype(dtype);
  if (libtorch.aoti_torch_empty_strided(dim, sizes, strides, code, like->device_type, like->device_index, &made) != 0)
    return sumix_not_allocated(like, status);
  memcpy(result, &made, sizeof made);
  SUMIX_TRY(sumix_tensor_read(*result, "the result", tensor, status));
  prefer_huge_pages(tensor);
  return 0;
}
