/* csrc/device.c with a libtorch_cuda that only writes down what it is asked for: the guard is of the tensor's own
 * device, the stream is that device's current one and the launcher gets it, the guard is dropped whatever happens,
 * scratch is freed, and errors become messages.
 */
#include <stdarg.h>
#include <string.h>

#define SUMIX_CUDA "sm_80 compute_80"
#include "../../csrc/device.c"

#include "no_torch.h"

enum { CPU = 0, CUDA = 1, UINT8 = 7 };  // as the stubs below number them
static struct sumix_status status;
struct sumix_libtorch_cuda libtorch_cuda;

/* ---- What happened, in order ---- */

static char events[512];

__attribute__((format(printf, 1, 2))) static void note(const char *format, ...)
{
  const size_t length = strlen(events);
  va_list values;
  va_start(values, format);
  vsnprintf(events + length, sizeof events - length, format, values);
  va_end(values);
}

#define CHECK_EVENTS(expected)                                                                                         \
  do {                                                                                                                 \
    if (strcmp(events, expected) != 0) fprintf(stderr, "got \"%s\"\n", events);                                        \
    CHECK(strcmp(events, expected) == 0);                                                                              \
    *events = '\0';                                                                                                    \
  } while (0)

/* ---- libtorch ---- */

static char streams[4];  // one a device
static int guard_fails, stream_fails, allocation_fails, pointer_fails, launch_error;
static int guards, tensors;  // alive

static AOTITorchError create_guard(int32_t index, CUDAGuardHandle *guard)
{
  note("guard %d;", (int)index);
  if (guard_fails) return 1;
  *guard = (CUDAGuardHandle)exactly(1);
  guards++;
  return 0;
}

static AOTITorchError delete_guard(CUDAGuardHandle guard)
{
  note("drop;");
  free(guard);
  guards--;
  return 0;
}

static AOTITorchError current_stream(int32_t index, void **stream)
{
  note("stream %d;", (int)index);
  if (stream_fails) return 1;
  *stream = &streams[index];
  return 0;
}

static AOTITorchError empty_strided(int64_t dim, const int64_t *sizes, const int64_t *strides, int32_t dtype,
                                    int32_t device_type, int32_t device_index, AtenTensorHandle *tensor)
{
  CHECK(dim == 1 && strides[0] == 1 && dtype == UINT8);
  note("new %d bytes on %d:%d;", (int)sizes[0], (int)device_type, (int)device_index);
  if (allocation_fails) return 1;
  *tensor = (AtenTensorHandle)exactly((size_t)sizes[0]);
  tensors++;
  return 0;
}

static AOTITorchError data_ptr(AtenTensorHandle tensor, void **data)
{
  *data = tensor;
  return pointer_fails;
}

static AOTITorchError delete_tensor(AtenTensorHandle tensor)
{
  note("free;");
  free(tensor);
  tensors--;
  return 0;
}

static int32_t uint8_number(void) { return UINT8; }
static int32_t cpu_number(void) { return CPU; }

static const char *torch_said;
static const char *what_torch_said(void) { return torch_said; }

/* ---- One kernel, on the CPU and as a launcher ---- */

struct sumix_cpu_kernels sumix_cpu;

static int seed_on_cpu(const struct sumix_sample_seed_args *args, struct sumix_status *why)
{
  note("cpu kernel %d;", (int)args->n);
  if (launch_error != 0) SUMIX_FAIL(why, "the CPU kernel's own words");
  return 0;
}

int sumix_sample_seed_cuda(const struct sumix_sample_seed_args *args, void *stream)
{
  CHECK(guards == 1);
  note("launch %d on stream %d;", (int)args->n, (int)((char *)stream - streams));
  return launch_error;
}

const char *sumix_cuda_error_string(int error) { return error == 2 ? "out of memory" : "?"; }

/* ---- Tests ---- */

static const struct sumix_tensor on_cpu = {.device_type = CPU, .device_index = -1};
static const struct sumix_tensor on_second = {.device_type = CUDA, .device_index = 1};

static int run(const struct sumix_tensor *at)
{
  status = (struct sumix_status){"nothing", 0};
  return sumix_run_sample_seed(at, &(struct sumix_sample_seed_args){.n = 5}, &status);
}

static void test_where_it_runs(void)
{
  CHECK(run(&on_cpu) == 0);
  CHECK_EVENTS("cpu kernel 5;");
  CHECK(run(&on_second) == 0);
  CHECK_EVENTS("guard 1;stream 1;launch 5 on stream 1;drop;");
  CHECK(run(&(struct sumix_tensor){.device_type = CUDA, .device_index = 3}) == 0);
  CHECK_EVENTS("guard 3;stream 3;launch 5 on stream 3;drop;");
}

