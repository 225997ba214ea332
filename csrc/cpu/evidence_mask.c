/* Masks cut from maps of evidence: where a map of what an image shows, enlarged to the image's size, exceeds a share of
 * its maximum, as ForegroundMix pastes it.
 *
 *   u     = map[i] enlarged bilinearly from h x w to height x width, as torch.nn.functional.interpolate does with
 *           align_corners=False
 *   hard    mask[i] = 0 where u > threshold max(map[i]), else 1                  evidence (n, h, w), mask (n, height,
 *   soft    mask[i] = 1 - clamp((u - (threshold - soft / 2) max) / (soft max), 0, 1)                         width)
 *   lam[i]  = the mean of mask[i]
 *
 * The mask is the weight of the own image; the map is its partner's. Where nothing is to be pasted, and where a map is 0
 * everywhere, the mask is 1.
 *
 * Each row of a map is enlarged to the width once, into scratch; then every row of pixels is a mean of two rows of it,
 * which vectorises, where fetching the four values of each pixel would not. An image is one thread's work.
 */
#include "../evidence_mask.h"
#include "checks.h"
#include "isa.h"
#include "parallel.h"

static void enlarge_rows(const struct sumix_evidence_mask_args *a, const float *restrict map,
                         const struct sumix_between_f32 *restrict columns, float *restrict rows)
{
  for (int64_t y = 0; y < a->h; y++)
    for (int64_t x = 0; x < a->width; x++)
      rows[y * a->width + x] =
          sumix_mean_of_two(map[y * a->w + columns[x].first], map[y * a->w + columns[x].second], columns[x].weight);
}

static int64_t cut_hard(const float *restrict first, const float *restrict second, float weight, float above,
                        uint8_t *restrict mask, int64_t width)
{
  int32_t pasted = 0;
#pragma omp simd reduction(+ : pasted)
  for (int64_t x = 0; x < width; x++) {
    const int32_t shown = sumix_mean_of_two(first[x], second[x], weight) > above;
    mask[x] = (uint8_t)(1 - shown);
    pasted += shown;
  }
  return width - pasted;
}

static int64_t cut_soft(const float *restrict first, const float *restrict second, float weight, float from, float edge,
                        float *restrict mask, int64_t width)
{
  int64_t sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t x = 0; x < width; x++) {
    mask[x] = 1 - sumix_soft_edge(sumix_mean_of_two(first[x], second[x], weight), from, edge);
    sum += (int32_t)(mask[x] * (float)SUMIX_MASK_UNIT);
  }
  return sum;
}

static void leave(const struct sumix_evidence_mask_args *a, int64_t i)
{
  const int64_t pixels = a->height * a->width;
  for (int64_t p = 0; p < pixels && a->hard; p++) ((uint8_t *)a->mask)[i * pixels + p] = 1;
  for (int64_t p = 0; p < pixels && !a->hard; p++) ((float *)a->mask)[i * pixels + p] = 1;
  a->lam[i] = 1;
}

static void mask_rows(int64_t begin, int64_t end, void *context)
{
  struct sumix_task *const task = context;
  const struct sumix_evidence_mask_args *const a = task->args;
  const int64_t cells = a->h * a->w, pixels = a->height * a->width;
  struct sumix_between_f32 *const columns = sumix_scratch(a->width, sizeof *columns);
  float *const rows = sumix_scratch(a->h * a->width, sizeof *rows);
  if (columns == NULL || rows == NULL) task->failed = true;
  const float across = sumix_scale_f32(a->w, a->width), down = sumix_scale_f32(a->h, a->height);
  for (int64_t x = 0; x < a->width && columns != NULL; x++)
    columns[x] = sumix_bilinear_source_f32(x, across, a->w, a->width);
  for (int64_t i = begin; i < end && !task->failed; i++) {
    if (!a->paste[i]) {
      leave(a, i);
      continue;
    }
    const float *const map = a->evidence + i * cells;
    float most = 0;
    for (int64_t p = 0; p < cells; p++) most = map[p] > most ? map[p] : most;
    enlarge_rows(a, map, columns, rows);
    const float from = (a->threshold - a->soft / 2) * most, edge = a->soft * most;
    int64_t sum = 0;
    for (int64_t y = 0; y < a->height; y++) {
      const struct sumix_between_f32 at = sumix_bilinear_source_f32(y, down, a->h, a->height);
      const float *const first = rows + at.first * a->width, *const second = rows + at.second * a->width;
      const int64_t to = i * pixels + y * a->width;
      if (a->hard)
        sum += cut_hard(first, second, at.weight, a->threshold * most, (uint8_t *)a->mask + to, a->width);
      else
        sum += cut_soft(first, second, at.weight, from, edge, (float *)a->mask + to, a->width);
    }
    a->lam[i] = sumix_mask_mean(a->hard ? sum * (int64_t)SUMIX_MASK_UNIT : sum, pixels);
  }
  free(columns), free(rows);
}

int SUMIX_KERNEL(evidence_mask)(const struct sumix_evidence_mask_args *a, struct sumix_status *status)
{
  const int64_t cells = a->h * a->w;
  for (int64_t at = 0; at < a->n * cells; at++)
    SUMIX_CHECK(!(a->evidence[at] < 0), status, "evidence[%lld] has values below 0", (long long)(at / cells));
  for (int64_t i = 0; i < a->n; i++)
    SUMIX_CHECK(a->paste[i] <= 1, status, "paste[%lld] is %d, expected 0 or 1", (long long)i, a->paste[i]);
  struct sumix_task task = {a, false};
  SUMIX_TRY(sumix_parallel_rows(a->n, a->height * a->width, mask_rows, &task, status));
  if (task.failed) return sumix_out_of_memory(status);
  return 0;
}
