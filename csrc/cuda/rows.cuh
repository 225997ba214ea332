/* What the kernels over rows of classes share: how threads share out a row, and reductions over it.
 *
 * A row belongs to a group of threads: to part of a warp (2, 4, .. 32 lanes) while it is short, to a whole block where
 * it is longer. A thread takes SUMIX_VISIT elements of it at a time, 16 neighbouring bytes in one access where rows are
 * aligned, elements `width` apart where not, so that a warp's accesses are one stretch of memory either way. A row that
 * one visit covers is resident: what is known of it stays in registers from pass to pass. A longer one is streamed:
 * each pass reads its inputs again, from the L2 cache, and computes again what it needs, which costs less than the
 * memory traffic of temporaries would.
 *
 * The maximum of a softmax is not searched for first. Each thread sums exp(x - its own maximum), and the reduction
 * brings the sums to the common maximum, in one exchange for both. That saves a pass over a streamed row and a barrier
 * in any.
 */
#ifndef SUMIX_CUDA_ROWS_CUH
#define SUMIX_CUDA_ROWS_CUH

#include <float.h>

#include "common.cuh"

enum { SUMIX_VISIT = 4, SUMIX_WARP_VISIT = 32 * SUMIX_VISIT, SUMIX_MOST_REDUCED = 3 };

/* Threads of a block at most: what leaves 128 registers a thread, 255 of double. Rows of up to four times as many
 * classes are resident. */
template <typename real> struct sumix_row_threads {
  enum { most = sizeof(real) == 8 ? 256 : 512 };
};

/* ---- Launching ---- */

struct sumix_row_plan {
  unsigned threads, width;  // of a block, of a row
  bool resident;
};

/* A row a block of at most so many threads. */
static inline struct sumix_row_plan sumix_plan_blocks(int64_t k, int64_t most)
{
  const int64_t whole = (k + SUMIX_WARP_VISIT - 1) / SUMIX_WARP_VISIT * SUMIX_WARP;
  const unsigned threads = (unsigned)(whole < most ? whole : most);
  struct sumix_row_plan plan = {threads, threads, whole <= most};
  return plan;
}

/* The same, but several short rows a block. */
template <typename real> static struct sumix_row_plan sumix_plan_rows(int64_t k)
{
  if (k > SUMIX_WARP_VISIT) return sumix_plan_blocks(k, sumix_row_threads<real>::most);
  struct sumix_row_plan plan = {4 * SUMIX_WARP, 1, true};
  while (SUMIX_VISIT * (int64_t)plan.width < k) plan.width *= 2;
  return plan;
}

/* ---- A thread's elements ---- */

/* Of the threads of one row. */
struct sumix_row_group {
  int64_t k;
  int width, lane;
  bool vectors;  // a thread's elements of a visit are neighbours
};

/* vectors: every row begins where a vector may. */
__device__ inline struct sumix_row_group sumix_row_group_of(int64_t k, int width, bool vectors)
{
  struct sumix_row_group group = {k, width, (int)threadIdx.x % width, vectors && k % SUMIX_VISIT == 0};
  return group;
}

/* Elements first, first + step, ..: `count` of them, at most SUMIX_VISIT. */
struct sumix_visit {
  int64_t first;
  int step, count;
};

__device__ inline struct sumix_visit sumix_visit_of(const struct sumix_row_group *group, int64_t number)
{
  const int64_t begin = number * SUMIX_VISIT * group->width;
  struct sumix_visit visit = {begin + group->lane, group->width, 0};
  if (group->vectors) {
    visit.first = begin + SUMIX_VISIT * group->lane;
    visit.step = 1;
  }
  for (int e = 0; e < SUMIX_VISIT; e++) visit.count += visit.first + e * visit.step < group->k;
  return visit;
}

/* How many visits a row takes. */
template <bool resident> __device__ int64_t sumix_visits(const struct sumix_row_group *group)
{
  const int64_t a_visit = SUMIX_VISIT * (int64_t)group->width;
  return resident ? 1 : (group->k + a_visit - 1) / a_visit;
}

template <typename element> static inline SUMIX_HD int64_t sumix_visit_bytes()
{
  return sizeof(element) * SUMIX_VISIT < 16 ? sizeof(element) * SUMIX_VISIT : 16;
}

