#include "device.h"

/* Why torch's last call failed, as far as a line goes: more of it would be torch's advice. */
static int because_of_torch(struct sumix_status *status, const char *what, const char *otherwise)
{
  const char *why = libtorch.torch_exception_get_what_without_backtrace != NULL
                        ? libtorch.torch_exception_get_what_without_backtrace()
                        : NULL;
  if (why == NULL || *why == '\0') why = otherwise;
  sumix_explain(status, "%s: %.*s", what, (int)strcspn(why, "\n"), why);
  status->no_fault_of_the_arguments = 1;
  return -1;
}

int sumix_not_allocated(const struct sumix_tensor *at, struct sumix_status *status)
{
  if (at->device_type == libtorch.aoti_torch_device_type_cpu()) return sumix_out_of_memory(status);
  return because_of_torch(status, "torch could not allocate", "out of memory, or what stderr says");
}

#ifdef SUMIX_CUDA_EMULATED

/* A kernel ran to its end, or to its first failed assertion, in the launcher; there is no stream. */
int sumix_launch_begin(const struct sumix_tensor *at, struct sumix_launch *launch, struct sumix_status *status)
{
  (void)at, (void)status;
  *launch = (struct sumix_launch){0};
  return 0;
}

static void drop(const struct sumix_launch *launch) { (void)launch; }
static const char *error_string(int error) { return (void)error, "emulated"; }
static const char architectures[] = "the emulator";

#elif defined SUMIX_CUDA

#include "cuda/device.h"

static void drop(const struct sumix_launch *launch) { libtorch_cuda.aoti_torch_delete_cuda_guard(launch->guard); }
static const char *error_string(int error) { return sumix_cuda_error_string(error); }
static const char architectures[] = SUMIX_CUDA;

/* The guard first: torch's streams belong to a device, and a launch goes wrong on a stream of another one. */
int sumix_launch_begin(const struct sumix_tensor *at, struct sumix_launch *launch, struct sumix_status *status)
{
  if (libtorch_cuda.aoti_torch_create_cuda_guard(at->device_index, &launch->guard) == 0) {
    if (libtorch_cuda.aoti_torch_get_current_cuda_stream(at->device_index, &launch->stream) == 0) return 0;
    drop(launch);
  }
  char what[64];
  snprintf(what, sizeof what, "torch could not make CUDA device %d the current one", (int)at->device_index);
  return because_of_torch(status, what, "stderr says why");
}

#endif

#if defined SUMIX_CUDA || defined SUMIX_CUDA_EMULATED

/* Of cudaError_t, which this file does without. */
enum { INSUFFICIENT_DRIVER = 35, NO_KERNEL_IMAGE_FOR_DEVICE = 209, DEVICE_SIDE_ASSERTION = 710 };

int sumix_launch_end(const struct sumix_launch *launch, int error, struct sumix_status *status)
{
  drop(launch);
  if (error == 0) return 0;
  if (error == NO_KERNEL_IMAGE_FOR_DEVICE)
    sumix_explain(status,
                  "this build has kernels for %s, and none for this GPU; built from source on this machine, or with "
                  "TORCH_CUDA_ARCH_LIST, sumix has them",
                  architectures);
  else if (error == INSUFFICIENT_DRIVER)
    sumix_explain(status, "this build of sumix holds a newer CUDA than the GPU's driver; built with an older one, or "
                          "with SUMIX_CUDA=0, it works");
  else if (error == DEVICE_SIDE_ASSERTION)
    sumix_explain(status, "device-side assertion: a value in the tensors is out of range, stderr says which");
  else
    sumix_explain(status, "CUDA error %d: %s", error, error_string(error));
  status->no_fault_of_the_arguments = 1;
  return -1;
}

#endif

int sumix_scratch_new(const struct sumix_tensor *at, int64_t bytes, struct sumix_device_scratch *scratch,
                      struct sumix_status *status)
{
  *scratch = (struct sumix_device_scratch){0};
  if (bytes == 0 || !sumix_is_on_device(at)) return 0;
  const int64_t stride = 1;
  if (libtorch.aoti_torch_empty_strided(1, &bytes, &stride, libtorch.aoti_torch_dtype_uint8(), at->device_type,
                                        at->device_index, &scratch->tensor) != 0)
    return sumix_not_allocated(at, status);
  if (libtorch.aoti_torch_get_data_ptr(scratch->tensor, &scratch->data) == 0) {
#ifdef SUMIX_CUDA_EMULATED
    memset(scratch->data, 0xa5, (size_t)bytes);  // as a GPU's memory is not zero either
#endif
    return 0;
  }
  sumix_scratch_free(scratch);
  SUMIX_FAIL(status, "torch could not describe the kernel's scratch memory");
}

void sumix_scratch_free(struct sumix_device_scratch *scratch)
{
  if (scratch->tensor != NULL) libtorch.aoti_torch_delete_tensor_object(scratch->tensor);
  *scratch = (struct sumix_device_scratch){0};
}
