/* What csrc/device.c and the module ask of CUDA's runtime. It is linked statically, so without a driver these answer
 * too. None of them creates a context. */
#include <cuda_runtime.h>

#include "device.h"

extern "C" const char *sumix_cuda_error_string(int error) { return cudaGetErrorString((cudaError_t)error); }

extern "C" void sumix_cuda_versions(int *runtime, int *driver)
{
  if (cudaRuntimeGetVersion(runtime) != cudaSuccess) *runtime = 0;
  if (cudaDriverGetVersion(driver) != cudaSuccess) *driver = 0;
  cudaGetLastError();
}

extern "C" int sumix_cuda_count(int *count)
{
  const cudaError_t error = cudaGetDeviceCount(count);
  if (error != cudaSuccess) *count = 0;
  cudaGetLastError();  // nobody else is to find it
  return (int)error;
}

extern "C" int sumix_cuda_capability(int device, int *major, int *minor)
{
  cudaError_t error = cudaDeviceGetAttribute(major, cudaDevAttrComputeCapabilityMajor, device);
  if (error == cudaSuccess) error = cudaDeviceGetAttribute(minor, cudaDevAttrComputeCapabilityMinor, device);
  cudaGetLastError();
  return (int)error;
}