/* The part of a visit that one access reads. */
template <typename element> struct sumix_row_vector {
  enum { length = sizeof(element) == 8 ? 2 : SUMIX_VISIT, a_visit = (int)SUMIX_VISIT / length };
  typedef sumix_vector<element, length> type;
};

/* Where there are no elements: 0. */
template <typename element, typename real> __device__ void sumix_load_visit(const struct sumix_row_group *group,
                                                                            const struct sumix_visit *visit,
                                                                            const element *__restrict__ row, real *x)
{
  typedef sumix_row_vector<element> pieces;
  if (group->vectors) {
    for (int e = 0; e < SUMIX_VISIT; e++) x[e] = 0;
    if (visit->count == 0) return;
#pragma unroll
    for (int p = 0; p < pieces::a_visit; p++) {
      const typename pieces::type piece = ((const typename pieces::type *)(row + visit->first))[p];
      for (int e = 0; e < pieces::length; e++) x[p * pieces::length + e] = sumix_to_real(piece.at[e]);
    }
    return;
  }
  for (int e = 0; e < SUMIX_VISIT; e++)
    x[e] = e < visit->count ? sumix_to_real(row[visit->first + e * visit->step]) : (real)0;
}

template <typename element, typename real> __device__ void sumix_store_visit(const struct sumix_row_group *group,
                                                                             const struct sumix_visit *visit,
                                                                             const real *x, element *__restrict__ row)
{
  typedef sumix_row_vector<element> pieces;
  if (group->vectors) {
    if (visit->count == 0) return;
#pragma unroll
    for (int p = 0; p < pieces::a_visit; p++) {
      typename pieces::type piece;
      for (int e = 0; e < pieces::length; e++) sumix_from_real(x[p * pieces::length + e], &piece.at[e]);
      ((typename pieces::type *)(row + visit->first))[p] = piece;
    }
    return;
  }
  for (int e = 0; e < SUMIX_VISIT; e++)
    if (e < visit->count) sumix_from_real(x[e], &row[visit->first + e * visit->step]);
}

/* ---- Reductions over a row's threads; every one of them gets the result ---- */

/* In shared memory. Two turns: threads may come to the next reduction while others still read this one's. */
template <typename real> struct sumix_row_scratch {
  real at[2][2 * SUMIX_MOST_REDUCED][SUMIX_WARP];
};
template <typename real> struct sumix_row_reducer {
  struct sumix_row_scratch<real> *scratch;
  int width, turn;
};

__device__ inline float sumix_larger(float a, float b) { return fmaxf(a, b); }  // of NaN and a number the number
__device__ inline double sumix_larger(double a, double b) { return fmax(a, b); }
__device__ inline float sumix_log(float x) { return logf(x); }
__device__ inline double sumix_log(double x) { return log(x); }
template <typename real> __device__ real sumix_lowest() { return sizeof(real) == 8 ? (real)-DBL_MAX : (real)-FLT_MAX; }

struct sumix_max_number {
  template <typename T> __device__ T operator()(T a, T b) const { return sumix_larger(a, b); }
};

/* Over `width` neighbouring lanes. */
template <typename T, typename combine> __device__ T sumix_lanes_reduce(T value, combine op, int width)
{
  for (int offset = SUMIX_WARP / 2; offset > 0; offset /= 2)
    if (offset < width) value = op(value, __shfl_xor_sync(~0u, value, offset));
  return value;
}

/* Sums of `count` values at once. What a thread has written to shared memory before, others see after. */
template <int count, typename real> __device__ void sumix_row_sums(struct sumix_row_reducer<real> *over, real *values)
{
  static_assert(count <= 2 * SUMIX_MOST_REDUCED, "no room in the scratch");
  const int lane = threadIdx.x % SUMIX_WARP, warps = over->width / SUMIX_WARP;
#pragma unroll
  for (int v = 0; v < count; v++) values[v] = sumix_lanes_reduce(values[v], sumix_sum(), over->width);
  if (warps <= 1) {
    __syncwarp();
    return;
  }
  real(*const shared)[SUMIX_WARP] = over->scratch->at[over->turn];
  over->turn ^= 1;
  if (lane == 0)
#pragma unroll
    for (int v = 0; v < count; v++) shared[v][threadIdx.x / SUMIX_WARP] = values[v];
  __syncthreads();
#pragma unroll
  for (int v = 0; v < count; v++)
    values[v] = sumix_lanes_reduce(lane < warps ? shared[v][lane] : (real)0, sumix_sum(), SUMIX_WARP);
}

