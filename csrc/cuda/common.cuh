/* What the CUDA kernels share: launching, element types, vectors of 16 bytes, reductions over a block, and who was
 * pasted where.
 *
 * Every launcher runs on the current device and the given stream, allocates nothing and waits for nothing. What is
 * wrong inside tensors (labels, partners, boxes) is found by assert() on the device, as in torch's own kernels.
 */
#ifndef SUMIX_CUDA_COMMON_CUH
#define SUMIX_CUDA_COMMON_CUH

#undef NDEBUG  // whatever the flags: nothing but assertions keeps a wrong partner from being read
#include <assert.h>
#include <cuda_runtime.h>

#include "../half.h"
#include "../kernels.h"

/* kernel<<<grid, block, bytes of dynamic shared memory, stream>>>(...) for nvcc and for tests/cuda_emulation, which
 * cannot read that. Parentheses around a kernel with two template arguments: their comma would end the macro's. */
#ifndef SUMIX_LAUNCH
#define SUMIX_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                                                   \
  kernel<<<(grid), (block), (shared_bytes), (cudaStream_t)(stream)>>>(__VA_ARGS__)
#endif

/* Dynamic shared memory, 16-byte aligned. */
#ifndef SUMIX_DYNAMIC_SHARED
extern __shared__ uint4 sumix_dynamic_shared[];
#define SUMIX_DYNAMIC_SHARED() ((void *)sumix_dynamic_shared)
#endif

enum { SUMIX_WARP = 32 };

#ifndef SUMIX_MOST_BLOCKS  // tests ask for few, so that small batches too make blocks stride
#define SUMIX_MOST_BLOCKS 65535
#endif

/* Blocks, at least one, for `items` of which a block takes `per_block`; kernels stride on, so any number is right. */
static inline unsigned sumix_grid(int64_t items, int64_t per_block)
{
  const int64_t blocks = (items + per_block - 1) / per_block, most = SUMIX_MOST_BLOCKS;
  return (unsigned)(blocks < 1 ? 1 : blocks < most ? blocks : most);
}

/* ---- Element types: as they lie in memory, and what they are computed in ---- */

struct sumix_f16 {
  uint16_t bits;
};
struct sumix_bf16 {
  uint16_t bits;
};

template <typename element> struct sumix_compute {
  typedef float real;
};
template <> struct sumix_compute<double> {
  typedef double real;
};

__device__ inline float sumix_to_real(float x) { return x; }
__device__ inline double sumix_to_real(double x) { return x; }
__device__ inline float sumix_to_real(sumix_f16 x) { return sumix_float_of_half(x.bits); }
__device__ inline float sumix_to_real(sumix_bf16 x) { return sumix_float_of_bfloat(x.bits); }

__device__ inline void sumix_from_real(float value, float *x) { *x = value; }
__device__ inline void sumix_from_real(double value, double *x) { *x = value; }
__device__ inline void sumix_from_real(float value, sumix_f16 *x) { x->bits = sumix_half_of_float(value); }
__device__ inline void sumix_from_real(float value, sumix_bf16 *x) { x->bits = sumix_bfloat_of_float(value); }

/* Calls launch::run<element>(args, stream) for the element type that `dtype` names, one of the floating ones. */
template <typename launch, typename args_type>
static void sumix_by_floating(enum sumix_dtype dtype, const args_type *args, void *stream)
{
  if (dtype == SUMIX_FLOAT32) launch::template run<float>(args, stream);
  if (dtype == SUMIX_FLOAT64) launch::template run<double>(args, stream);
  if (dtype == SUMIX_FLOAT16) launch::template run<sumix_f16>(args, stream);
  if (dtype == SUMIX_BFLOAT16) launch::template run<sumix_bf16>(args, stream);
}

/* `count` elements that are read or written at once: 16 bytes are one instruction. */
template <typename element, int count> struct alignas(sizeof(element) * count) sumix_vector {
  element at[count];
};

static inline SUMIX_HD bool sumix_is_aligned(const void *pointer, int64_t bytes)
{
  return (uintptr_t)pointer % bytes == 0;
}

/* ---- The precision of exp and sqrt by type ---- */

__device__ inline float sumix_exp(float x) { return sumix_exp_f32(x); }
__device__ inline double sumix_exp(double x) { return sumix_exp_f64(x); }
__device__ inline float sumix_exp_unit(float x) { return sumix_exp_unit_f32(x); }
__device__ inline double sumix_exp_unit(double x) { return sumix_exp_unit_f64(x); }
__device__ inline float sumix_sqrt(float x) { return sqrtf(x); }
__device__ inline double sumix_sqrt(double x) { return sqrt(x); }

/* ---- Reductions: a fixed order, so the same bits every time ---- */

struct sumix_sum {
  template <typename T> __device__ T operator()(T a, T b) const { return a + b; }
};
struct sumix_max {
  template <typename T> __device__ T operator()(T a, T b) const { return a > b ? a : b; }
};
struct sumix_min {
  template <typename T> __device__ T operator()(T a, T b) const { return a < b ? a : b; }
};

/* Over a warp; every lane gets the result. */
template <typename T, typename combine> __device__ T sumix_warp_reduce(T value, combine op)
{
  for (int offset = SUMIX_WARP / 2; offset > 0; offset /= 2) value = op(value, __shfl_xor_sync(~0u, value, offset));
  return value;
}

/* Over the block; every thread gets the result. scratch: shared memory for 32 values, free again on return. */
template <typename T, typename combine> __device__ T sumix_block_reduce(T value, combine op, T *scratch)
{
  value = sumix_warp_reduce(value, op);
  if (threadIdx.x % SUMIX_WARP == 0) scratch[threadIdx.x / SUMIX_WARP] = value;
  __syncthreads();
  value = scratch[0];
  for (int warp = 1; warp < (int)(blockDim.x / SUMIX_WARP); warp++) value = op(value, scratch[warp]);
  __syncthreads();
  return value;
}

/* ---- Who took image i: the samples j with perm[j] = i, in ascending order ---- */

/* Of the samples first .. first + 32, those that took image i, as bits; for a whole warp. Backward passes gather by it:
 * every image looks through perm, which the cache holds, and adds in the order of the samples. No atomics, so any
 * partners, repeated ones too, give the same bits every time. */
__device__ inline unsigned sumix_takers(const int64_t *__restrict__ perm, int64_t n, int64_t first, int64_t i)
{
  const int64_t j = first + threadIdx.x % SUMIX_WARP;
  bool took = false;
  if (j < n) {
    assert(perm[j] >= 0 && perm[j] < n && "perm is out of range");
    took = perm[j] == i;
  }
  return __ballot_sync(~0u, took);
}

#endif
