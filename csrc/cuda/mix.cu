/* Mixing each image of a batch with its partner on CUDA, and the gradients: the formulas of csrc/cpu/mix.c.
 *
 *   mix_box      out[i] = x[i] with box[i] filled from x[perm[i]]
 *   mix_linear   out[i] = lam[i] x[i] + (1 - lam[i]) x[perm[i]]
 *   soft_labels  the targets that go with either
 *
 * One launch each; none needs more than a few operations a byte, so all that counts is that every byte is moved once,
 * 16 at a time where addresses allow it, with several loads under way in each thread. x[perm] is never gathered.
 *
 * A sample is taken as flat memory, cut into vectors that know nothing of rows: rows of 17 pixels of 3 bytes begin
 * anywhere, but a sample of a multiple of 16 bytes begins on 16. Which bytes of a vector lie in the box is a bit mask
 * (mix.cuh): none or all of them in nearly all vectors, which then are read from one image alone; at the edges both are
 * read and selected from byte by byte.
 *
 * The gradients gather: each image looks through perm for those that took it (sumix_takers), and adds in their order.
 * No atomics, any partners, the same bits every time. Half precision is added up in float and rounded once.
 */
#include "mix.cuh"

namespace
{

enum { BACKWARD_ITEMS = 2 };  // vectors a thread: their sums stay in registers, 16 floats for halves

/* One launch, n * size bytes read and as many written, and what edges have in common with both images, which is in the
 * cache beside them. Per vector some 40 integer instructions; an H100 has time for 270 while memory moves 32 bytes. */
template <int bytes> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    mix_box_forward(int64_t n, int64_t size, int64_t parts, struct mix_planes planes, int64_t width, int64_t pixel,
                    const char *__restrict__ x, const int64_t *__restrict__ box, const int64_t *__restrict__ perm,
                    char *__restrict__ out)
{
  typedef typename mix_words<bytes>::type vector;
  enum { ALL = (1 << bytes) - 1 };
  for (int64_t task = blockIdx.x; task < n * parts; task += gridDim.x) {
    const int64_t i = task / parts, part = task - i * parts;
    const struct mix_box b = mix_read_box(box, i, planes.height, width, pixel);
    const char *const own = x + i * size, *const partner = x + mix_read_partner(perm, i, n) * size;
    const int64_t first = (part * MIX_THREADS * MIX_ITEMS + threadIdx.x) * bytes;
    struct mix_place place = mix_place_of(first, planes.row, planes.height);
    vector found[MIX_ITEMS];
    unsigned inside[MIX_ITEMS];
#pragma unroll
    for (int k = 0; k < MIX_ITEMS; k++) {
      const int64_t at = first + k * MIX_THREADS * bytes;
      if (at >= size) continue;
      inside[k] = mix_in_box<bytes>(place, planes, b);
      found[k] = *(const vector *)((inside[k] == ALL ? partner : own) + at);
      mix_advance(&place, planes);
    }
#pragma unroll
    for (int k = 0; k < MIX_ITEMS; k++) {
      const int64_t at = first + k * MIX_THREADS * bytes;
      if (at >= size) continue;
      if (inside[k] != 0 && inside[k] != ALL)
        found[k] = mix_select(inside[k], *(const vector *)(partner + at), found[k]);
      *(vector *)(out + i * size + at) = found[k];
    }
  }
}

/* What a thread of a backward kernel has added up, to its elements of a sample's row. */
template <typename element, int count, typename real>
__device__ inline void store_sums(const real (*sum)[count], int64_t first, int64_t size, element *__restrict__ row)
{
#pragma unroll
  for (int k = 0; k < BACKWARD_ITEMS; k++) {
    const int64_t at = first + k * MIX_THREADS * count;
    if (at >= size) continue;
    sumix_vector<element, count> result;
#pragma unroll
    for (int c = 0; c < count; c++) sumix_from_real(sum[k][c], &result.at[c]);
    *(sumix_vector<element, count> *)(row + at) = result;
  }
}

/* One launch, n * size elements read and as many written, `count` of them 16 bytes. The own gradient is read outside of
 * the own box, others' inside theirs. */
template <typename element, int count> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    mix_box_backward(int64_t n, int64_t size, int64_t parts, struct mix_planes planes, int64_t width, int64_t channels,
                     const element *__restrict__ grad_out, const int64_t *__restrict__ box,
                     const int64_t *__restrict__ perm, element *__restrict__ grad_x)
{
  typedef typename sumix_compute<element>::real real;
  typedef sumix_vector<element, count> vector;
  enum { ALL = (1 << count) - 1 };
  for (int64_t task = blockIdx.x; task < n * parts; task += gridDim.x) {
    const int64_t i = task / parts, part = task - i * parts;
    const int64_t first = (part * MIX_THREADS * BACKWARD_ITEMS + threadIdx.x) * count;
    const struct mix_place start = mix_place_of(first, planes.row, planes.height);
    const struct mix_box hole = mix_read_box(box, i, planes.height, width, channels);
    real sum[BACKWARD_ITEMS][count];
    struct mix_place place = start;
#pragma unroll
    for (int k = 0; k < BACKWARD_ITEMS; k++) {
      const int64_t at = first + k * MIX_THREADS * count;
      const unsigned outside = at < size ? ~mix_in_box<count>(place, planes, hole) & ALL : 0;
      vector own;
      if (outside != 0) own = *(const vector *)(grad_out + i * size + at);
#pragma unroll
      for (int c = 0; c < count; c++) sum[k][c] = outside >> c & 1 ? sumix_to_real(own.at[c]) : 0;
      mix_advance(&place, planes);
    }
    for (int64_t from = 0; from < n; from += SUMIX_WARP)
      for (unsigned took = sumix_takers(perm, n, from, i); took != 0; took &= took - 1) {
        const int64_t j = from + __ffs((int)took) - 1;
        const struct mix_box b = mix_box_at(box, j, channels);
        place = start;
#pragma unroll
        for (int k = 0; k < BACKWARD_ITEMS; k++) {
          const int64_t at = first + k * MIX_THREADS * count;
          const unsigned inside = at < size ? mix_in_box<count>(place, planes, b) : 0;
          mix_advance(&place, planes);
          if (inside == 0) continue;
          const vector pasted = *(const vector *)(grad_out + j * size + at);
#pragma unroll
          for (int c = 0; c < count; c++)
            if (inside >> c & 1) sum[k][c] += sumix_to_real(pasted.at[c]);
        }
      }
    store_sums<element, count>(sum, first, size, grad_x + i * size);
  }
}

template <typename element, int count, typename real, typename words>
__device__ words mean_of_words(real weight, words own, real rest, words partner)
{
  typedef sumix_vector<element, count> vector;
  vector a = mix_as<vector>(own);
  const vector b = mix_as<vector>(partner);
#pragma unroll
  for (int c = 0; c < count; c++) mix_mean(weight, a.at[c], rest, b.at[c], &a.at[c]);
  return mix_as<words>(a);
}

/* One launch, 2 n size elements read (from cache the second time, if it holds a batch), n size written. */
template <typename element, int count> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    mix_linear_forward(int64_t n, int64_t size, int64_t parts, const element *__restrict__ x,
                       const float *__restrict__ lam, const int64_t *__restrict__ perm, element *__restrict__ out)
{
  typedef typename sumix_compute<element>::real real;
  typedef typename mix_words<sizeof(element) * count>::type words;
  for (int64_t task = blockIdx.x; task < n * parts; task += gridDim.x) {
    const int64_t i = task / parts, part = task - i * parts;
    const real weight = mix_read_lam(lam, i), rest = 1 - weight;
    const element *const partner = x + mix_read_partner(perm, i, n) * size;
    const element *const own = weight == 0 ? partner : x + i * size;
    const bool mixed = weight != 0 && weight != 1;  // a weight of 0 takes nothing, not even a NaN
    const int64_t first = (part * MIX_THREADS * MIX_ITEMS + threadIdx.x) * count;
    words found[MIX_ITEMS], other[MIX_ITEMS];
#pragma unroll
    for (int k = 0; k < MIX_ITEMS; k++) {
      const int64_t at = first + k * MIX_THREADS * count;
      if (at >= size) continue;
      found[k] = *(const words *)(own + at);
      if (mixed) other[k] = *(const words *)(partner + at);
    }
#pragma unroll
    for (int k = 0; k < MIX_ITEMS; k++) {
      const int64_t at = first + k * MIX_THREADS * count;
      if (at >= size) continue;
      if (mixed) found[k] = mean_of_words<element, count>(weight, found[k], rest, other[k]);
      *(words *)(out + i * size + at) = found[k];
    }
  }
}

/* One launch, bytes as forward for a permutation. */
template <typename element, int count> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    mix_linear_backward(int64_t n, int64_t size, int64_t parts, const element *__restrict__ grad_out,
                        const float *__restrict__ lam, const int64_t *__restrict__ perm, element *__restrict__ grad_x)
{
  typedef typename sumix_compute<element>::real real;
  typedef sumix_vector<element, count> vector;
  for (int64_t task = blockIdx.x; task < n * parts; task += gridDim.x) {
    const int64_t i = task / parts, part = task - i * parts;
    const int64_t first = (part * MIX_THREADS * BACKWARD_ITEMS + threadIdx.x) * count;
    const real weight = mix_read_lam(lam, i);
    real sum[BACKWARD_ITEMS][count];
#pragma unroll
    for (int k = 0; k < BACKWARD_ITEMS; k++) {
      const int64_t at = first + k * MIX_THREADS * count;
      const bool taken = at < size && weight != 0;
      vector own;
      if (taken) own = *(const vector *)(grad_out + i * size + at);
#pragma unroll
      for (int c = 0; c < count; c++) sum[k][c] = taken ? weight * sumix_to_real(own.at[c]) : 0;
    }
    for (int64_t from = 0; from < n; from += SUMIX_WARP)
      for (unsigned took = sumix_takers(perm, n, from, i); took != 0; took &= took - 1) {
        const int64_t j = from + __ffs((int)took) - 1;
        const real rest = 1 - (real)lam[j];
        if (rest == 0) continue;
#pragma unroll
        for (int k = 0; k < BACKWARD_ITEMS; k++) {
          const int64_t at = first + k * MIX_THREADS * count;
          if (at >= size) continue;
          const vector mixed_in = *(const vector *)(grad_out + j * size + at);
#pragma unroll
          for (int c = 0; c < count; c++) sum[k][c] += rest * sumix_to_real(mixed_in.at[c]);
        }
      }
    store_sums<element, count>(sum, first, size, grad_x + i * size);
  }
}

/* One launch, 4 n k bytes written: a thread a vector, since k may be 10 or 100,000. */
template <int count> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    soft_labels_forward(int64_t n, int64_t k, float floor, float kept, const int64_t *__restrict__ y_a,
                        const int64_t *__restrict__ y_b, const float *__restrict__ lam, float *__restrict__ soft)
{
  const int64_t a_row = k / count;
  for (int64_t v = blockIdx.x * (int64_t)MIX_THREADS + threadIdx.x; v < n * a_row;
       v += gridDim.x * (int64_t)MIX_THREADS) {
    const int64_t i = v / a_row, first = (v - i * a_row) * count, a = y_a[i], b = y_b[i];
    assert(a >= 0 && a < k && "y_a is out of range");
    assert(b >= 0 && b < k && "y_b is out of range");
    const float weight = mix_read_lam(lam, i);
    sumix_vector<float, count> result;
#pragma unroll
    for (int c = 0; c < count; c++) {
      result.at[c] = floor;
      if (first + c == a) result.at[c] += kept * weight;
      if (first + c == b) result.at[c] += kept * (1 - weight);
    }
    ((sumix_vector<float, count> *)soft)[v] = result;
  }
}

struct box {
  template <int bytes> static void run(const struct sumix_mix_box_args *a, void *stream)
  {
    const struct sumix_layout *const l = &a->layout;
    const int64_t size = mix_sample_size(l);
    const int64_t parts = mix_parts(size / bytes, MIX_ITEMS);
    const struct mix_planes planes = mix_planes_of(l->width * l->pixel, l->height, MIX_THREADS * bytes);
    SUMIX_LAUNCH(mix_box_forward<bytes>, sumix_grid(l->n * parts, 1), MIX_THREADS, 0, stream, l->n, size, parts, planes,
                 l->width, l->pixel, (const char *)a->x, a->box, a->perm, (char *)a->out);
  }
};
struct box_backward {
  template <typename element> static void run(const struct sumix_mix_box_backward_args *a, void *stream)
  {
    if (mix_widest(mix_sample_size(&a->layout) | (uint64_t)a->grad_out | (uint64_t)a->grad_x) == 16)
      launch<element, 16 / sizeof(element)>(a, stream);
    else
      launch<element, 1>(a, stream);
  }
  template <typename element, int count> static void launch(const struct sumix_mix_box_backward_args *a, void *stream)
  {
    const struct sumix_layout *const l = &a->layout;
    const int64_t size = mix_sample_size(l) / sizeof(element), channels = l->pixel / sizeof(element);
    const int64_t parts = mix_parts(size / count, BACKWARD_ITEMS);
    const struct mix_planes planes = mix_planes_of(l->width * channels, l->height, MIX_THREADS * count);
    SUMIX_LAUNCH((mix_box_backward<element, count>), sumix_grid(l->n * parts, 1), MIX_THREADS, 0, stream, l->n, size,
                 parts, planes, l->width, channels, (const element *)a->grad_out, a->box, a->perm,
                 (element *)a->grad_x);
  }
};
struct linear {
  template <typename element> static void run(const struct sumix_mix_linear_args *a, void *stream)
  {
    if (mix_widest(a->size * sizeof(element) | (uint64_t)a->x | (uint64_t)a->out) == 16)
      launch<element, 16 / sizeof(element)>(a, stream);
    else
      launch<element, 1>(a, stream);
  }
  template <typename element, int count> static void launch(const struct sumix_mix_linear_args *a, void *stream)
  {
    const int64_t parts = mix_parts(a->size / count, MIX_ITEMS);
    SUMIX_LAUNCH((mix_linear_forward<element, count>), sumix_grid(a->n * parts, 1), MIX_THREADS, 0, stream, a->n,
                 a->size, parts, (const element *)a->x, a->lam, a->perm, (element *)a->out);
  }
};
struct linear_backward {
  template <typename element> static void run(const struct sumix_mix_linear_backward_args *a, void *stream)
  {
    if (mix_widest(a->size * sizeof(element) | (uint64_t)a->grad_out | (uint64_t)a->grad_x) == 16)
      launch<element, 16 / sizeof(element)>(a, stream);
    else
      launch<element, 1>(a, stream);
  }
  template <typename element, int count>
  static void launch(const struct sumix_mix_linear_backward_args *a, void *stream)
  {
    const int64_t parts = mix_parts(a->size / count, BACKWARD_ITEMS);
    SUMIX_LAUNCH((mix_linear_backward<element, count>), sumix_grid(a->n * parts, 1), MIX_THREADS, 0, stream, a->n,
                 a->size, parts, (const element *)a->grad_out, a->lam, a->perm, (element *)a->grad_x);
  }
};
struct soft {
  template <int count> static void run(const struct sumix_soft_labels_args *a, void *stream)
  {
    const float floor = (float)(a->smoothing / (double)a->k), kept = (float)(1 - a->smoothing);
    SUMIX_LAUNCH(soft_labels_forward<count>, sumix_grid(a->n * a->k / count, MIX_THREADS), MIX_THREADS, 0, stream, a->n,
                 a->k, floor, kept, a->y_a, a->y_b, a->lam, a->soft);
  }
};

}  // namespace

