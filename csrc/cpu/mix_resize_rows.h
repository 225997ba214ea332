/* What computes in mix_resize.h, for one type: included once each with REAL and SUFFIX defined. */

/* Row y of the partner's plane, shrunk to the width of the box. */
static inline const REAL *SUFFIX(shrink_row)(struct resizer *r, enum sumix_dtype dtype, const void *plane, int64_t y,
                                             int slot)
{
  REAL *restrict out = r->shrunk[slot];
  if (r->shrunk_from[slot] == y) return out;
  r->shrunk_from[slot] = y;
  const int64_t k = r->width * r->channels, channels = r->channels;
  const REAL *restrict row = SUFFIX(load)(dtype, plane, y * k, k, r->loaded), *restrict weight = r->weight;
  const int64_t *restrict first = r->first, *restrict second = r->second;
  if (channels == 1) {
    for (int64_t j = 0; j < r->box_width; j++) out[j] = (1 - weight[j]) * row[first[j]] + weight[j] * row[second[j]];
  } else {
    for (int64_t j = 0; j < r->box_width; j++)
      for (int64_t c = 0; c < channels; c++)
        out[j * channels + c] = (1 - weight[j]) * row[first[j] + c] + weight[j] * row[second[j] + c];
  }
  return out;
}

/* Row y of the box, by bilinear interpolation of a plane of `height` rows. */
static inline void SUFFIX(bilinear_row)(struct resizer *r, enum sumix_dtype dtype, int64_t height, const void *plane,
                                        int64_t y, REAL *out)
{
  const struct SUFFIX(sumix_between) rows =
      SUFFIX(sumix_bilinear_source)(y, SUFFIX(sumix_scale)(height, r->box_height), height, r->box_height);
  if (r->shrunk_from[1] == rows.first) {  // the row before ended where this one starts
    void *const first = r->shrunk[1];
    r->shrunk[1] = r->shrunk[0], r->shrunk_from[1] = r->shrunk_from[0];
    r->shrunk[0] = first, r->shrunk_from[0] = rows.first;
  }
  const REAL *restrict a = SUFFIX(shrink_row)(r, dtype, plane, rows.first, 0);
  const REAL *restrict b = rows.second == rows.first ? a : SUFFIX(shrink_row)(r, dtype, plane, rows.second, 1);
  const REAL weight = (REAL)rows.weight, rest = 1 - weight;
#pragma omp simd
  for (int64_t j = 0; j < r->box_width * r->channels; j++) out[j] = rest * a[j] + weight * b[j];
}

/* The same in the images' dtype. */
static inline void SUFFIX(store_bilinear_row)(struct resizer *r, enum sumix_dtype dtype, int64_t height,
                                              const void *plane, int64_t y, void *out)
{
  REAL *const row = SUFFIX(store_place)(dtype, out, 0, r->loaded);
  SUFFIX(bilinear_row)(r, dtype, height, plane, y, row);
  SUFFIX(store)(dtype, out, 0, r->box_width * r->channels, row);
}

/* The transpose: what row y of a box, whose gradient is g, passes on to a plane (height, width, channels). */
static inline void SUFFIX(add_resized)(struct resizer *r, int64_t height, const REAL *restrict g, int64_t y,
                                       REAL *restrict plane)
{
  const int64_t channels = r->channels, k = r->width * channels;
  if (r->how != SUMIX_BILINEAR) {
    REAL *restrict to = plane + nearest_row(r, y, height) * k;
    for (int64_t j = 0; j < r->box_width; j++)
      for (int64_t c = 0; c < channels; c++) to[r->first[j] * channels + c] += g[j * channels + c];
    return;
  }
  REAL *restrict wide = r->shrunk[0];
  const REAL *restrict weight = r->weight;
  memset(wide, 0, (size_t)k * sizeof *wide);
  for (int64_t j = 0; j < r->box_width; j++)
    for (int64_t c = 0; c < channels; c++) {
      wide[r->first[j] + c] += (1 - weight[j]) * g[j * channels + c];
      wide[r->second[j] + c] += weight[j] * g[j * channels + c];
    }
  const struct SUFFIX(sumix_between) rows =
      SUFFIX(sumix_bilinear_source)(y, SUFFIX(sumix_scale)(height, r->box_height), height, r->box_height);
  REAL *restrict a = plane + rows.first * k, *restrict b = plane + rows.second * k;
  const REAL below = (REAL)rows.weight, above = 1 - below;
#pragma omp simd
  for (int64_t j = 0; j < k; j++) a[j] += above * wide[j];
  if (below == 0) return;
#pragma omp simd
  for (int64_t j = 0; j < k; j++) b[j] += below * wide[j];
}
