/* Mixing each image with its partner by a mask, the weight of the own image pixel by pixel, and the gradient, on CUDA:
 * csrc/cpu/mix_mask.c with a thread per 16 bytes of a few planes.
 *
 *   out[i] = mask[i] x[i] + (1 - mask[i]) x[perm[i]]       (FMix; Harris et al., arXiv 2002.12047; and its kin)
 *
 * One launch each way, limited by memory: where a thread's weights are all 1 or all 0, as in most of a mask with large
 * areas, only one of the images is read. A mask of bytes is a choice, made on words of the element's size and so for
 * every dtype; a weight of exactly 0 takes nothing from its image, not even NaN. Means have the CPU kernel's bits.
 *
 * The gradient gathers from the samples that took the image, in their order: no atomics, the same bits every time.
 */
#include "mix_mask.cuh"
#include "mix_takers.cuh"

namespace
{

/* What a thread keeps of its weights: those themselves, for elements that are computed with, */
template <int count> struct kept_floats {
  float weights[count];
};
template <int count> __device__ inline void keep(const float (&weights)[count], kept_floats<count> *kept)
{
#pragma unroll
  for (int k = 0; k < count; k++) kept->weights[k] = weights[k];
}
template <typename element, int count>
__device__ inline element mix(const kept_floats<count> &kept, int k, element own, element other)
{
  typedef typename sumix_compute<element>::real real;
  const float weight = kept.weights[k];
  const real w = weight;
  element mean;
  mix_mean(w, own, 1 - w, other, &mean);
  return weight == 1 ? own : weight == 0 ? other : mean;
}

/* and for those that are chosen among, of whatever type, bits. */
template <int count> struct kept_bits {
  unsigned own;
};
template <int count> __device__ inline void keep(const float (&weights)[count], kept_bits<count> *kept)
{
  kept->own = 0;
#pragma unroll
  for (int k = 0; k < count; k++) kept->own |= weights[k] != 0 ? 1u << k : 0;
}
template <typename element, int count>
__device__ inline element mix(const kept_bits<count> &kept, int k, element own, element other)
{
  return (kept.own & 1u << k) != 0 ? own : other;
}

/* Launches: 1, blocks of 256 threads. Bytes: the mask, out, and of x what has a weight above 0, once each. */
template <typename element, int count, typename kept> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    mix_mask_forward(const struct sumix_mix_mask_args a, const struct mask_planes planes)
{
  typedef sumix_vector<element, count> vector;
  const int64_t parts = mix_parts(planes.items, MIX_ITEMS), size = planes.count * planes.size;
  for (int64_t tile = blockIdx.x; tile < a.layout.n * parts; tile += gridDim.x) {
    const int64_t i = tile / parts, partner = mix_read_partner(a.perm, i, a.layout.n);
    const vector *const own = (const vector *)a.x + i * size, *const other = (const vector *)a.x + partner * size;
    vector *const out = (vector *)a.out + i * size;

    int64_t at = (tile - i * parts) * MIX_THREADS * MIX_ITEMS + threadIdx.x;
    struct mix_place place = mix_place_of(at, planes.walk.row, planes.walk.height);
#pragma unroll 1
    for (int item = 0; item < MIX_ITEMS && at < planes.items;
         item++, at += MIX_THREADS, mix_advance(&place, planes.walk)) {
      float weights[count];
      mask_weights(a.mask, planes, i, place.column * count, weights);
      const bool all_own = mask_is_all(weights, 1), all_other = mask_is_all(weights, 0);
      kept some;
      keep(weights, &some);
      const int64_t end = mix_smaller((place.y + 1) * MASK_PLANES, planes.count);
#pragma unroll 1
      for (int64_t plane = place.y * MASK_PLANES; plane < end; plane++) {
        const int64_t v = plane * planes.size + place.column;
        vector mixed;
        if (all_own || all_other) {
          mixed = all_own ? own[v] : other[v];
        } else {
          const vector mine = own[v], theirs = other[v];
#pragma unroll
          for (int k = 0; k < count; k++) mixed.at[k] = mix(some, k, mine.at[k], theirs.at[k]);
        }
        out[v] = mixed;
      }
    }
  }
}

/* Launches: 1, blocks of 256 threads, whose warps look for their takers each. Bytes: grad_out is read where its weight
 * is above 0, for itself and for its partner, grad_x written once; a mask is read for a sample and its partner. */
template <typename element, int count> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    mix_mask_gather(const struct sumix_mix_mask_backward_args a, const struct mask_planes planes)
{
  typedef typename sumix_compute<element>::real real;
  typedef sumix_vector<element, count> vector;
  const int64_t n = a.layout.n, parts = mix_parts(planes.items, MIX_ITEMS), size = planes.count * planes.size;
  const int warp = (int)(threadIdx.x / SUMIX_WARP * SUMIX_WARP);
  for (int64_t tile = blockIdx.x; tile < n * parts; tile += gridDim.x) {
    const int64_t i = tile / parts, begin = (tile - i * parts) * MIX_THREADS * MIX_ITEMS;
    const struct mix_takers takers = mix_find_takers(a.perm, n, 0, i);
    struct mix_place place = mix_place_of(begin + threadIdx.x, planes.walk.row, planes.walk.height);
#pragma unroll 1
    for (int item = 0; item < MIX_ITEMS; item++, mix_advance(&place, planes.walk)) {
      const int64_t first = begin + item * MIX_THREADS;
      if (first + warp >= planes.items) break;  // the whole warp
      const bool active = first + threadIdx.x < planes.items;
#pragma unroll 1
      for (int p = 0; p < MASK_PLANES; p++) {
        const int64_t plane = place.y * MASK_PLANES + p, v = plane * planes.size + place.column;
        const bool here = active && plane < planes.count;
        real sum[count] = {0};
        if (here) {
          float weights[count];
          mask_weights(a.mask, planes, i, place.column * count, weights);
          if (!mask_is_all(weights, 0)) {
            const vector g = ((const vector *)a.grad_out + i * size)[v];
#pragma unroll
            for (int k = 0; k < count; k++) sum[k] = weights[k] == 0 ? 0 : weights[k] * sumix_to_real(g.at[k]);
          }
        }
        for (struct mix_takers some = takers;; some = mix_find_takers(a.perm, n, some.next, i)) {
          for (int t = 0; t < some.count; t++) {
            const int64_t j = mix_taker(some, t);
            if (!here) continue;
            float weights[count];
            mask_weights(a.mask, planes, j, place.column * count, weights);
            if (mask_is_all(weights, 1)) continue;
            const vector g = ((const vector *)a.grad_out + j * size)[v];
#pragma unroll
            for (int k = 0; k < count; k++)
              sum[k] += weights[k] == 1 ? 0 : (1 - (real)weights[k]) * sumix_to_real(g.at[k]);
          }
          if (some.next >= n) break;
        }
        if (!here) continue;
        vector out;
#pragma unroll
        for (int k = 0; k < count; k++) sumix_from_real(sum[k], &out.at[k]);
        ((vector *)a.grad_x + i * size)[v] = out;
      }
    }
  }
}

/* By vectors of 16 bytes where all planes begin at a multiple of that. */
bool in_vectors(const void *from, const void *to, const struct sumix_layout *l)
{
  return mix_widest((uintptr_t)from | (uintptr_t)to | (uint64_t)(l->height * l->width * l->pixel)) == 16;
}

template <typename element, int count, typename kept> void launch(const struct sumix_mix_mask_args *a, void *stream)
{
  const struct mask_planes planes = mask_planes_of(&a->layout, sizeof(element), count);
  SUMIX_LAUNCH((mix_mask_forward<element, count, kept>),
               sumix_grid(a->layout.n * mix_parts(planes.items, MIX_ITEMS), 1), MIX_THREADS, 0, stream, *a, planes);
}

template <typename element> void choose(const struct sumix_mix_mask_args *a, void *stream)
{
  enum { COUNT = 16 / sizeof(element) };
  if (in_vectors(a->x, a->out, &a->layout))
    launch<element, COUNT, kept_bits<COUNT>>(a, stream);
  else
    launch<element, 1, kept_bits<1>>(a, stream);
}

struct compute {
  template <typename element> static void run(const struct sumix_mix_mask_args *a, void *stream)
  {
    enum { COUNT = 16 / sizeof(element) };
    if (in_vectors(a->x, a->out, &a->layout))
      launch<element, COUNT, kept_floats<COUNT>>(a, stream);
    else
      launch<element, 1, kept_floats<1>>(a, stream);
  }
};

struct backward {
  template <typename element, int count> static void gather(const struct sumix_mix_mask_backward_args *a, void *stream)
  {
    const struct mask_planes planes = mask_planes_of(&a->layout, sizeof(element), count);
    SUMIX_LAUNCH((mix_mask_gather<element, count>), sumix_grid(a->layout.n * mix_parts(planes.items, MIX_ITEMS), 1),
                 MIX_THREADS, 0, stream, *a, planes);
  }

  template <typename element> static void run(const struct sumix_mix_mask_backward_args *a, void *stream)
  {
    if (in_vectors(a->grad_out, a->grad_x, &a->layout))
      gather<element, 16 / sizeof(element)>(a, stream);
    else
      gather<element, 1>(a, stream);
  }
};

}  // namespace

extern "C" int sumix_mix_mask_cuda(const struct sumix_mix_mask_args *a, void *stream)
{
  if (a->layout.n * mix_sample_size(&a->layout) == 0) return 0;
  if (!a->mask.binary)
    mix_by_dtype<compute>(a->dtype, a, stream);
  else if (a->element == 1)
    choose<uint8_t>(a, stream);
  else if (a->element == 2)
    choose<uint16_t>(a, stream);
  else if (a->element == 4)
    choose<uint32_t>(a, stream);
  else
    choose<uint64_t>(a, stream);  // complex128 as two
  return (int)cudaGetLastError();
}

extern "C" int sumix_mix_mask_backward_cuda(const struct sumix_mix_mask_backward_args *a, void *stream)
{
  if (a->layout.n * mix_sample_size(&a->layout) == 0) return 0;
  sumix_by_floating<backward>(a->dtype, a, stream);
  return (int)cudaGetLastError();
}