extern "C" int sumix_mix_box_cuda(const struct sumix_mix_box_args *a, void *stream)
{
  const int64_t size = mix_sample_size(&a->layout);
  if (a->layout.n * size == 0) return 0;
  mix_by_width<box>(mix_widest(size | (uint64_t)a->x | (uint64_t)a->out), a, stream);
  return (int)cudaGetLastError();
}

extern "C" int sumix_mix_box_backward_cuda(const struct sumix_mix_box_backward_args *a, void *stream)
{
  if (a->layout.n * mix_sample_size(&a->layout) == 0) return 0;
  sumix_by_floating<box_backward>(a->dtype, a, stream);
  return (int)cudaGetLastError();
}

extern "C" int sumix_mix_linear_cuda(const struct sumix_mix_linear_args *a, void *stream)
{
  if (a->n * a->size == 0) return 0;
  mix_by_dtype<linear>(a->dtype, a, stream);
  return (int)cudaGetLastError();
}

extern "C" int sumix_mix_linear_backward_cuda(const struct sumix_mix_linear_backward_args *a, void *stream)
{
  if (a->n * a->size == 0) return 0;
  sumix_by_floating<linear_backward>(a->dtype, a, stream);
  return (int)cudaGetLastError();
}

extern "C" int sumix_soft_labels_cuda(const struct sumix_soft_labels_args *a, void *stream)
{
  if (a->n == 0) return 0;
  if (a->k % 4 == 0 && sumix_is_aligned(a->soft, 16))
    soft::run<4>(a, stream);
  else
    soft::run<1>(a, stream);
  return (int)cudaGetLastError();
}
