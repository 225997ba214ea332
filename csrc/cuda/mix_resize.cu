/* Pasting the whole partner, resized, into a box of each image, and the gradient, on CUDA: csrc/cpu/mix_resize.c with a
 * thread per 16 bytes.
 *
 *   out[i] = x[i] with box[i] filled from resize(x[perm[i]], size of the box)     (ResizeMix; Qin et al., 2012.11101)
 *
 * One launch each way. Of the result every byte is written once, and of x only what is shown is read: vectors of 16
 * bytes outside of the box are copied from the image, those inside of a box that is not resized from the partner, and
 * the others are put together in registers, element by element, so that what is stored is still 16 bytes. Neighbouring
 * threads gather from neighbouring places of the partner, and what they share comes from the first-level cache. Work is
 * shared out as mix.cuh says; vectors may run on over the ends of rows and planes, so any image whose sample is a
 * multiple of 16 bytes is copied by vectors.
 *
 * The gradient of an image is its own outside of its box, plus the transpose of the resizing for each box that it was
 * pasted into. It is gathered: each pixel looks for the at most two by two pixels of the box that it has a share in,
 * instead of those adding to it, so there are no atomics, and sums are in the order of the samples whatever the
 * partners.
 */
#include "mix_resize.cuh"
#include "mix_takers.cuh"

