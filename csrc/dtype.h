/* What the elements of a tensor are. */
#ifndef SUMIX_DTYPE_H
#define SUMIX_DTYPE_H

enum sumix_dtype {
  SUMIX_FLOAT32,
  SUMIX_FLOAT64,
  SUMIX_FLOAT16,
  SUMIX_BFLOAT16,
  SUMIX_UINT8,
  SUMIX_INT8,
  SUMIX_INT16,
  SUMIX_INT32,
  SUMIX_INT64,
  SUMIX_OTHER,  // known by its size alone: copied, never computed with
};

#endif