static void test_failures(void)
{
  launch_error = -1;
  CHECK(run(&on_cpu) == -1 && strcmp(status.message, "the CPU kernel's own words") == 0);
  CHECK(!status.no_fault_of_the_arguments);
  CHECK_EVENTS("cpu kernel 5;");

  launch_error = 2;
  CHECK(run(&on_second) == -1 && strcmp(status.message, "CUDA error 2: out of memory") == 0);
  CHECK(status.no_fault_of_the_arguments);
  CHECK_EVENTS("guard 1;stream 1;launch 5 on stream 1;drop;");
  launch_error = NO_KERNEL_IMAGE_FOR_DEVICE;
  CHECK(run(&on_second) == -1 && strstr(status.message, "sm_80 compute_80") != NULL);
  CHECK(strlen(status.message) < sizeof status.message - 64);  // room for more architectures
  launch_error = INSUFFICIENT_DRIVER;
  CHECK(run(&on_second) == -1 && strstr(status.message, "newer CUDA than the GPU's driver") != NULL);
  launch_error = DEVICE_SIDE_ASSERTION;
  CHECK(run(&on_second) == -1 && strstr(status.message, "out of range") != NULL);
  launch_error = 0;
  *events = '\0';

  guard_fails = 1;
  CHECK(run(&on_second) == -1 && strstr(status.message, "CUDA device 1") != NULL && status.no_fault_of_the_arguments);
  CHECK_EVENTS("guard 1;");
  guard_fails = 0, stream_fails = 1;
  CHECK(run(&on_second) == -1 && strstr(status.message, "CUDA device 1") != NULL && status.no_fault_of_the_arguments);
  CHECK_EVENTS("guard 1;stream 1;drop;");
  stream_fails = 0;
}

static void test_scratch(void)
{
  struct sumix_device_scratch scratch;
  CHECK(sumix_scratch_new(&on_cpu, 100, &scratch, &status) == 0 && scratch.data == NULL);
  sumix_scratch_free(&scratch);
  CHECK(sumix_scratch_new(&on_second, 0, &scratch, &status) == 0 && scratch.data == NULL);
  sumix_scratch_free(&scratch);
  CHECK_EVENTS("");

  CHECK(sumix_scratch_new(&on_second, 100, &scratch, &status) == 0 && scratch.data != NULL);
  memset(scratch.data, 0, 100);
  sumix_scratch_free(&scratch);
  sumix_scratch_free(&scratch);  // once is enough, twice no harm
  CHECK_EVENTS("new 100 bytes on 1:1;free;");

  allocation_fails = 1;
  CHECK(sumix_scratch_new(&on_second, 100, &scratch, &status) == -1 && status.no_fault_of_the_arguments);
  CHECK(strstr(status.message, "out of memory, or") != NULL);  // a torch that does not tell
  CHECK_EVENTS("new 100 bytes on 1:1;");
  libtorch.torch_exception_get_what_without_backtrace = what_torch_said;
  torch_said = "CUDA error: device-side assert triggered\nadvice";
  CHECK(sumix_scratch_new(&on_second, 100, &scratch, &status) == -1 && status.no_fault_of_the_arguments);
  CHECK(strcmp(status.message, "torch could not allocate: CUDA error: device-side assert triggered") == 0);
  CHECK(sumix_not_allocated(&on_cpu, &status) == -1 && strcmp(status.message, "out of memory") == 0);
  *events = '\0';
  guard_fails = 1;
  CHECK(run(&on_second) == -1 && strstr(status.message, "current one: CUDA error: device-side") != NULL);
  CHECK_EVENTS("guard 1;");
  guard_fails = 0, torch_said = NULL;
  CHECK(sumix_scratch_new(&on_second, 100, &scratch, &status) == -1 && strstr(status.message, "stderr") != NULL);
  libtorch.torch_exception_get_what_without_backtrace = NULL;
  *events = '\0';
  allocation_fails = 0, pointer_fails = 1;
  CHECK(sumix_scratch_new(&on_second, 100, &scratch, &status) == -1 && scratch.data == NULL);
  CHECK_EVENTS("new 100 bytes on 1:1;free;");
  pointer_fails = 0;
}

static void test_a_torch_without_cuda(void)
{
  libtorch_cuda = (struct sumix_libtorch_cuda){.device_type = SUMIX_NO_DEVICE};
  CHECK(run(&on_cpu) == 0);
  CHECK_EVENTS("cpu kernel 5;");
}

int main(void)
{
  sumix_cpu.sample_seed = seed_on_cpu;
  libtorch.aoti_torch_empty_strided = empty_strided;
  libtorch.aoti_torch_get_data_ptr = data_ptr;
  libtorch.aoti_torch_delete_tensor_object = delete_tensor;
  libtorch.aoti_torch_dtype_uint8 = uint8_number;
  libtorch.aoti_torch_device_type_cpu = cpu_number;
  libtorch_cuda = (struct sumix_libtorch_cuda){CUDA, create_guard, delete_guard, current_stream};
  test_where_it_runs();
  test_failures();
  test_scratch();
  test_a_torch_without_cuda();
  CHECK(guards == 0 && tensors == 0);
  printf("device: passed\n");
  return 0;
}
