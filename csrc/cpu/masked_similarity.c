/* Mask-aware feature similarity: how much of what each image shows is left visible in a mix.
 *
 * A mix keeps a part of image i and shows image perm[i] in the rest. The area of the parts says little of the labels: a
 * pasted box may hide the one object, or bring nothing of the other. The last feature map of the raw image, f (d, h,
 * w), which the network has computed anyway, knows where the object is. With g its mean over the places,
 *
 *   feature   s_p = max(0, f_p . g - mean_q f_q . g)     what stands out towards what the image is, as a whole, of
 *   cam       s_p = max(0, w_y . f_p)                    the class activation of the image's own label y (SnapMix,
 *                                                        arXiv 2012.04846)
 *   object    s_p = the user's object mask               (OA-CutMix, arXiv 2606.04820)
 *
 * are three kinds of evidence for an image's label at each place. With M the share of each cell of the h x w grid that
 * the mix keeps of image i, and s, s' the evidence of image i and of its partner,
 *
 *   visible_a = sum M s / sum s            mean(M) where all s are 0
 *   visible_b = sum (1 - M) s' / sum s'    mean(1 - M) where all s' are 0; 1 where the whole partner was resized into
 *                                          the box (ResizeMix)
 *   ratio     = visible_a / (visible_a + visible_b)    lam where both are 0
 *
 * With gates w, w', the shares are w visible_a + (1 - w) A and w' visible_b + (1 - w') (1 - A) first, A = mean(M). A
 * rule then makes the weights of the two labels of them, and of all classes evenly: sumix_weigh_labels.
 *
 * M is exact: a cell of the map covers height / h x width / w pixels, which need not be whole, and M is the integral of
 * the mix's own mask over it. In units of 1 / h and 1 / w pixel all edges are integers (cell y spans y * height to
 * (y + 1) * height, pixel r spans r * h to (r + 1) * h), and overlaps are products of a vertical and a horizontal one.
 *
 * The map is read from memory once. Where channels are outermost (NCHW) that takes one pass, because channel c needs
 * its own mean alone: f_p . g - |g|^2 = sum over c of g_c (f[c, p] - g_c). Where they are innermost (channels_last,
 * tokens) a first pass sums g and a second one, over the same sample in the cache, projects. Subtracting before
 * multiplying keeps what stands out exact where the map is nearly flat, and makes it 0, or as good as, where it is
 * constant. A map whose evidence nowhere exceeds min_contrast |g|^2 counts as flat: all of it 0, that is, area.
 * Rounding noise would otherwise be taken for an object, since only ratios of evidence count.
 *
 * An image is one thread's work in both passes, so that the number of threads changes nothing. Sums over places are
 * formed in double and in one order for numerator and denominator: since M <= 1, no share exceeds 1. Where M is the
 * same in all cells (MixUp, an empty box, a box over all), the shares are M and 1 - M whatever the maps hold, NaN too,
 * and no map is read, unless the rule weighs images by the sums of their evidence.
 */
#include <math.h>

#include "../masked_similarity.h"
#include "half.h"
#include "inverse.h"
#include "isa.h"
#include "parallel.h"
#include "real.h"

enum { BLOCK = 32 };  // channels or places that are widened at a time
enum { ROWS = 4 };    // rows of a mask that are added up at a time

enum { MASK_OUT_OF_RANGE = 1, OBJECTS_NEGATIVE = 2 };

struct similarity_task {
  const struct sumix_masked_similarity_args *args;
  double *evidence;  // (n, h, w), frames summed; NULL for objects, which are evidence as they come
  uint8_t *found;    // (n): what is wrong with the values of this sample
  atomic_bool failed;
};

static struct sumix_map map_of(const struct sumix_masked_similarity_args *a)
{
  return (struct sumix_map){a->features, a->stride, a->d, a->frames * a->h * a->w, a->dtype, a->channels_last};
}

#define REAL float
#define SUFFIX(name) name##_f32
#include "evidence_rows.h"
#include "masked_similarity_rows.h"
#undef REAL
#undef SUFFIX

#define REAL double
#define SUFFIX(name) name##_f64
#include "evidence_rows.h"
#include "masked_similarity_rows.h"