namespace
{

/* Launches: 1, blocks of 256 threads. Bytes: x is read once outside of the boxes, and where it is pasted from; out is
 * written once. */
template <typename element, typename word, int words> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    mix_resize_fill(const struct sumix_mix_resize_args a, const struct mix_planes planes, int channels, int64_t vectors)
{
  typedef typename sumix_compute<element>::real real;
  typedef sumix_vector<word, words> vector;
  enum { PER_WORD = sizeof(word) / sizeof(element), COUNT = words * PER_WORD, BITS = 8 * sizeof(element) };
  const unsigned all = (1u << COUNT) - 1;
  const int64_t n = a.layout.n, parts = mix_parts(vectors, MIX_ITEMS);
  const int height = (int)planes.height, width = (int)a.layout.width;
  for (int64_t tile = blockIdx.x; tile < n * parts; tile += gridDim.x) {
    const int64_t i = tile / parts, partner = mix_read_partner(a.perm, i, n);
    const struct mix_box pixels = mix_read_box(a.box, i, planes.height, width, 1);
    const struct mix_box box = mix_in_elements(pixels, channels);
    const enum sumix_resize how = mix_read_resize(a.resize, i, a.dtype != SUMIX_OTHER);
    const mix_resizer<real> r = mix_resizer_of<real>(how, pixels, height, width, channels);
    const vector *const own = (const vector *)a.x + i * vectors, *const other = (const vector *)a.x + partner * vectors;

    int64_t v = (tile - i * parts) * MIX_THREADS * MIX_ITEMS + threadIdx.x;
    struct mix_place place = mix_place_of(v * COUNT, planes.row, planes.height);
    for (int item = 0; item < MIX_ITEMS && v < vectors; item++, v += MIX_THREADS, mix_advance(&place, planes)) {
      const unsigned inside = mix_in_box<COUNT>(place, planes, box);
      vector out = how == SUMIX_SAME_BOX && inside == all ? other[v] : own[v];
      if (inside != 0 && (how != SUMIX_SAME_BOX || inside != all)) {
        struct mix_cursor cursor = mix_cursor_of(v * COUNT, place, planes.row, channels);
        mix_sources<real> sources = {-1, -1, {0, 0, 0}, {0, 0, 0}};
#pragma unroll
        for (int w = 0; w < words; w++)
#pragma unroll 1
          for (int e = 0; e < PER_WORD; e++, mix_next(&cursor, planes, width, channels)) {
            if ((inside >> (w * PER_WORD + e) & 1) == 0) continue;
            const element value = mix_resized((const element *)other, r, cursor, &sources);
            word bits = 0;
            memcpy(&bits, &value, sizeof value);
            if (PER_WORD > 1) {
              const unsigned shift = e * BITS % (8 * sizeof(word)), whole = ((word)1 << BITS % (8 * sizeof(word))) - 1;
              bits = (word)((out.at[w] & ~(whole << shift)) | bits << shift);
            }
            out.at[w] = bits;
          }
      }
      ((vector *)a.out + i * vectors)[v] = out;
    }
  }
}

/* Launches: 1, blocks of 256 threads, whose warps look for their takers each. Bytes: grad_out is read once outside of
 * the boxes and once inside (from memory; neighbours' shares come from the caches), grad_x written once. */
template <typename element, int count> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    mix_resize_gather(const struct sumix_mix_resize_backward_args a, const struct mix_planes planes, int channels,
                      int64_t vectors)
{
  typedef typename sumix_compute<element>::real real;
  typedef sumix_vector<element, count> vector;
  const int64_t n = a.layout.n, parts = mix_parts(vectors, MIX_ITEMS);
  const int height = (int)planes.height, width = (int)a.layout.width;
  const int warp = (int)(threadIdx.x / SUMIX_WARP * SUMIX_WARP);
  for (int64_t tile = blockIdx.x; tile < n * parts; tile += gridDim.x) {
    const int64_t i = tile / parts, begin = (tile - i * parts) * MIX_THREADS * MIX_ITEMS;
    mix_read_resize(a.resize, i, true);
    const struct mix_takers takers = mix_find_takers(a.perm, n, 0, i);
    struct mix_place place = mix_place_of((begin + threadIdx.x) * count, planes.row, planes.height);
    for (int item = 0; item < MIX_ITEMS; item++, mix_advance(&place, planes)) {
      const int64_t first = begin + item * MIX_THREADS, v = first + threadIdx.x;
      if (first + warp >= vectors) break;  // the whole warp
      const bool active = v < vectors;
      real sum[count] = {0};
      if (active) {
        const unsigned inside =
            mix_in_box<count>(place, planes, mix_read_box(a.box, i, planes.height, width, channels));
        const vector g = ((const vector *)a.grad_out + i * vectors)[v];
#pragma unroll
        for (int k = 0; k < count; k++) sum[k] = inside >> k & 1 ? 0 : sumix_to_real(g.at[k]);
      }
      for (struct mix_takers some = takers;; some = mix_find_takers(a.perm, n, some.next, i)) {
        for (int t = 0; t < some.count; t++) {
          const int64_t j = mix_taker(some, t);
          const struct mix_box pixels = mix_read_box(a.box, j, planes.height, width, 1);
          const enum sumix_resize how = mix_read_resize(a.resize, j, true);
          if (mix_is_empty(pixels) || !active) continue;
          const vector *const pasted = (const vector *)a.grad_out + j * vectors;
          if (how == SUMIX_SAME_BOX) {
            const unsigned inside =
                mix_in_box<count>(place, planes, mix_read_box(a.box, j, planes.height, width, channels));
            if (inside == 0) continue;
            const vector g = pasted[v];
#pragma unroll
            for (int k = 0; k < count; k++) sum[k] += inside >> k & 1 ? sumix_to_real(g.at[k]) : 0;
            continue;
          }
          const mix_resizer<real> r = mix_resizer_of<real>(how, pixels, height, width, channels);
          struct mix_cursor cursor = mix_cursor_of(v * count, place, planes.row, channels);
          mix_heirs<real> rows = mix_heirs_of(how, r.rows, cursor.y);
          int rows_of = cursor.y;
#pragma unroll 1
          for (int k = 0; k < count; k++, mix_next(&cursor, planes, width, channels)) {
            if (cursor.y != rows_of) rows = mix_heirs_of(how, r.rows, rows_of = cursor.y);
            const element *const plane = (const element *)pasted + cursor.plane + cursor.c;
            const real share = mix_passed_on(plane, r, rows, cursor.x);
#pragma unroll
            for (int place_of = 0; place_of < count; place_of++) sum[place_of] += place_of == k ? share : 0;
          }
        }
        if (some.next >= n) break;
      }
      if (!active) continue;
      vector out;
#pragma unroll
      for (int k = 0; k < count; k++) sumix_from_real(sum[k], &out.at[k]);
      ((vector *)a.grad_x + i * vectors)[v] = out;
    }
  }
}

/* By vectors of 16 bytes where all samples begin at a multiple of that. */
bool in_vectors(const void *from, const void *to, int64_t sample_bytes)
{
  return mix_widest((uintptr_t)from | (uintptr_t)to | (uint64_t)sample_bytes) == 16;
}

template <typename element, typename word, int words> void fill(const struct sumix_mix_resize_args *a, void *stream)
{
  const struct sumix_layout *l = &a->layout;
  const int channels = (int)(l->pixel / sizeof(element));
  const int64_t vectors = mix_sample_size(l) / sizeof(sumix_vector<word, words>);
  const int64_t stride = MIX_THREADS * words * sizeof(word) / sizeof(element);
  SUMIX_LAUNCH((mix_resize_fill<element, word, words>), sumix_grid(l->n * mix_parts(vectors, MIX_ITEMS), 1),
               MIX_THREADS, 0, stream, *a, mix_planes_of(l->width * channels, l->height, stride), channels, vectors);
}

struct forward {
  template <typename element> static void run(const struct sumix_mix_resize_args *a, void *stream)
  {
    typedef mix_bits<sizeof(element)> bits;
    if (in_vectors(a->x, a->out, mix_sample_size(&a->layout)))
      fill<element, typename bits::wide, 16 / sizeof(typename bits::wide)>(a, stream);
    else
      fill<element, typename bits::word, 1>(a, stream);
  }
};

struct backward {
  template <typename element, int count>
  static void gather(const struct sumix_mix_resize_backward_args *a, void *stream)
  {
    const struct sumix_layout *l = &a->layout;
    const int channels = (int)(l->pixel / sizeof(element));
    const int64_t vectors = mix_sample_size(l) / (count * sizeof(element));
    SUMIX_LAUNCH((mix_resize_gather<element, count>), sumix_grid(l->n * mix_parts(vectors, MIX_ITEMS), 1), MIX_THREADS,
                 0, stream, *a, mix_planes_of(l->width * channels, l->height, MIX_THREADS * count), channels, vectors);
  }

  template <typename element> static void run(const struct sumix_mix_resize_backward_args *a, void *stream)
  {
    if (in_vectors(a->grad_out, a->grad_x, mix_sample_size(&a->layout)))
      gather<element, 16 / sizeof(element)>(a, stream);
    else
      gather<element, 1>(a, stream);
  }
};

}  // namespace

extern "C" int sumix_mix_resize_cuda(const struct sumix_mix_resize_args *a, void *stream)
{
  if (a->layout.n * mix_sample_size(&a->layout) == 0) return 0;
  if (!mix_fits(&a->layout)) return (int)cudaErrorInvalidValue;
  mix_by_element<forward>(a->dtype, a->element, a, stream);
  return (int)cudaGetLastError();
}

extern "C" int sumix_mix_resize_backward_cuda(const struct sumix_mix_resize_backward_args *a, void *stream)
{
  if (a->layout.n * mix_sample_size(&a->layout) == 0) return 0;
  if (!mix_fits(&a->layout)) return (int)cudaErrorInvalidValue;
  sumix_by_floating<backward>(a->dtype, a, stream);
  return (int)cudaGetLastError();
}
