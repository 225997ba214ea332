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

/* Shared memory is used twice. Without the second barrier a fast thread writes what a slow one has yet to read. */
__global__ void reused(const int *numbers, int *out, bool barrier)
{
  __shared__ int shared[THREADS];
  const int at = (int)(blockIdx.x * THREADS + threadIdx.x), next = (int)(threadIdx.x + 1) % THREADS;
  int sum = 0;
  for (int round = 0; round < 3; round++) {
    shared[threadIdx.x] = numbers[at] + round;
    __syncthreads();
    sum += shared[next];
    if (barrier || round != 1) __syncthreads();
  }
  out[at] = sum;
}

/* The first block writes before its barrier, the others after theirs: a barrier is a block's own. */
__global__ void between_barriers(int *out)
{
  if (threadIdx.x == 0 && blockIdx.x == 0) *out = 1;
  __syncthreads();
  if (threadIdx.x == 0 && blockIdx.x == 1) *out = 2;
  __syncthreads();
}

__global__ void same_value(int *out)
{
  if (threadIdx.x == 0) *out = 1;
}

/* Lanes hand on through shared memory what they wrote. A vote does not order memory, and __syncwarp that of a warp. */
enum how { BY_SYNCWARP, BY_VOTE, TO_NEXT_WARP };
template <enum how how> __global__ void handed_on(const int *numbers, int *out)
{
  __shared__ int shared[THREADS];
  const int at = (int)(blockIdx.x * THREADS + threadIdx.x);
  __syncwarp();
  shared[threadIdx.x] = numbers[at];
  if (how == BY_VOTE) __ballot_sync(~0u, 1);
  if (how != BY_VOTE) __syncwarp();
  out[at] = shared[threadIdx.x ^ (how == TO_NEXT_WARP ? 32 : 1)];
  __syncwarp();
}

/* Odd lanes and even ones wait among themselves. */
__global__ void half_warps(const int *numbers, int *out)
{
  __shared__ int shared[THREADS];
  const int at = (int)(blockIdx.x * THREADS + threadIdx.x);
  const unsigned mask = threadIdx.x % 2 == 0 ? 0x55555555u : 0xaaaaaaaau;
  shared[threadIdx.x] = numbers[at];
  __syncwarp(mask);
  out[at] = shared[threadIdx.x ^ 1];
  __syncwarp(mask);
}

__global__ void atomic_and_plain(int *out)
{
  __shared__ int shared;
  if (threadIdx.x == 0) shared = 0;
  __syncthreads();
  atomicAdd(&shared, 1);
  if (threadIdx.x == 33) out[blockIdx.x] = shared;
}