static int check_values(const struct sumix_masked_similarity_args *a, struct sumix_status *status)
{
  SUMIX_TRY(sumix_check_partners(a->perm, a->n, status));
  if (a->box != NULL) SUMIX_TRY(sumix_check_boxes(a->box, a->n, a->height, a->width, status));
  for (int64_t i = 0; i < a->n; i++) {
    const double lam = real_at(a->dtype, a->lam, i);
    SUMIX_CHECK(lam >= 0 && lam <= 1, status, "lam[%lld] is %g, expected 0 to 1", (long long)i, lam);
    const double gate = a->gate != NULL ? real_at(a->dtype, a->gate, i) : 1;
    SUMIX_CHECK(!(gate < 0 || gate > 1), status, "gate[%lld] is %g, expected 0 to 1", (long long)i, gate);
    if (a->resize != NULL)
      SUMIX_CHECK(a->resize[i] >= 0 && a->resize[i] <= 3, status, "resize[%lld] is %lld, expected 0 to 3", (long long)i,
                  (long long)a->resize[i]);
    if (a->evidence == SUMIX_EVIDENCE_CAM)
      SUMIX_CHECK(a->labels[i] >= -1 && a->labels[i] < a->k, status, "labels[%lld] is %lld, expected -1 to %lld",
                  (long long)i, (long long)a->labels[i], (long long)a->k - 1);
  }
  return 0;
}

/* ROWS rows of the mask, and how much each counts. */
struct mask_rows {
  int64_t at[ROWS];  // of their first pixels
  double weight[ROWS];
};

/* column[x] += sum of weight * mask[x]. Returns whether all values lie within 0 to 1. */
static bool add_rows_f32(const float *restrict mask, const struct mask_rows *rows, int64_t from, int64_t to,
                         double *restrict column)
{
  const float *restrict m0 = mask + rows->at[0], *restrict m1 = mask + rows->at[1];
  const float *restrict m2 = mask + rows->at[2], *restrict m3 = mask + rows->at[3];
  const double w0 = rows->weight[0], w1 = rows->weight[1], w2 = rows->weight[2], w3 = rows->weight[3];
  float least = 0, most = 0, differences = 0;
#pragma omp simd reduction(min : least) reduction(max : most) reduction(+ : differences)
  for (int64_t x = from; x < to; x++) {
    const float low01 = m0[x] < m1[x] ? m0[x] : m1[x], low23 = m2[x] < m3[x] ? m2[x] : m3[x];
    const float high01 = m0[x] < m1[x] ? m1[x] : m0[x], high23 = m2[x] < m3[x] ? m3[x] : m2[x];
    least = low01 < least ? low01 : least, least = low23 < least ? low23 : least;
    most = high01 > most ? high01 : most, most = high23 > most ? high23 : most;
    differences += (m0[x] - m0[x]) + (m1[x] - m1[x]) + (m2[x] - m2[x]) + (m3[x] - m3[x]);  // 0, or NaN
    column[x] += (w0 * (double)m0[x] + w1 * (double)m1[x]) + (w2 * (double)m2[x] + w3 * (double)m3[x]);
  }
  return least >= 0 && most <= 1 && differences == 0;
}

static bool add_rows_u8(const uint8_t *restrict mask, const struct mask_rows *rows, int64_t from, int64_t to,
                        double *restrict column)
{
  const uint8_t *restrict m0 = mask + rows->at[0], *restrict m1 = mask + rows->at[1];
  const uint8_t *restrict m2 = mask + rows->at[2], *restrict m3 = mask + rows->at[3];
  const double w0 = rows->weight[0], w1 = rows->weight[1], w2 = rows->weight[2], w3 = rows->weight[3];
  uint8_t all = 0;
#pragma omp simd reduction(| : all)
  for (int64_t x = from; x < to; x++) {
    all |= m0[x] | m1[x] | m2[x] | m3[x];
    column[x] += (w0 * (double)m0[x] + w1 * (double)m1[x]) + (w2 * (double)m2[x] + w3 * (double)m3[x]);
  }
  return all <= 1;
}

static bool add_rows(const struct sumix_masked_similarity_args *a, const struct mask_rows *rows, int64_t from,
                     int64_t to, double *column)
{
  if (a->mask_dtype == SUMIX_UINT8) return add_rows_u8(a->mask, rows, from, to, column);
  return add_rows_f32(a->mask, rows, from, to, column);
}

/* The sum over the pixel columns of cell `at`, in units of 1 / cells pixel: whole ones, less what lies outside. */
static double sum_cell(const double *restrict column, int64_t at, int64_t cells, int64_t size)
{
  const int64_t first = sumix_cell_first(at, cells, size), end = sumix_cell_end(at, cells, size);
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = first; c < end; c++) sum += column[c];
  return (double)cells * sum - (double)(at * size - first * cells) * column[first] -
         (double)(end * cells - (at + 1) * size) * column[end - 1];
}

static double mask_value(const struct sumix_masked_similarity_args *a, int64_t i)
{
  return a->mask_dtype == SUMIX_UINT8 ? ((const uint8_t *)a->mask)[i] : (double)((const float *)a->mask)[i];
}

/* M of sample i under a mask of its own value in every pixel, outside the box. Rows are summed first, pixel column by
 * pixel column, and then the columns of each cell. Returns whether the mask's values lie within 0 to 1. */
