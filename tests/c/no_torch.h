/* Stands in for libtorch where kernels are tested alone: parallel_for over real threads. Include it in one file. */
#ifndef SUMIX_TESTS_NO_TORCH_H
#define SUMIX_TESTS_NO_TORCH_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../csrc/kernels.h"
#include "../../csrc/torch_abi.h"

enum { MAX_THREADS = 8 };
static int num_threads = 1;

struct slice {
  int64_t begin, end;
  ParallelFunc body;
  void *context;
};

static void *run_slice(void *slice)
{
  const struct slice *s = slice;
  s->body(s->begin, s->end, s->context);
  return NULL;
}

/* A slice a thread, whatever the grain, except that a grain of the whole range or more means one thread: as in torch.
 */
static AOTITorchError parallel_for(int64_t begin, int64_t end, int64_t grain, ParallelFunc body, void *context)
{
  pthread_t threads[MAX_THREADS];
  struct slice slices[MAX_THREADS];
  const int64_t n = end - begin;
  const int count = grain >= n || n < num_threads ? 1 : num_threads;
  for (int t = 0; t < count; t++) {
    slices[t] = (struct slice){begin + n * t / count, begin + n * (t + 1) / count, body, context};
    if (t > 0 && pthread_create(&threads[t], NULL, run_slice, &slices[t]) != 0) abort();
  }
  run_slice(&slices[0]);
  for (int t = 1; t < count; t++) pthread_join(threads[t], NULL);
  return 0;
}

struct sumix_libtorch libtorch = {.torch_parallel_for = parallel_for};

/* The tests are built with the baseline kernels. */
#define SUMIX_KERNEL_UNDER_TEST(name)                                                                                  \
  int sumix_##name##_cpu_baseline(const struct sumix_##name##_args *, struct sumix_status *);
SUMIX_KERNELS(SUMIX_KERNEL_UNDER_TEST)

#define CHECK(condition)                                                                                               \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                                    \
      exit(1);                                                                                                         \
    }                                                                                                                  \
  } while (0)

/* Whether the message names this, "lam[2]". A CUDA kernel's assertion names the argument alone. */
static inline bool blames(const struct sumix_status *status, const char *what)
{
#ifdef SUMIX_TEST_CUDA
  char name[64];
  snprintf(name, sizeof name, "\"%.*s ", (int)strcspn(what, "[ "), what);
  return strstr(status->message, name) != NULL;
#else
  return strstr(status->message, what) != NULL;
#endif
}

/* A buffer of exactly this size, so that AddressSanitizer sees the first byte beyond it. */
static inline void *exactly(size_t bytes)
{
  void *memory = malloc(bytes > 0 ? bytes : 1);
  CHECK(memory != NULL);
  return memory;
}

/* Uniform in [0, 1), the same every run. */
static inline double uniform(void)
{
  static uint64_t state = 88172645463325252u;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (double)(state >> 11) * 0x1p-53;
}

#endif