__global__ void vote_or_shuffle(int *out)
{
  if (threadIdx.x % 2 == 0)
    out[threadIdx.x] = (int)__ballot_sync(~0u, 1);
  else
    out[threadIdx.x] = __shfl_sync(~0u, 1, 0);
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

template <int zero> __global__ void uninitialised(int *out)
{
  __shared__ int shared[THREADS];
  out[blockIdx.x * THREADS + threadIdx.x] = shared[threadIdx.x];
  shared[threadIdx.x] = zero;  // what is never written the compiler knows to be 0
}

/* Blocks that run one after another find nothing of each other's. */
__global__ void uninitialised_dynamic(int *out)
{
  int *const shared = (int *)SUMIX_DYNAMIC_SHARED();
  out[blockIdx.x * THREADS + threadIdx.x] = shared[threadIdx.x];
  shared[threadIdx.x] = 0;
}

/* What some threads wrote before another one's assertion failed is the host's to read. */
__global__ void refused_late(int *out)
{
  out[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = 2;
  assert(threadIdx.x != 33 && "thread 33");
  __syncthreads();
}

__global__ void refused(const int *numbers) { assert(numbers[threadIdx.x] < 40 && "numbers is out of range"); }

/* 8 bytes at once, which x86 takes from anywhere. */
__global__ void vectors(const int *numbers, int *out)
{
  typedef sumix_vector<int, 2> vector;
  ((vector *)out)[threadIdx.x] = ((const vector *)numbers)[threadIdx.x];
}

}  // namespace

int main(int argc, char **argv)
{
  if (argc != 3) return 2;
  const char *const what = argv[1];
  sumix_emulated_order(atoi(argv[2]));
  const size_t bytes = BLOCKS * THREADS * sizeof(int);
  int *const numbers = (int *)malloc(bytes), *const out = (int *)calloc(1, bytes);
  int *const more = (int *)calloc(1, bytes);
  for (int i = 0; i < BLOCKS * THREADS; i++) numbers[i] = i;
  if (!strcmp(what, "right")) {
    SUMIX_LAUNCH(block_sums, BLOCKS, THREADS, THREADS * sizeof(int), NULL, numbers, out, true);
    SUMIX_LAUNCH(warp_sums, BLOCKS, THREADS, 0, NULL, numbers, out + BLOCKS + 1);
    SUMIX_LAUNCH(total, BLOCKS, THREADS, 0, NULL, numbers, out + BLOCKS, true);
    SUMIX_LAUNCH(reused, BLOCKS, THREADS, 0, NULL, numbers, more, true);
    SUMIX_LAUNCH(handed_on<BY_SYNCWARP>, BLOCKS, THREADS, 0, NULL, numbers, more);
    SUMIX_LAUNCH(vectors, 1, THREADS, 0, NULL, numbers, more);
  }
  if (!strcmp(what, "reused")) SUMIX_LAUNCH(reused, BLOCKS, THREADS, 0, NULL, numbers, out, false);
  if (!strcmp(what, "between_barriers")) SUMIX_LAUNCH(between_barriers, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "same_value")) SUMIX_LAUNCH(same_value, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "by_vote")) SUMIX_LAUNCH(handed_on<BY_VOTE>, BLOCKS, THREADS, 0, NULL, numbers, out);
  if (!strcmp(what, "to_next_warp")) SUMIX_LAUNCH(handed_on<TO_NEXT_WARP>, BLOCKS, THREADS, 0, NULL, numbers, out);
  if (!strcmp(what, "half_warps")) SUMIX_LAUNCH(half_warps, BLOCKS, THREADS, 0, NULL, numbers, out);
  if (!strcmp(what, "atomic_and_plain")) SUMIX_LAUNCH(atomic_and_plain, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "vote_or_shuffle")) SUMIX_LAUNCH(vote_or_shuffle, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "uninitialised_dynamic"))
    SUMIX_LAUNCH(uninitialised_dynamic, BLOCKS, THREADS, THREADS * sizeof(int), NULL, out);
  if (!strcmp(what, "refused_late")) SUMIX_LAUNCH(refused_late, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "race_within"))
    SUMIX_LAUNCH(block_sums, BLOCKS, THREADS, THREADS * sizeof(int), NULL, numbers, out, false);
  if (!strcmp(what, "race_between")) SUMIX_LAUNCH(total, BLOCKS, THREADS, 0, NULL, numbers, out, false);
  if (!strcmp(what, "last")) SUMIX_LAUNCH(last, BLOCKS, THREADS, 0, NULL, numbers, out);
  if (!strcmp(what, "beyond_global")) SUMIX_LAUNCH(beyond_global, BLOCKS, THREADS, 0, NULL, numbers, out);
  if (!strcmp(what, "beyond_shared")) SUMIX_LAUNCH(beyond_shared, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "beyond_dynamic")) SUMIX_LAUNCH(beyond_dynamic, BLOCKS, THREADS, THREADS * sizeof(int), NULL, out);
  if (!strcmp(what, "divergent")) SUMIX_LAUNCH(divergent, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "left")) SUMIX_LAUNCH(left, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "uninitialised")) SUMIX_LAUNCH(uninitialised<0>, BLOCKS, THREADS, 0, NULL, out);
  if (!strcmp(what, "misaligned_load")) SUMIX_LAUNCH(vectors, 1, THREADS, 0, NULL, numbers + 1, out);
  if (!strcmp(what, "misaligned_store")) SUMIX_LAUNCH(vectors, 1, THREADS, 0, NULL, numbers, out + 1);
  if (!strcmp(what, "refused")) SUMIX_LAUNCH(refused, BLOCKS, THREADS, 0, NULL, numbers);
  int sum = 0;
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) fprintf(stderr, "%s\n", cudaGetErrorString(error));
  for (int i = 0; error == cudaSuccess && i < BLOCKS * THREADS; i++) printf("%d ", out[i]);
  free(numbers);
  for (int i = 0; i < BLOCKS * THREADS; i++) sum += out[i] + more[i];
  printf("%d", sum);
  free(out);
  free(more);
  return error != cudaSuccess;
}
