/* Kernels that are wrong on purpose, one way each, to show that the emulator tells: tests/test_cuda_emulation.py runs
 * each and expects to be told. The first is right. */
#include <stdio.h>
#include <stdlib.h>

#include "../../csrc/cuda/common.cuh"
#include "emulated.h"

namespace
{

enum { THREADS = 64, BLOCKS = 3 };

/* Each block sums its numbers in shared memory. Without the barrier a thread may read what is not yet written. */
__global__ void block_sums(const int *numbers, int *sums, bool barrier)
{
  __shared__ unsigned shared[THREADS];
  unsigned *const doubled = (unsigned *)SUMIX_DYNAMIC_SHARED();
  const int number = numbers[blockIdx.x * THREADS + threadIdx.x];
  shared[threadIdx.x] = (unsigned)number;
  doubled[threadIdx.x] = 2 * (unsigned)number;
  if (barrier) __syncthreads();
  if (threadIdx.x == 0) {
    unsigned sum = 0;
    for (int t = 0; t < THREADS; t++) sum += shared[t] + doubled[t];
    sums[blockIdx.x] = (int)sum;
  }
}

/* The same by shuffles, within a warp. */
__global__ void warp_sums(const int *numbers, int *sums)
{
  int sum = numbers[blockIdx.x * THREADS + threadIdx.x];
  sum = sumix_warp_reduce(sum, sumix_sum());
  if (threadIdx.x % 32 == 0) sums[(blockIdx.x * THREADS + threadIdx.x) / 32] = sum;
}

/* Every block adds to one place. */
__global__ void total(const int *numbers, int *sum, bool atomic)
{
  const int number = numbers[blockIdx.x * THREADS];
  if (threadIdx.x == 0 && atomic) atomicAdd(sum, number);
  if (threadIdx.x == 0 && !atomic) *sum += number;
}

/* The last block's value stays, whichever that is. */
__global__ void last(const int *numbers, int *value)
{
  if (threadIdx.x == 0) *value = numbers[blockIdx.x * THREADS];
}

__global__ void beyond_global(const int *numbers, int *out)
{
  const int at = (int)(blockIdx.x * THREADS + threadIdx.x);
  out[at] = numbers[at + 1];
}

__global__ void beyond_shared(int *out)
{
  __shared__ int shared[THREADS];
  int *const at = shared;
  at[threadIdx.x + 1] = 1;
  __syncthreads();
  out[blockIdx.x * THREADS + threadIdx.x] = shared[threadIdx.x];
}

__global__ void beyond_dynamic(int *out)
{
  int *const shared = (int *)SUMIX_DYNAMIC_SHARED();
  shared[threadIdx.x + 1] = 1;
  out[blockIdx.x * THREADS + threadIdx.x] = (int)threadIdx.x;
}

/* Half of a warp waits for the block, the other half for the warp. */
__global__ void divergent(int *out)
{
  if (threadIdx.x < 16)
    __syncthreads();
  else
    __syncwarp();
  out[threadIdx.x] = 1;
}

__global__ void left(int *out)
{
  if (threadIdx.x == 40) return;
  out[threadIdx.x] = __shfl_sync(~0u, 1, 0);
}

__global__ void uninitialised(int *out)
{
  __shared__ int shared[THREADS];
  out[blockIdx.x * THREADS + threadIdx.x] = shared[threadIdx.x];
}

__global__ void refused(const int *numbers) { assert(numbers[threadIdx.x] < 40 && "numbers is out of range"); }

}  // namespace

int main(int argc, char **argv)
{
  if (argc != 3) return 2;
  const char *const what = argv[1];
  sumix_emulated_order(atoi(argv[2]));
  const size_t bytes = BLOCKS * THREADS * sizeof(int);
  int *const numbers = (int *)malloc(bytes), *const out = (int *)calloc(1, bytes);
  for (int i = 0; i < BLOCKS * THREADS; i++) numbers[i] = i;
  if (!strcmp(what, "right")) {
    SUMIX_LAUNCH(block_sums, BLOCKS, THREADS, THREADS * sizeof(int), NULL, numbers, out, true);
    SUMIX_LAUNCH(warp_sums, BLOCKS, THREADS, 0, NULL, numbers, out + BLOCKS + 1);
    SUMIX_LAUNCH(total, BLOCKS, THREADS, 0, NULL, numbers, out + BLOCKS, true);
  }
  if (!strcmp(what, "race_within"))
    SUMIX_LAUNCH(block_sums, BLOCKS, THREADS, THREADS * sizeof(int), NULL, numbers, out, false);
  if (!strcmp(what, "race_between")) SUMIX_LAUNCH(total, BLOCKS, THREADS, 0, NULL, numbers, out, false);
  if (!strcmp(what, "last")) SUMIX_LAUNCH(last, BLOCKS, THREADS, 0, NULL, numbers, out);
  if (!strcmp(what, "beyond_global")) SUMIX_LAUNCH(beyond_global, BLOCKS, THREADS, 0, NULL, numbers, out);
  if (!strcmp(what, "beyond_shared")) SUMIX_LAUNCH(beyond_shared, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "beyond_dynamic")) SUMIX_LAUNCH(beyond_dynamic, BLOCKS, THREADS, THREADS * sizeof(int), NULL, out);
  if (!strcmp(what, "divergent")) SUMIX_LAUNCH(divergent, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "left")) SUMIX_LAUNCH(left, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "uninitialised")) SUMIX_LAUNCH(uninitialised, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "refused")) SUMIX_LAUNCH(refused, BLOCKS, THREADS, 0, NULL, numbers);
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) fprintf(stderr, "%s\n", cudaGetErrorString(error));
  for (int i = 0; error == cudaSuccess && i < BLOCKS * THREADS; i++) printf("%d ", out[i]);
  free(numbers);
  free(out);
  return error != cudaSuccess;
}
