/* Runs .cu files on the CPU. Put this folder first on g++'s include path and compile csrc/cuda/<stem>.cu unchanged with
 * -x c++ -std=c++20 -Wno-unknown-pragmas; link fibres.cpp, compiled without sanitizers.
 *
 * Every thread of a block runs, on a stack of its own, until it waits for others: at a barrier, a shuffle or a vote.
 * The emulator then goes on with the next thread, in the order that emulated.h sets; the same goes for the blocks of a
 * launch, which run one after another. So a run is repeatable, a result that depends on who comes first differs between
 * orders, and a thread that waits where others do not is found at once and reported.
 *
 * The sanitizers know about the stacks:
 *   AddressSanitizer sees every access to global, static and dynamic shared memory.
 *   ThreadSanitizer takes every thread of every block for a thread of its own. __syncthreads and __syncwarp order what
 *   is
 *     before them and after them, among those who take part; shuffles and votes, as on a GPU, order nothing, and
 *     nothing orders two blocks of a launch but __threadfence. So it reports races within a block and between blocks,
 *     in whatever order they run.
 * Without them, the Makefile has every vector access trap whose address is no multiple of its size.
 * Shared memory holds garbage when a block starts, other garbage in other orders.
 *
 * One-dimensional grids and blocks of whole warps. assert() ends the launch with cudaErrorAssert.
 */
#ifndef SUMIX_EMULATED_CUDA_RUNTIME_H
#define SUMIX_EMULATED_CUDA_RUNTIME_H

#include <assert.h>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // all that a .cu file has of .bss: the Makefile moves that to a section, sumix_shared
#define SUMIX_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                   \
  ((void)(stream), emulated::launch_body((grid), (block), (shared_bytes), [=] { kernel(__VA_ARGS__); }))
#define SUMIX_DYNAMIC_SHARED() emulated::dynamic_shared()

typedef int cudaError_t;
typedef struct emulated_stream *cudaStream_t;
enum { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9, cudaErrorAssert = 710 };

struct emulated_index {
  unsigned x, y, z;
};
typedef emulated_index dim3;

namespace emulated
{

struct place {
  emulated_index thread, block;
};
extern place *self;  // of the thread that runs
extern emulated_index block_size, grid_size;

void launch(unsigned grid, unsigned threads, size_t shared_bytes, void (*body)(const void *), const void *context);
template <typename Body> void launch_body(unsigned grid, unsigned threads, size_t shared_bytes, Body body)
{
  launch(grid, threads, shared_bytes, [](const void *context) { (*(const Body *)context)(); }, &body);
}

void *dynamic_shared();
[[noreturn]] void fail(const char *condition, const char *file, int line);

/* Waits for the block. Returns how many of its threads came with a predicate that is not 0; `all`: how many came. */
int block_barrier(int predicate, int *all);

/* Waits for the lanes of the mask, which must all come here with the same mask and purpose. `sent` is what each lane
 * sends; returns their array, whole until the next call of this lane. orders: memory too. */
const uint64_t *warp_exchange(unsigned mask, uint64_t sent, const char *purpose, bool orders);

template <typename T> T from_lane(unsigned mask, T value, int lane, const char *purpose)
{
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t sent = 0;
  memcpy(&sent, &value, sizeof value);
  const uint64_t *all = warp_exchange(mask, sent, purpose, false);
  if ((mask >> lane & 1) == 0) fail("a shuffle reads a lane outside its mask", __FILE__, __LINE__);
  memcpy(&value, &all[lane], sizeof value);
  return value;
}

inline int lane() { return (int)(self->thread.x % 32); }

}  // namespace emulated

#define threadIdx (emulated::self->thread)
#define blockIdx (emulated::self->block)
#define blockDim (emulated::block_size)
#define gridDim (emulated::grid_size)

#undef assert
#define assert(condition) ((condition) ? (void)0 : emulated::fail(#condition, __FILE__, __LINE__))

/* ---- Host ---- */

extern "C" cudaError_t cudaGetLastError();
extern "C" const char *cudaGetErrorString(cudaError_t error);
inline cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t)
{
  memset(memory, value, bytes);
  return cudaSuccess;
}

/* ---- Barriers, votes, shuffles ---- */

inline void __syncthreads() { emulated::block_barrier(0, nullptr); }
inline int __syncthreads_count(int predicate) { return emulated::block_barrier(predicate, nullptr); }
inline int __syncthreads_or(int predicate) { return emulated::block_barrier(predicate, nullptr) != 0; }
inline int __syncthreads_and(int predicate)
{
  int all;
  return emulated::block_barrier(predicate, &all) == all;
}
inline void __syncwarp(unsigned mask = ~0u) { emulated::warp_exchange(mask, 0, "__syncwarp", true); }
inline unsigned __ballot_sync(unsigned mask, int predicate)
{
  const uint64_t *all = emulated::warp_exchange(mask, predicate != 0, "vote", false);
  unsigned ballot = 0;
  for (unsigned lane = 0; lane < 32; lane++)
    if (mask >> lane & 1) ballot |= (unsigned)all[lane] << lane;
  return ballot;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == mask; }

/* Within segments of `width` lanes; a source outside the own segment means the own value. */
template <typename T> T __shfl_sync(unsigned mask, T value, int source, int width = 32)
{
  return emulated::from_lane(mask, value, emulated::lane() / width * width + (source & (width - 1)), "__shfl_sync");
}
template <typename T> T __shfl_xor_sync(unsigned mask, T value, int flipped, int width = 32)
{
  const int lane = emulated::lane(), source = lane ^ flipped;
  return emulated::from_lane(mask, value, source / width > lane / width ? lane : source, "__shfl_xor_sync");
}
template <typename T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32)
{
  const int lane = emulated::lane();
  return emulated::from_lane(mask, value, lane % width < (int)delta ? lane : lane - (int)delta, "__shfl_up_sync");
}
template <typename T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32)
{
  const int lane = emulated::lane();
  return emulated::from_lane(mask, value, lane % width + (int)delta >= width ? lane : lane + (int)delta,
                             "__shfl_down_sync");
}

/* ---- Atomics: relaxed, as on a GPU ---- */

void __threadfence();
inline void __threadfence_block() {}

/* old becomes change(old); returns old. */
template <typename T, typename Change> T emulated_atomic(T *at, Change change)
{
  T old, next;
  __atomic_load(at, &old, __ATOMIC_RELAXED);
  do next = change(old);
  while (!__atomic_compare_exchange(at, &old, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  return old;
}
template <typename T> T atomicAdd(T *at, T value)
{
  return emulated_atomic(at, [=](T old) { return (T)(old + value); });
}
template <typename T> T atomicMax(T *at, T value)
{
  return emulated_atomic(at, [=](T old) { return old > value ? old : value; });
}
template <typename T> T atomicMin(T *at, T value)
{
  return emulated_atomic(at, [=](T old) { return old < value ? old : value; });
}
template <typename T> T atomicOr(T *at, T value)
{
  return emulated_atomic(at, [=](T old) { return (T)(old | value); });
}
template <typename T> T atomicExch(T *at, T value)
{
  return emulated_atomic(at, [=](T) { return value; });
}
template <typename T> T atomicCAS(T *at, T expected, T value)
{
  return emulated_atomic(at, [=](T old) { return old == expected ? value : old; });
}

/* ---- Arithmetic ---- */

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz((unsigned)bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
template <typename T> T __ldg(const T *at) { return *at; }

#endif
