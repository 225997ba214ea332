/* Stands in for libtorch in the C tests, which run the kernels without Python: parallel_for as one plain call. */
#ifndef SUMIX_TESTS_NO_TORCH_H
#define SUMIX_TESTS_NO_TORCH_H

#include "../../csrc/torch_abi.h"

static AOTITorchError serial(int64_t begin, int64_t end, int64_t grain_size, ParallelFunc body, void *context)
{
  (void)grain_size;
  body(begin, end, context);
  return 0;
}

struct sumix_libtorch libtorch = {.torch_parallel_for = serial};

#endif
