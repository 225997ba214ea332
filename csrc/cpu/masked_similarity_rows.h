/* The evidence maps of masked_similarity.c for one type. */

static void SUFFIX(evidence_rows)(int64_t begin, int64_t end, void *context)
{
  struct similarity_task *task = context;
  const struct sumix_masked_similarity_args *a = task->args;
  const struct sumix_map map = map_of(a);
  const bool cam = a->evidence == SUMIX_EVIDENCE_CAM;
  const int64_t places = map.places, cells = a->h * a->w;
  REAL *acc = sumix_scratch(places + a->d + SUFFIX(widened_size)(&map), sizeof(REAL));
  if (acc == NULL) task->failed = true;
  for (int64_t i = begin; i < end && acc != NULL; i++) {
    double *evidence = task->evidence + i * cells, squares;
    if (cam && a->labels[i] < 0) {
      memset(evidence, 0, (size_t)cells * sizeof *evidence);
      continue;
    }
    const REAL *w = cam ? (const REAL *)a->class_weight + a->labels[i] * a->d : NULL;
    REAL *const g = acc + places, *const widened = g + a->d;
    if (a->channels_last)
      squares = SUFFIX(compare_places)(&map, i, w, acc, g, widened);
    else
      squares = SUFFIX(compare_channels)(&map, i, w, acc, widened);
    SUFFIX(stand_out)(acc, places, cells, cam, squares, a->min_contrast, evidence);
  }
  free(acc);
}
