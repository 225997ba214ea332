/* Rows over torch's threads, so that torch.set_num_threads is obeyed. */
#ifndef SUMIX_CPU_PARALLEL_H
#define SUMIX_CPU_PARALLEL_H

#include <stdatomic.h>
#include <stdlib.h>

#include "../kernels.h"
#include "../torch_abi.h"

enum { SUMIX_GRAIN = 16384 };  // elements a thread should at least have: below, waking it costs more than it saves

/* What a range function gets. It reports that it found no memory by setting failed, from any thread. */
struct sumix_task {
  const void *args;
  atomic_bool failed;
};

static inline int64_t sumix_rows_a_thread(int64_t elements_a_row) { return 1 + SUMIX_GRAIN / (elements_a_row + 1); }

/* `grain`: rows that a thread should at least have; n keeps them all on one. */
static inline int sumix_parallel_for(int64_t n, int64_t grain, ParallelFunc rows, void *task,
                                     struct sumix_status *status)
{
  if (n == 0) return 0;
  if (libtorch.torch_parallel_for(0, n, grain, rows, task) == 0) return 0;
  sumix_explain(status, "torch's parallel_for failed");
  status->no_fault_of_the_arguments = 1;
  return -1;
}

static inline int sumix_parallel_rows(int64_t n, int64_t elements_a_row, ParallelFunc rows, void *task,
                                      struct sumix_status *status)
{
  return sumix_parallel_for(n, sumix_rows_a_thread(elements_a_row), rows, task, status);
}

/* n values of `size` bytes, 64-byte aligned, for free(). NULL if there is no memory. */
static inline void *sumix_scratch(int64_t n, size_t size)
{
  const size_t bytes = ((size_t)n * size + 63) / 64 * 64;
  return aligned_alloc(64, bytes > 0 ? bytes : 64);
}

#endif
