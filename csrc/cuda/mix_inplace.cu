/* The box mixers in place on CUDA: x[i] with box[i] filled from what x[perm[i]] was before.
 *
 * As in csrc/cpu/mix_inplace.c, an image may be a partner and be pasted into at once, so what the boxes will hold is
 * first put aside, by one launch, then pasted by another. The host does not know the boxes, nor waits to be told: the
 * scratch has room for slices of all samples as if boxes were full (csrc/args/mix_inplace.h), of 32 MiB where slices
 * may be cut anywhere; a larger batch takes more rounds of two launches. Of the 32 MiB only what lies in boxes is
 * touched, most of it in the second-level cache, so that memory moves the boxes' bytes twice and the rest of the batch
 * not at all.
 *
 * A slice of the scratch is laid out as in the batch. Threads take vectors of it in flat order, as mix_box does, and
 * leave alone what is in no box; at a box's edge the one thread that has the vector puts its bytes together, so no two
 * write to the same 16.
 */
#include "mix_resize.cuh"

namespace
{

/* Bytes begin .. begin + count of every sample; in the scratch a sample's are `slice` bytes apart. */
struct round_of {
  int64_t size, slice, begin, count, parts;
};

/* One launch a round; reads and writes the boxes' bytes. Whole vectors of the partner: what is too much at the edges
 * stays in the scratch. */
template <int bytes> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    mix_inplace_put_aside(int64_t n, struct round_of round, struct mix_planes planes, int64_t width, int64_t pixel,
                          const char *__restrict__ x, const int64_t *__restrict__ box, const int64_t *__restrict__ perm,
                          char *__restrict__ aside)
{
  typedef typename mix_words<bytes>::type vector;
  for (int64_t task = blockIdx.x; task < n * round.parts; task += gridDim.x) {
    const int64_t i = task / round.parts, part = task - i * round.parts;
    const struct mix_box b = mix_read_box(box, i, planes.height, width, pixel);
    const char *const from = x + mix_read_partner(perm, i, n) * round.size + round.begin;
    const int64_t first = (part * MIX_THREADS * MIX_ITEMS + threadIdx.x) * bytes;
    struct mix_place place = mix_place_of(round.begin + first, planes.row, planes.height);
    vector found[MIX_ITEMS];
    bool inside[MIX_ITEMS];
#pragma unroll
    for (int k = 0; k < MIX_ITEMS; k++) {
      const int64_t at = first + k * MIX_THREADS * bytes;
      inside[k] = at < round.count && mix_in_box<bytes>(place, planes, b) != 0;
      if (inside[k]) found[k] = *(const vector *)(from + at);
      mix_advance(&place, planes);
    }
#pragma unroll
    for (int k = 0; k < MIX_ITEMS; k++)
      if (inside[k]) *(vector *)(aside + i * round.slice + first + k * MIX_THREADS * bytes) = found[k];
  }
}

/* The same with resizing, an element at a time. */
template <typename element> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    mix_inplace_put_aside_resized(const struct sumix_mix_inplace_args a, struct round_of round,
                                  struct mix_planes planes, int channels)
{
  typedef typename sumix_compute<element>::real real;
  const int height = (int)planes.height, width = (int)a.layout.width;
  const int64_t begin = round.begin / (int64_t)sizeof(element);
  for (int64_t task = blockIdx.x; task < a.layout.n * round.parts; task += gridDim.x) {
    const int64_t i = task / round.parts, part = task - i * round.parts;
    const struct mix_box pixels = mix_read_box(a.box, i, height, width, 1), b = mix_in_elements(pixels, channels);
    const enum sumix_resize how = mix_read_resize(a.resize, i, a.dtype != SUMIX_OTHER);
    const mix_resizer<real> r = mix_resizer_of<real>(how, pixels, height, width, channels);
    const element *const from =
        (const element *)((const char *)a.x + mix_read_partner(a.perm, i, a.layout.n) * round.size);
    element *const aside = (element *)((char *)a.scratch + i * round.slice);
    const int64_t first = part * MIX_THREADS * MIX_ITEMS + threadIdx.x, count = round.count / (int64_t)sizeof(element);
    struct mix_place place = mix_place_of(begin + first, planes.row, planes.height);
#pragma unroll 1  // else some 128 registers: threads hide the latency better than that
    for (int k = 0; k < MIX_ITEMS; k++, mix_advance(&place, planes)) {
      const int64_t at = first + k * MIX_THREADS;
      if (at >= count || mix_in_box<1>(place, planes, b) == 0) continue;
      const struct mix_cursor cursor = mix_cursor_of(begin + at, place, planes.row, channels);
      mix_sources<real> sources = {-1, -1, {0, 0, 0}, {0, 0, 0}};
      aside[at] = mix_resized(from, r, cursor, &sources);
    }
  }
}

/* One launch a round; reads and writes the boxes' bytes. */
template <int bytes> __global__ void __launch_bounds__(MIX_THREADS, MIX_BLOCKS)
    mix_inplace_paste(int64_t n, struct round_of round, struct mix_planes planes, int64_t pixel,
                      const int64_t *__restrict__ box, const char *__restrict__ aside, char *__restrict__ x)
{
  typedef typename mix_words<bytes>::type vector;
  enum { ALL = (1 << bytes) - 1 };
  for (int64_t task = blockIdx.x; task < n * round.parts; task += gridDim.x) {
    const int64_t i = task / round.parts, part = task - i * round.parts;
    const struct mix_box b = mix_box_at(box, i, pixel);
    const int64_t first = (part * MIX_THREADS * MIX_ITEMS + threadIdx.x) * bytes;
    char *const to = x + i * round.size + round.begin;
    struct mix_place place = mix_place_of(round.begin + first, planes.row, planes.height);
    vector found[MIX_ITEMS];
    unsigned inside[MIX_ITEMS];
#pragma unroll
    for (int k = 0; k < MIX_ITEMS; k++) {
      const int64_t at = first + k * MIX_THREADS * bytes;
      inside[k] = at < round.count ? mix_in_box<bytes>(place, planes, b) : 0;
      if (inside[k] != 0) found[k] = *(const vector *)(aside + i * round.slice + at);
      mix_advance(&place, planes);
    }
#pragma unroll
    for (int k = 0; k < MIX_ITEMS; k++) {
      vector *const at = (vector *)(to + first + k * MIX_THREADS * bytes);
      if (inside[k] == 0) continue;
      if (inside[k] != ALL) found[k] = mix_select(inside[k], found[k], *at);
      *at = found[k];
    }
  }
}

struct job {
  const struct sumix_mix_inplace_args *a;
  struct round_of round;
};

struct put_aside {
  template <int bytes> static void run(const struct job *job, void *stream)
  {
    const struct sumix_layout *const l = &job->a->layout;
    struct round_of round = job->round;
    round.parts = mix_parts(round.count / bytes, MIX_ITEMS);
    const struct mix_planes planes = mix_planes_of(l->width * l->pixel, l->height, MIX_THREADS * bytes);
    SUMIX_LAUNCH(mix_inplace_put_aside<bytes>, sumix_grid(l->n * round.parts, 1), MIX_THREADS, 0, stream, l->n, round,
                 planes, l->width, l->pixel, (const char *)job->a->x, job->a->box, job->a->perm,
                 (char *)job->a->scratch);
  }
};
struct put_aside_resized {
  template <typename element> static void run(const struct job *job, void *stream)
  {
    const struct sumix_mix_inplace_args a = *job->a;
    const int channels = (int)(a.layout.pixel / sizeof(element));
    struct round_of round = job->round;
    round.parts = mix_parts(round.count / sizeof(element), MIX_ITEMS);
    const struct mix_planes planes = mix_planes_of(a.layout.width * channels, a.layout.height, MIX_THREADS);
    SUMIX_LAUNCH(mix_inplace_put_aside_resized<element>, sumix_grid(a.layout.n * round.parts, 1), MIX_THREADS, 0,
                 stream, a, round, planes, channels);
  }
};
struct paste {
  template <int bytes> static void run(const struct job *job, void *stream)
  {
    const struct sumix_layout *const l = &job->a->layout;
    struct round_of round = job->round;
    round.parts = mix_parts(round.count / bytes, MIX_ITEMS);
    const struct mix_planes planes = mix_planes_of(l->width * l->pixel, l->height, MIX_THREADS * bytes);
    SUMIX_LAUNCH(mix_inplace_paste<bytes>, sumix_grid(l->n * round.parts, 1), MIX_THREADS, 0, stream, l->n, round,
                 planes, l->pixel, job->a->box, (const char *)job->a->scratch, (char *)job->a->x);
  }
};

}  // namespace

extern "C" int sumix_mix_inplace_cuda(const struct sumix_mix_inplace_args *a, void *stream)
{
  const int64_t size = mix_sample_size(&a->layout), slice = sumix_mix_inplace_slice(a);
  if (slice == 0) return 0;
  if (a->resize != NULL && !mix_fits(&a->layout)) return (int)cudaErrorInvalidValue;
  const int64_t bytes = mix_widest(size | slice | (uint64_t)a->x | (uint64_t)a->scratch);
  for (int64_t begin = 0; begin < size; begin += slice) {
    const struct job job = {a, {size, slice, begin, mix_smaller(slice, size - begin), 0}};
    if (a->resize == NULL)
      mix_by_width<put_aside>(bytes, &job, stream);
    else
      mix_by_element<put_aside_resized>(a->dtype, a->element, &job, stream);
    mix_by_width<paste>(bytes, &job, stream);
  }
  return (int)cudaGetLastError();
}
