/* The masked_similarity kernel without torch, in buffers of their exact size: every type, layout and kind of mix at odd
 * shapes, values out of range, the same bits on one thread and on several, and M against a count of sub-pixels. */
#include <math.h>
#include <string.h>

#include "../../csrc/masked_similarity.h"
#include "no_torch.h"

static size_t size_of(enum sumix_dtype dtype) { return dtype == SUMIX_FLOAT64 ? 8 : dtype == SUMIX_FLOAT32 ? 4 : 2; }

static void set(enum sumix_dtype dtype, void *x, int64_t i, double value)
{
  if (dtype == SUMIX_FLOAT64) ((double *)x)[i] = value;
  if (dtype == SUMIX_FLOAT32) ((float *)x)[i] = (float)value;
  if (size_of(dtype) == 2)
    ((uint16_t *)x)[i] = (uint16_t)(0x3c00 + (int)(uniform() * 512));  // from about 1 on, or 0.01
}

static double get(enum sumix_dtype dtype, const void *x, int64_t i)
{
  return dtype == SUMIX_FLOAT64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static enum sumix_dtype real_of(enum sumix_dtype dtype)
{
  return dtype == SUMIX_FLOAT64 ? SUMIX_FLOAT64 : SUMIX_FLOAT32;
}

/* `prefix`: tokens before the map. */
static struct sumix_masked_similarity_args new_batch(enum sumix_dtype dtype, enum sumix_evidence evidence, bool last,
                                                     const int64_t shape[6], int64_t prefix)
{
  const int64_t n = shape[0], d = shape[1], frames = shape[2], h = shape[3], w = shape[4], k = 3;
  const int64_t stride = d * (frames * h * w + prefix), height = 2 * h + shape[5], width = 3 * w + shape[5];
  const size_t real = size_of(real_of(dtype));
  char *features = exactly((size_t)(n * stride) * size_of(dtype));
  void *class_weight = exactly((size_t)(k * d) * real), *lam = exactly((size_t)n * real);
  int64_t *labels = exactly((size_t)n * 8), *perm = exactly((size_t)n * 8), *box = exactly((size_t)n * 32);
  int64_t *resize = exactly((size_t)n * 8);
  void *gate = exactly((size_t)n * real);
  float *mask = exactly((size_t)(n * height * width) * 4);
  for (int64_t i = 0; i < n * stride; i++) set(dtype, features, i, uniform());
  for (int64_t i = 0; i < k * d; i++) set(real_of(dtype), class_weight, i, uniform() - 0.3);
  for (int64_t i = 0; i < n; i++) {
    set(real_of(dtype), lam, i, uniform());
    set(real_of(dtype), gate, i, uniform());
    labels[i] = (int64_t)(uniform() * (double)(k + 1)) - 1;
    perm[i] = (int64_t)(uniform() * (double)n);
    resize[i] = (int64_t)(uniform() * 4);
    int64_t *b = box + 4 * i;
    for (int side = 0; side < 2; side++) {
      const int64_t size = side == 0 ? width : height;
      b[side] = (int64_t)(uniform() * (double)(size + 1));
      b[side + 2] = b[side] + (int64_t)(uniform() * (double)(size - b[side] + 1));
    }
  }
  for (int64_t i = 0; i < n * height * width; i++) mask[i] = (float)uniform();
  return (struct sumix_masked_similarity_args){
      .dtype = dtype,
      .evidence = evidence,
      .channels_last = last,
      .n = n,
      .d = d,
      .frames = frames,
      .h = h,
      .w = w,
      .k = k,
      .height = height,
      .width = width,
      .features = features + (size_t)(prefix * d) * size_of(dtype),
      .stride = stride,
      .class_weight = class_weight,
      .labels = labels,
      .perm = perm,
      .lam = lam,
      .box = box,
      .mask = mask,
      .mask_dtype = SUMIX_FLOAT32,
      .resize = resize,
      .gate = gate,
      .min_contrast = 1e-6,
      .visible_a = exactly((size_t)n * real),
      .visible_b = exactly((size_t)n * real),
      .ratio = exactly((size_t)n * real),
      .weights = exactly((size_t)(3 * n) * real),
  };
}

static void free_batch(const struct sumix_masked_similarity_args *a, int64_t prefix)
{
  const void *all[] = {(const char *)a->features - (size_t)(prefix * a->d) * size_of(a->dtype),
                       a->class_weight,
                       a->labels,
                       a->perm,
                       a->lam,
                       a->box,
                       a->mask,
                       a->resize,
                       a->gate,
                       a->visible_a,
                       a->visible_b,
                       a->ratio,
                       a->weights};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free((void *)all[i]);
}

/* Emulated threads take time, most of all under ThreadSanitizer: every how many of the cases are tested there. */
#if defined SUMIX_TEST_CUDA && defined __SANITIZE_THREAD__
enum { EVERY = 61 };
#elif defined SUMIX_TEST_CUDA
enum { EVERY = 5 };
#else
enum { EVERY = 1 };
#endif

/* Each rule in turn, with and without gates. */
static void check_one(const struct sumix_masked_similarity_args *given)
{
  static int turn;
  if (turn++ % EVERY != 0) return;
  struct sumix_masked_similarity_args with = *given;
  const struct sumix_masked_similarity_args *a = &with;
  with.rule = (enum sumix_rule)(turn / EVERY % SUMIX_NUM_RULES);
  with.area_weight = turn / EVERY % 3 == 0 ? 0 : uniform();
  if (turn / EVERY % 5 == 0) with.gate = NULL;
  struct sumix_status status;
  const size_t real = size_of(real_of(a->dtype)), bytes = (size_t)a->n * real;
  char *one = exactly(6 * bytes);
  void *const outputs[] = {a->visible_a, a->visible_b, a->ratio, a->weights};
  for (num_threads = 1; num_threads <= 4; num_threads += 3) {
    CHECK(sumix_masked_similarity_cpu_baseline(a, &status) == 0);
    for (int t = 0; t < 4; t++) {
      const int64_t count = t < 3 ? a->n : 3 * a->n;
      if (num_threads == 1) memcpy(one + (size_t)t * bytes, outputs[t], (size_t)count * real);
      CHECK(memcmp(one + (size_t)t * bytes, outputs[t], (size_t)count * real) == 0);
      for (int64_t i = 0; i < count; i++) {
        const double value = get(real_of(a->dtype), outputs[t], i);
        CHECK(value >= 0 && value <= 1);
      }
    }
  }
  num_threads = 1;
  free(one);
}

/* With a mask, with a box, with both, with a value for each sample, and with none. */
static void check_all(enum sumix_dtype dtype, enum sumix_evidence evidence, bool last, const int64_t shape[6],
                      int64_t prefix)
{
  const struct sumix_masked_similarity_args a = new_batch(dtype, evidence, last, shape, prefix);
  struct sumix_masked_similarity_args changed = a;
  check_one(&changed);
  changed.mask = NULL;
  check_one(&changed);
  changed.resize = NULL;
  check_one(&changed);
  changed.box = NULL;
  check_one(&changed);
  changed.mask = a.mask;
  check_one(&changed);
  changed.mask_is_constant = true;
  check_one(&changed);
  changed.box = a.box;
  check_one(&changed);
  free_batch(&a, prefix);
}

/* Half of an object and nothing of another, under each rule. */
static void check_rules(void)
{
  static const double expected[SUMIX_NUM_RULES][4] = {
      {1, 0, 0, 1}, {0.5, 0, 0, 1}, {1, 0, 0, 1}, {0.5, 0, 0.5, 1}};  // weights, and the ratio
  const struct sumix_visible half = {.own = 0.5, .own_mass = 3, .partner_mass = 5, .area = 0.75};
  const struct sumix_visible whole = {.own = 1, .partner = 1, .own_mass = 1, .partner_mass = 3, .area = 0.75};
  const struct sumix_visible nothing = {.area = 0.75};
  for (int r = 0; r < SUMIX_NUM_RULES; r++) {
    const enum sumix_rule rule = (enum sumix_rule)r;
    for (int t = 0; t < 2; t++) {  // all by the rule, and half of it by the area
      const double part = t == 0 ? 1 : 0.5, rest = 1 - part;
      const struct sumix_label_weights got = sumix_weigh_labels(rule, &half, rest, 0.25);
      CHECK(got.own == part * expected[r][0] + rest * 0.75);
      CHECK(got.partner == part * expected[r][1] + rest * 0.25);
      CHECK(got.rest == part * expected[r][2]);
      CHECK(fabs(got.ratio - got.own / (got.own + got.partner)) < 1e-15);
    }
    const bool relative = rule == SUMIX_RULE_RELATIVE || rule == SUMIX_RULE_ABSOLUTE;
    const struct sumix_label_weights none = sumix_weigh_labels(rule, &nothing, 0, 0.25);
    CHECK(none.ratio == 0.25 && none.own == (relative ? 0.25 : 0) && none.rest == (rule == SUMIX_RULE_UNCERTAIN));
    const struct sumix_label_weights both = sumix_weigh_labels(rule, &whole, 0, 0.25);
    CHECK(both.own == (rule == SUMIX_RULE_VISIBLE ? 1 : rule == SUMIX_RULE_ABSOLUTE ? 0.25 : 0.5) && both.rest == 0);
  }
}

static void check_values(void)
{
  const int64_t shape[] = {5, 8, 1, 3, 2, 1};
  const struct sumix_masked_similarity_args a = new_batch(SUMIX_FLOAT32, SUMIX_EVIDENCE_CAM, false, shape, 0);
  struct sumix_status status;
  struct {
    void *at;
    int64_t index, bad;
    const char *name;
  } integers[] = {
      {(void *)a.perm, 4, 5, "perm"},       {(void *)a.perm, 0, -1, "perm"},    {(void *)a.labels, 2, 3, "labels"},
      {(void *)a.labels, 2, -2, "labels"},  {(void *)a.box, 4, -1, "box"},      {(void *)a.box, 6, a.width + 1, "box"},
      {(void *)a.box, 7, INT64_MAX, "box"}, {(void *)a.resize, 1, 4, "resize"},
  };
  for (size_t t = 0; t < sizeof integers / sizeof *integers; t++) {
    int64_t *const value = (int64_t *)integers[t].at + integers[t].index, before = *value;
    *value = integers[t].bad;
    CHECK(sumix_masked_similarity_cpu_baseline(&a, &status) == -1);
    CHECK(blames(&status, integers[t].name));
    *value = before;
  }
  const float bad[] = {-0.5f, 1.5f, NAN};
  for (int b = 0; b < 3; b++) {
    float *const places[] = {(float *)a.lam + 3, (float *)a.mask + a.height * a.width + 1, (float *)a.gate + 2};
    const char *const names[] = {"lam", "mask[1]", "gate"};
    memset((void *)a.box, 0, (size_t)a.n * 32);
    for (int p = 0; p < (isnan(bad[b]) ? 2 : 3); p++) {  // a gate of NaN makes its labels NaN
      const float before = *places[p];
      *places[p] = bad[b];
      CHECK(sumix_masked_similarity_cpu_baseline(&a, &status) == -1);
      CHECK(blames(&status, names[p]));
      *places[p] = before;
    }
  }
  CHECK(sumix_masked_similarity_cpu_baseline(&a, &status) == 0);
  free_batch(&a, 0);
}

/* One object cell at a time reads M off, cell by cell; height x width pixels of h x w sub-pixels each. */
static void check_integral(void)
{
  const int64_t shape[] = {12, 1, 1, 3, 4, 1};
  struct sumix_masked_similarity_args a = new_batch(SUMIX_FLOAT64, SUMIX_EVIDENCE_OBJECT, false, shape, 0);
  void *const gate = (void *)a.gate;
  struct sumix_status status;
  double *objects = (double *)a.features;
  a.gate = NULL;
  for (int64_t i = 0; i < 12; i++) {
    for (int64_t p = 0; p < 12; p++) objects[12 * i + p] = i == p;
    ((int64_t *)a.perm)[i] = i;
    ((int64_t *)a.resize)[i] = 0;
  }
  CHECK(sumix_masked_similarity_cpu_baseline(&a, &status) == 0);
  for (int64_t i = 0; i < 12; i++) {
    const int64_t *b = a.box + 4 * i;
    double sum = 0;
    for (int64_t y = i / 4 * a.height; y < (i / 4 + 1) * a.height; y++)
      for (int64_t x = i % 4 * a.width; x < (i % 4 + 1) * a.width; x++) {
        const int64_t row = y / a.h, column = x / a.w;
        const bool inside = row >= b[1] && row < b[3] && column >= b[0] && column < b[2];
        if (!inside) sum += (double)((const float *)a.mask)[(i * a.height + row) * a.width + column];
      }
    sum /= (double)(a.height * a.width);
    CHECK(fabs(((double *)a.visible_a)[i] - sum) < 1e-14);
    CHECK(fabs(((double *)a.visible_b)[i] - (1 - sum)) < 1e-14);
  }
  a.gate = gate;
  free_batch(&a, 0);
}

int main(void)
{
  static const int64_t shapes[][6] = {{1, 1, 1, 1, 1, 0},  {3, 5, 1, 7, 7, 1},  {2, 37, 1, 4, 4, 0},
                                      {4, 33, 1, 1, 9, 2}, {5, 70, 2, 3, 5, 1}, {0, 3, 1, 2, 2, 1},
                                      {2, 4, 1, 9, 1, -1}, {2, 6, 1, 9, 9, 0},  {2, 35, 3, 10, 10, 1}};
  for (int dtype = SUMIX_FLOAT32; dtype <= SUMIX_BFLOAT16; dtype++)
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
      for (int evidence = 0; evidence < SUMIX_EVIDENCE_OBJECT; evidence++) {
        check_all((enum sumix_dtype)dtype, (enum sumix_evidence)evidence, false, shapes[s], 0);
        check_all((enum sumix_dtype)dtype, (enum sumix_evidence)evidence, true, shapes[s], 2);
      }
      const int64_t *t = shapes[s], objects[] = {t[0], 1, 1, t[3], t[4], t[5]};
      check_all((enum sumix_dtype)dtype, SUMIX_EVIDENCE_OBJECT, false, objects, 0);
    }
  check_values();
  check_rules();
  check_integral();
  puts("masked_similarity: passed");
  return 0;
}
