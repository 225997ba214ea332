/* CUDA's runtime, as far as C needs to know it. Errors are cudaError_t. */
#ifndef SUMIX_CUDA_DEVICE_H
#define SUMIX_CUDA_DEVICE_H

#ifdef __cplusplus  // nvcc
extern "C" {
#endif

const char *sumix_cuda_error_string(int error);
void sumix_cuda_versions(int *runtime, int *driver);  // 1000 major + 10 minor; 0: none
int sumix_cuda_count(int *count);                     // of GPUs
int sumix_cuda_capability(int device, int *major, int *minor);

#ifdef __cplusplus
}
#endif

#endif
