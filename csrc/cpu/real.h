/* Elements of small arrays whose type is "real": double for SUMIX_FLOAT64, else float. */
#ifndef SUMIX_CPU_REAL_H
#define SUMIX_CPU_REAL_H

#include "../kernels.h"

static inline double real_at(enum sumix_dtype dtype, const void *x, int64_t i)
{
  return dtype == SUMIX_FLOAT64 ? ((const double *)x)[i] : (double)((const float *)x)[i];
}

static inline void set_real(enum sumix_dtype dtype, void *x, int64_t i, double value)
{
  if (dtype == SUMIX_FLOAT64)
    ((double *)x)[i] = value;
  else
    ((float *)x)[i] = (float)value;
}

#endif