static bool average_mask(const struct sumix_masked_similarity_args *a, int64_t i, const int64_t *box,
                         double *restrict kept, double *restrict column)
{
  const double area = (double)a->height * (double)a->width;
  bool valid = true;
  for (int64_t y = 0; y < a->h; y++) {
    memset(column, 0, (size_t)a->width * sizeof *column);
    const int64_t last = sumix_cell_end(y, a->h, a->height);
    for (int64_t r = sumix_cell_first(y, a->h, a->height), next; r < last; r = next) {
      const bool boxed = r >= box[1] && r < box[3];
      next = r + ROWS < last ? r + ROWS : last;
      if (r < box[1] && next > box[1]) next = box[1];
      if (boxed && next > box[3]) next = box[3];
      struct mask_rows rows;
      for (int64_t t = 0; t < ROWS; t++) {  // those that are missing count 0
        const int64_t row = r + t < next ? r + t : r;
        rows.at[t] = (i * a->height + row) * a->width;
        rows.weight[t] = r + t < next ? sumix_cell_overlap(y, a->h, a->height, row, row + 1) : 0;
      }
      valid &= add_rows(a, &rows, 0, boxed ? box[0] : a->width, column);
      if (boxed) valid &= add_rows(a, &rows, box[2], a->width, column);
    }
    for (int64_t x = 0; x < a->w; x++) {
      kept[y * a->w + x] = sumix_cell_share(sum_cell(column, x, a->w, a->width) / area);
    }
  }
  return valid;
}

/* M of sample i under a value that is the same everywhere outside the box. */
static void average_box(const struct sumix_masked_similarity_args *a, const int64_t *box, double value, double *kept)
{
  for (int64_t y = 0; y < a->h; y++)
    for (int64_t x = 0; x < a->w; x++)
      kept[y * a->w + x] = sumix_cell_outside(y, x, a->h, a->w, a->height, a->width, box, value);
}

/* sum M s / sum s, of 1 - M for the partner; the mean of that where there is no evidence at all. */
static double visible_share(const double *restrict kept, const double *restrict s, int64_t cells, bool partner)
{
  const double sign = partner ? -1 : 1, origin = partner ? 1 : 0;
  double seen = 0, total = 0, area = 0;
#pragma omp simd reduction(+ : seen, total, area)
  for (int64_t p = 0; p < cells; p++) {
    const double m = origin + sign * kept[p];
    seen += m * s[p];
    total += s[p];
    area += m;
  }
  return total == 0 ? area / (double)cells : seen / total;
}

/* The evidence of image j: where it lies, or widened into scratch. */
static const double *evidence_of(struct similarity_task *task, int64_t j, int64_t i, double *scratch)
{
  const struct sumix_masked_similarity_args *a = task->args;
  const int64_t cells = a->h * a->w;
  if (task->evidence != NULL) return task->evidence + j * cells;
  float *narrow = (float *)(scratch + cells);
  if (a->dtype == SUMIX_FLOAT64) {
    memcpy(scratch, (const double *)a->features + j * a->stride, (size_t)cells * sizeof *scratch);
  } else {
    const float *x = sumix_load_f32(a->dtype, a->features, j * a->stride, cells, narrow);
    for (int64_t p = 0; p < cells; p++) scratch[p] = x[p];
  }
  bool negative = false;
  for (int64_t p = 0; p < cells; p++) negative |= scratch[p] < 0;
  if (negative && i == j) task->found[i] |= OBJECTS_NEGATIVE;
  return scratch;
}

static double sum_of(const double *restrict x, int64_t count)
{
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t p = 0; p < count; p++) sum += x[p];
  return sum;
}

/* The sums of both images' evidence, for the rule that asks for them. */
static void add_masses(struct similarity_task *task, int64_t i, double *scratch, struct sumix_visible *visible)
{
  const struct sumix_masked_similarity_args *a = task->args;
  if (a->rule != SUMIX_RULE_ABSOLUTE) return;
  visible->own_mass = sum_of(evidence_of(task, i, i, scratch), a->h * a->w);
  visible->partner_mass = sum_of(evidence_of(task, a->perm[i], i, scratch), a->h * a->w);
}

static void set_shares(const struct sumix_masked_similarity_args *a, int64_t i, const struct sumix_visible *visible)
{
  const struct sumix_label_weights weights =
      sumix_weigh_labels(a->rule, visible, a->area_weight, real_at(a->dtype, a->lam, i));
  set_real(a->dtype, a->visible_a, i, visible->own);
  set_real(a->dtype, a->visible_b, i, visible->partner);
  set_real(a->dtype, a->ratio, i, weights.ratio);
  set_real(a->dtype, a->weights, 3 * i, weights.own);
  set_real(a->dtype, a->weights, 3 * i + 1, weights.partner);
  set_real(a->dtype, a->weights, 3 * i + 2, weights.rest);
}

