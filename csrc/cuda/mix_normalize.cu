/* Mixing 8-bit images and normalising the result in one pass, as the last step of an input pipeline, on CUDA:
 * csrc/cpu/mix_normalize.c with a thread per 16 bytes of the result.
 *
 *   out[i] = (mixed[i] / 255 - mean) / std
 *
 * with mixed[i] by a box, a resized partner, a mask or a ratio, in float32. One launch; 8-bit pixels are read, the
 * result is written, and in between there are registers: as the normalisation is linear, pixels are normalised first,
 * by scale = 1 / (255 std) and offset = -mean / std, and then averaged.
 *
 * The result is four or two times as large as what is read, so it decides the accesses: a thread writes 16 bytes, a
 * warp 512 bytes in a row, for which it reads 4 or 8 bytes a thread, as many bytes in a row. (With 16 bytes read a
 * thread would write 64, and each store of a warp touch every second half of 64 sectors.) A thread takes the same
 * pixels of up to MASK_PLANES planes, whose weights it reads once.
 */
#include "mix_mask.cuh"
#include "mix_resize.cuh"

namespace
{

/* Channels whose constants a block keeps. More, which no image has, are worked out for each element, and then elements
 * taken one by one. */
enum { TABLE = 256 };

struct constants {
  float scale, offset;
};

/* What the CPU kernel gets by double precision, which many GPUs have little of. -mean / std is the same, rounded once
 * either way; for 1 / (255 std) the rest of the product is made up for. */
__device__ struct constants constants_of(const float *__restrict__ mean, const float *__restrict__ std, int64_t c)
{
  const float m = mean[c], s = std[c], product = 255 * s, rest = fmaf(255, s, -product), quotient = 1 / product;
  const struct constants both = {fmaf(quotient, fmaf(-quotient, rest, fmaf(-quotient, product, 1)), quotient), -m / s};
  return both;
}

template <int count> __device__ inline struct constants look_up(const struct constants *table,
                                                                const struct sumix_mix_normalize_args &a, int64_t c)
{
  return count > 1 || c < TABLE ? table[c] : constants_of(a.mean, a.std, c);
}

template <int count>
__device__ inline void widen(const sumix_vector<uint8_t, count> *__restrict__ from, float (&values)[count])
{
  const sumix_vector<uint8_t, count> bytes = *from;
#pragma unroll
  for (int k = 0; k < count; k++) values[k] = (float)bytes.at[k];
}

/* resizes: whether boxes may be filled by resizing, which takes twice the registers that anything else does.
 * Launches: 1, blocks of 256 threads. Bytes: of x what is shown, the mask, and out, once each. */
template <typename element, int count, bool resizes> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    mix_normalize_forward(const struct sumix_mix_normalize_args a, const struct mask_planes planes,
                          const struct mix_planes image)
{
  typedef sumix_vector<uint8_t, count> bytes;
  typedef sumix_vector<element, count> vector;
  __shared__ struct constants table[TABLE];
  for (int64_t c = threadIdx.x; c < a.channels; c += MIX_THREADS) {
    assert(fabsf(a.mean[c]) < INFINITY && "mean is not a number");
    assert(a.std[c] > 0 && a.std[c] < INFINITY && "std is not a number above 0");
    if (c < TABLE) table[c] = constants_of(a.mean, a.std, c);
  }
  __syncthreads();

  const unsigned all = (1u << count) - 1;
  const int64_t n = a.layout.n, parts = mix_parts(planes.items, MIX_ITEMS), size = planes.count * planes.size;
  const int height = (int)a.layout.height, width = (int)a.layout.width, channels = (int)planes.channels;
  for (int64_t tile = blockIdx.x; tile < n * parts; tile += gridDim.x) {
    const int64_t i = tile / parts, partner = mix_read_partner(a.perm, i, n);
    struct mix_box pixels = {0, 0, 0, 0};
    if (a.box != NULL) pixels = mix_read_box(a.box, i, height, width, 1);
    const enum sumix_resize how = resizes ? mix_read_resize(a.resize, i, true) : SUMIX_SAME_BOX;
    const mix_resizer<float> r = mix_resizer_of<float>(how, pixels, height, width, channels);
    const struct mix_box box = mix_in_elements(pixels, channels);
    const bytes *const own = (const bytes *)a.x + i * size, *const other = (const bytes *)a.x + partner * size;
    vector *const out = (vector *)a.out + i * size;

    int64_t at = (tile - i * parts) * MIX_THREADS * MIX_ITEMS + threadIdx.x;
    struct mix_place place = mix_place_of(at, planes.walk.row, planes.walk.height);
#pragma unroll 1
    for (int item = 0; item < MIX_ITEMS && at < planes.items;
         item++, at += MIX_THREADS, mix_advance(&place, planes.walk)) {
      float weights[count];
      bool all_own = true, all_other = false;
      if (a.mask.values != NULL) {
        mask_weights(a.mask, planes, i, place.column * count, weights);
        all_own = mask_is_all(weights, 1), all_other = mask_is_all(weights, 0);
      }
      struct mix_place pixel = {place.column * count, 0};
      unsigned inside = 0;
      if (a.box != NULL && !all_other) {
        pixel = mix_place_of(pixel.column, image.row, image.height);
        inside = mix_in_box<count>(pixel, image, box);
      }
      const struct mix_cursor begin = mix_cursor_of(place.column * count, pixel, image.row, channels);
      const bool all_pasted = inside == all && how == SUMIX_SAME_BOX;
      const int64_t end = mix_smaller((place.y + 1) * MASK_PLANES, planes.count);
#pragma unroll 1
      for (int64_t plane = place.y * MASK_PLANES; plane < end; plane++) {
        const int64_t v = plane * planes.size + place.column;
        float values[count], others[count];
        widen(all_other || all_pasted ? other + v : own + v, values);
        if (resizes && inside != 0 && how != SUMIX_SAME_BOX) {
          struct mix_cursor cursor = begin;
          mix_sources<float> sources = {-1, -1, {0, 0, 0}, {0, 0, 0}};
          cursor.plane += plane * planes.size * count;
#pragma unroll 1
          for (int k = 0; k < count; k++, mix_next(&cursor, image, width, channels)) {
            if ((inside >> k & 1) == 0) continue;
            const float value = mix_resized_real((const uint8_t *)other, r, cursor, &sources);
#pragma unroll
            for (int to = 0; to < count; to++) values[to] = to == k ? value : values[to];
          }
        } else if (inside != 0 && !all_pasted) {
          widen(other + v, others);
#pragma unroll
          for (int k = 0; k < count; k++) values[k] = inside >> k & 1 ? others[k] : values[k];
        }
        const bool mixed = !all_own && !all_other;
        if (mixed) widen(other + v, others);
        vector result;
        int c = begin.c;
        struct constants normal = look_up<count>(table, a, channels == 1 ? plane : c);
#pragma unroll
        for (int k = 0; k < count; k++) {
          float value = values[k] * normal.scale + normal.offset;
          if (mixed) value = weights[k] * value + (1 - weights[k]) * (others[k] * normal.scale + normal.offset);
          sumix_from_real(value, &result.at[k]);
          if (channels == 1 || k + 1 == count) continue;
          c = c + 1 < channels ? c + 1 : 0;
          normal = look_up<count>(table, a, c);
        }
        out[v] = result;
      }
    }
  }
}

template <typename element, int count, bool resizes> void launch(const struct sumix_mix_normalize_args *a, void *stream)
{
  const struct sumix_layout *l = &a->layout;
  const struct mask_planes planes = mask_planes_of(l, 1, count);
  SUMIX_LAUNCH((mix_normalize_forward<element, count, resizes>),
               sumix_grid(l->n * mix_parts(planes.items, MIX_ITEMS), 1), MIX_THREADS, 0, stream, *a, planes,
               mix_planes_of(l->width * l->pixel, l->height, 1));
}

template <typename element, int count> void normalize_by(const struct sumix_mix_normalize_args *a, void *stream)
{
  if (a->box != NULL && a->resize != NULL)
    launch<element, count, true>(a, stream);
  else
    launch<element, count, false>(a, stream);
}

/* By vectors where all planes begin at a multiple of them. */
template <typename element> void normalize(const struct sumix_mix_normalize_args *a, void *stream)
{
  enum { COUNT = 16 / sizeof(element) };
  const struct sumix_layout *l = &a->layout;
  const bool whole = l->height * l->width * l->pixel % COUNT == 0 && a->channels <= TABLE;
  if (whole && sumix_is_aligned(a->x, COUNT) && sumix_is_aligned(a->out, 16))
    normalize_by<element, COUNT>(a, stream);
  else
    normalize_by<element, 1>(a, stream);
}

}  // namespace

extern "C" int sumix_mix_normalize_cuda(const struct sumix_mix_normalize_args *a, void *stream)
{
  if (a->layout.n * mix_sample_size(&a->layout) == 0) return 0;
  if (!mix_fits(&a->layout)) return (int)cudaErrorInvalidValue;
  if (a->dtype == SUMIX_FLOAT32) normalize<float>(a, stream);
  if (a->dtype == SUMIX_FLOAT16) normalize<sumix_f16>(a, stream);
  if (a->dtype == SUMIX_BFLOAT16) normalize<sumix_bf16>(a, stream);
  return (int)cudaGetLastError();
}