/* Brings a sum of exp(power (x - max)) to a larger maximum. */
template <int power, typename real> __device__ real sumix_rescale(real sum, real max, real larger)
{
  const real factor = sumix_exp(max - larger);
  return power == 1 ? sum * factor : sum * (factor * factor);
}

/* From each thread's maximum and sum of exp(power (x - maximum)) to the row's, `count` pairs at once. A maximum is at
 * least sumix_lowest, also where a thread has no element: -infinity minus itself would be NaN. */
template <int count, int power, typename real>
__device__ void sumix_row_softmaxes(struct sumix_row_reducer<real> *over, real *max, real *sum)
{
  static_assert(count <= SUMIX_MOST_REDUCED, "no room in the scratch");
  const int lane = threadIdx.x % SUMIX_WARP, warps = over->width / SUMIX_WARP;
#pragma unroll
  for (int v = 0; v < count; v++) {
    const real larger = sumix_lanes_reduce(max[v], sumix_max_number(), over->width);
    sum[v] = sumix_lanes_reduce(sumix_rescale<power>(sum[v], max[v], larger), sumix_sum(), over->width);
    max[v] = larger;
  }
  if (warps <= 1) {
    __syncwarp();
    return;
  }
  real(*const shared)[SUMIX_WARP] = over->scratch->at[over->turn];
  over->turn ^= 1;
  if (lane == 0)
#pragma unroll
    for (int v = 0; v < count; v++) {
      shared[2 * v][threadIdx.x / SUMIX_WARP] = max[v];
      shared[2 * v + 1][threadIdx.x / SUMIX_WARP] = sum[v];
    }
  __syncthreads();
#pragma unroll
  for (int v = 0; v < count; v++) {
    const real one = lane < warps ? shared[2 * v][lane] : sumix_lowest<real>();
    const real part = lane < warps ? shared[2 * v + 1][lane] : (real)0;
    max[v] = sumix_lanes_reduce(one, sumix_max_number(), SUMIX_WARP);
    sum[v] = sumix_lanes_reduce(sumix_rescale<power>(part, one, max[v]), sumix_sum(), SUMIX_WARP);
  }
}

/* This thread's share of a softmax: the maximum of its elements x, and the sum of exp(power (x - maximum)). held: of a
 * resident row exp(x - maximum). */
template <bool resident, int power, typename element, typename real>
__device__ void sumix_thread_softmax(const struct sumix_row_group *group, const element *__restrict__ row, real *max,
                                     real *sum, real *held)
{
  *max = sumix_lowest<real>();
  *sum = 0;
  const int64_t visits = sumix_visits<resident>(group);
  for (int64_t number = 0; number < visits; number++) {
    const struct sumix_visit visit = sumix_visit_of(group, number);
    real larger = *max;
    sumix_load_visit(group, &visit, row, held);
    for (int e = 0; e < SUMIX_VISIT; e++)
      if (e < visit.count) larger = sumix_larger(larger, held[e]);
    if (!resident) *sum = sumix_rescale<power>(*sum, *max, larger);
    *max = larger;
    for (int e = 0; e < SUMIX_VISIT; e++) {
      held[e] = e < visit.count ? sumix_exp(held[e] - larger) : (real)0;
      *sum += power == 1 ? held[e] : held[e] * held[e];
    }
  }
}

/* ---- Who took image i ---- */

/* The first sample from `from` on whose partner is i, n if there is none; for a whole block. perm has been checked, or
 * will be, by whoever reads through it. */
__device__ inline int64_t sumix_next_taker(const int64_t *__restrict__ perm, int64_t n, int64_t from, int64_t i,
                                           int64_t *scratch)
{
  const int64_t at_once = SUMIX_VISIT * (int64_t)blockDim.x;
  for (; from < n; from += at_once) {
    int64_t found = n;
    for (int e = SUMIX_VISIT - 1; e >= 0; e--) {
      const int64_t j = from + threadIdx.x + e * (int64_t)blockDim.x;
      if (j < n && perm[j] == i) found = j;
    }
    found = sumix_block_reduce(found, sumix_min(), scratch);
    if (found < n) return found;
  }
  return n;
}

#endif