static void open_gates(const struct sumix_masked_similarity_args *a, int64_t i, struct sumix_visible *visible)
{
  visible->own = sumix_gated(real_at(a->dtype, a->gate, i), visible->own, visible->area);
  visible->partner = sumix_gated(real_at(a->dtype, a->gate, a->perm[i]), visible->partner, 1 - visible->area);
}

/* What sample i keeps of its own image outside its box, where that is the same everywhere. */
static double constant_mask(const struct sumix_masked_similarity_args *a, int64_t i)
{
  if (a->mask != NULL) return mask_value(a, i);
  return a->box != NULL ? 1 : real_at(a->dtype, a->lam, i);
}

static void share_rows(int64_t begin, int64_t end, void *context)
{
  struct similarity_task *task = context;
  const struct sumix_masked_similarity_args *a = task->args;
  const int64_t cells = a->h * a->w;
  double *const kept = sumix_scratch(3 * cells + a->width, sizeof(double));
  if (kept == NULL) task->failed = true;
  for (int64_t i = begin; i < end && kept != NULL; i++) {
    double *const scratch = kept + cells, *const column = scratch + 2 * cells;
    static const int64_t no_box[4] = {0, 0, 0, 0};
    const int64_t *box = a->box != NULL ? a->box + 4 * i : no_box;
    const bool pasted = box[0] < box[2] && box[1] < box[3];
    const bool constant = a->mask == NULL || a->mask_is_constant;
    const double value = constant ? constant_mask(a, i) : 0;
    if (!(value >= 0 && value <= 1)) task->found[i] |= MASK_OUT_OF_RANGE;
    if (a->evidence == SUMIX_EVIDENCE_OBJECT) evidence_of(task, i, i, scratch);  // checks it, used or not
    struct sumix_visible visible = {.own = value, .partner = 1 - value, .area = value};
    add_masses(task, i, scratch, &visible);
    if (constant && !pasted) {
      set_shares(a, i, &visible);
      continue;
    }
    if (constant)
      average_box(a, box, value, kept);
    else if (!average_mask(a, i, pasted ? box : no_box, kept, column))
      task->found[i] |= MASK_OUT_OF_RANGE;

    double least = kept[0], most = kept[0];
    for (int64_t p = 1; p < cells; p++) {
      least = kept[p] < least ? kept[p] : least;
      most = kept[p] > most ? kept[p] : most;
    }
    visible.own = visible.area = least;
    visible.partner = 1 - least;
    if (least != most) {
      visible.own = visible_share(kept, evidence_of(task, i, i, scratch), cells, false);
      visible.partner = visible_share(kept, evidence_of(task, a->perm[i], i, scratch), cells, true);
      if (a->gate != NULL || a->area_weight > 0) visible.area = sum_of(kept, cells) / (double)cells;
      if (a->gate != NULL) open_gates(a, i, &visible);
    }
    if (pasted && a->resize != NULL && a->resize[i] != 0) visible.partner = 1;
    set_shares(a, i, &visible);
  }
  free(kept);
}

static int run(struct similarity_task *task, struct sumix_status *status)
{
  const struct sumix_masked_similarity_args *a = task->args;
  const bool wide = a->dtype == SUMIX_FLOAT64;
  task->found = calloc((size_t)a->n + 1, 1);
  if (task->found == NULL) return sumix_out_of_memory(status);
  if (a->evidence != SUMIX_EVIDENCE_OBJECT && sumix_masked_similarity_reads_maps(a)) {
    task->evidence = sumix_scratch(a->n * a->h * a->w, sizeof *task->evidence);
    if (task->evidence == NULL) return sumix_out_of_memory(status);
    SUMIX_TRY(sumix_parallel_rows(a->n, a->d * a->frames * a->h * a->w, wide ? evidence_rows_f64 : evidence_rows_f32,
                                  task, status));
  }
  const int64_t pixels = a->mask != NULL && !a->mask_is_constant ? a->height * a->width : 0;
  SUMIX_TRY(sumix_parallel_rows(a->n, pixels + 4 * a->h * a->w, share_rows, task, status));
  if (task->failed) return sumix_out_of_memory(status);
  for (int64_t i = 0; i < a->n; i++) {
    SUMIX_CHECK(!(task->found[i] & MASK_OUT_OF_RANGE), status, "mask[%lld] has values outside 0 to 1, or NaN",
                (long long)i);
    SUMIX_CHECK(!(task->found[i] & OBJECTS_NEGATIVE), status, "objects[%lld] has values below 0", (long long)i);
  }
  return 0;
}

int SUMIX_KERNEL(masked_similarity)(const struct sumix_masked_similarity_args *a, struct sumix_status *status)
{
  SUMIX_TRY(check_values(a, status));
  struct similarity_task task = {.args = a};
  const int failed = run(&task, status);
  free(task.evidence);
  free(task.found);
  return failed;
}
