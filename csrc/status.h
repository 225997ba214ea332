/* Errors travel upwards as a return value and a message; only boxed.c turns them into a Python exception. */
#ifndef SUMIX_STATUS_H
#define SUMIX_STATUS_H

#include <stdarg.h>
#include <stdio.h>

struct sumix_status {
  char message[256];
  int no_fault_of_the_arguments;  // memory or threads were not to be had
};

__attribute__((format(printf, 2, 3))) static inline void sumix_explain(struct sumix_status *status, const char *format,
                                                                       ...)
{
  va_list values;
  va_start(values, format);
  vsnprintf(status->message, sizeof status->message, format, values);
  va_end(values);
  status->no_fault_of_the_arguments = 0;
}

static inline int sumix_out_of_memory(struct sumix_status *status)
{
  sumix_explain(status, "out of memory");
  status->no_fault_of_the_arguments = 1;
  return -1;
}

/* Leave the calling function: with the reason given, with the reason a callee gave, or with a reason unless a condition
 * holds. */
#define SUMIX_FAIL(status, ...) return sumix_explain(status, __VA_ARGS__), -1

#define SUMIX_TRY(call)                                                                                                \
  do {                                                                                                                 \
    if ((call) != 0) return -1;                                                                                        \
  } while (0)

#define SUMIX_CHECK(condition, status, ...)                                                                            \
  do {                                                                                                                 \
    if (!(condition)) SUMIX_FAIL(status, __VA_ARGS__);                                                                 \
  } while (0)

#endif
