/* The scheduler of cuda_runtime.h. Compiled without sanitizers, so that ThreadSanitizer does not take its own
 * variables, which all threads of a block touch, for shared ones; what the sanitizers need to know it tells them, if
 * they are there. What it does to memory that kernels see it does byte by byte: memcpy and memset are the sanitizers'
 * own. */
#include "cuda_runtime.h"
#include "emulated.h"

#undef threadIdx
#undef blockIdx

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include <dlfcn.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

extern "C" {
__attribute__((weak)) void *__tsan_get_current_fiber();
__attribute__((weak)) void *__tsan_create_fiber(unsigned flags);
__attribute__((weak)) void __tsan_destroy_fiber(void *fiber);
__attribute__((weak)) void __tsan_switch_to_fiber(void *fiber, unsigned flags);
__attribute__((weak)) void __tsan_acquire(void *at);
__attribute__((weak)) void __tsan_release(void *at);
__attribute__((weak)) void __asan_unpoison_memory_region(const volatile void *memory, size_t bytes);
__attribute__((weak)) void __sanitizer_start_switch_fiber(void **fake_stack, const void *bottom, size_t size);
__attribute__((weak)) void __sanitizer_finish_switch_fiber(void *fake_stack, const void **bottom, size_t *size);
/* Where the linker put the static shared memory of all kernels. */
__attribute__((weak)) extern char __start_sumix_shared[];
__attribute__((weak)) extern char __stop_sumix_shared[];
}

namespace emulated
{

place *self;
emulated_index block_size, grid_size;

namespace
{

enum { NO_SYNC = 1, STACK = 64 * 1024, MOST_THREADS = 1024, WARP = 32, MOST_KEPT = 512 };
enum state { READY, AT_BARRIER, IN_EXCHANGE, DONE };

struct fibre {
  place where;
  state now;
  ucontext_t context;
  char *stack;
  void *tsan, *fake_stack;
  bool kept;            // tsan is
  int predicate;        // at a barrier
  unsigned mask;        // in an exchange
  const char *purpose;  // of the exchange
  uint64_t sent;
  uint64_t received[WARP];
};

fibre fibres[MOST_THREADS];
ucontext_t scheduler;
void *scheduler_tsan, *scheduler_fake_stack;
const void *scheduler_bottom;
size_t scheduler_size;
cudaError_t last_error;
char failure[512];
int order_wanted;

void (*body)(const void *);
const void *body_context;
char *dynamic;
int barrier_count, barrier_all;
/* What ThreadSanitizer orders by: a launch's start and end, and a fence. */
char launch_start, launch_end, fence_sync;

/* And those who meet at a barrier or at an exchange, again and again. Whoever leaves a meeting learns what everyone did
 * before it, and must not learn what those who left first have done since and release when they meet again: so two
 * places serve in turn. Nor must other blocks of the launch learn it: their meetings have other places. */
struct meeting {
  unsigned mask;  // in an exchange: whose meeting it is
  char *places;   // two
  unsigned held;  // how many times it was
};
struct two_places {
  char at[2];
};
std::deque<two_places> places;
size_t lent_places;  // to this launch; what an earlier one left in them is long known to all
meeting barrier;
std::vector<meeting> exchanges[MOST_THREADS / WARP];

void acquire(char *at)
{
  if (__tsan_acquire) __tsan_acquire(at);
}
void release(char *at)
{
  if (__tsan_release) __tsan_release(at);
}

meeting new_meeting(unsigned mask)
{
  if (lent_places == places.size()) places.emplace_back();
  return {mask, places[lent_places++].at, 0};
}

meeting *exchange_of(unsigned warp, unsigned mask)
{
  for (meeting &known : exchanges[warp])
    if (known.mask == mask) return &known;
  exchanges[warp].push_back(new_meeting(mask));
  return &exchanges[warp].back();
}

/* libc's own: AddressSanitizer's would warn of what it does not know, and is told here. */
int swap(ucontext_t *from, const ucontext_t *to)
{
  typedef int swap_type(ucontext_t *, const ucontext_t *);
  static swap_type *const swap = (swap_type *)dlsym(dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD), "swapcontext");
  return swap(from, to);
}

void copy_bytes(volatile char *to, const volatile char *from, size_t bytes)
{
  for (size_t i = 0; i < bytes; i++) to[i] = from[i];
}

void fill_bytes(volatile char *to, char value, size_t bytes)
{
  for (size_t i = 0; i < bytes; i++) to[i] = value;
}

fibre *current() { return (fibre *)((char *)self - offsetof(fibre, where)); }

void to_scheduler(fibre *from)
{
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(scheduler_tsan, NO_SYNC);
  if (__sanitizer_start_switch_fiber)
    __sanitizer_start_switch_fiber(from->now == DONE ? nullptr : &from->fake_stack, scheduler_bottom, scheduler_size);
  swap(&from->context, &scheduler);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(from->fake_stack, nullptr, nullptr);
}

void start()
{
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_size);
  acquire(&launch_start);
  body(body_context);
  release(&launch_end);
  current()->now = DONE;
  to_scheduler(current());
}

void resume(fibre *to)
{
  self = &to->where;
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(to->tsan, NO_SYNC);
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&scheduler_fake_stack, to->stack, STACK);
  swap(&scheduler, &to->context);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
}

/* Anonymous memory, at this place if one is given. ThreadSanitizer then forgets who was there before: blocks that run
 * one after another would otherwise seem to share their threads' stacks and their shared memory. */
char *new_pages(char *at, size_t bytes)
{
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (at != nullptr ? MAP_FIXED : 0);
  char *const pages = (char *)mmap(at, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (pages == MAP_FAILED) std::abort();
  return pages;
}

/* ThreadSanitizer needs most of a megabyte for a thread, and longer to clear it than a small block takes to run. What
 * orders one launch and the next lets them share threads; two blocks of a launch may not. */
std::vector<void *> kept_tsan;
size_t lent_tsan;  // to this launch

void make_tsan(fibre *f)
{
  f->kept = lent_tsan < MOST_KEPT;
  if (f->kept && lent_tsan < kept_tsan.size()) {
    f->tsan = kept_tsan[lent_tsan++];
    return;
  }
  f->tsan = __tsan_create_fiber(0);
  if (!f->kept) return;
  kept_tsan.push_back(f->tsan);
  lent_tsan++;
}

/* ended: all of the block's threads did. Those that a failed assertion left where they were are of no more use, and
 * what they did came before all that follows. */
void drop_tsan(unsigned threads, bool ended)
{
  for (unsigned t = 0; t < threads && !ended; t++) {
    __tsan_switch_to_fiber(fibres[t].tsan, NO_SYNC);
    release(&launch_end);
    __tsan_switch_to_fiber(scheduler_tsan, NO_SYNC);
  }
  for (unsigned t = 0; t < threads; t++)
    if (!fibres[t].kept) __tsan_destroy_fiber(fibres[t].tsan);
  if (ended) return;
  for (void *const tsan : kept_tsan) __tsan_destroy_fiber(tsan);
  kept_tsan.clear();
}

void make(fibre *f, unsigned thread, unsigned block)
{
  if (f->stack == nullptr || __tsan_create_fiber) f->stack = new_pages(f->stack, STACK);
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(f->stack, STACK);  // frames that an assertion left
  f->where = {{thread, 0, 0}, {block, 0, 0}};
  f->now = READY;
  f->fake_stack = nullptr;
  if (__tsan_create_fiber) make_tsan(f);
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = STACK;
  f->context.uc_link = nullptr;
  makecontext(&f->context, start, 0);
}

/* Static shared memory as a block finds it: full of garbage. */
void renew_shared(unsigned garbage)
{
  if (__start_sumix_shared == nullptr) return;
  char *const from = __start_sumix_shared, *const to = __stop_sumix_shared;
  if (__tsan_create_fiber) {
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    char *const first = (char *)((uintptr_t)from / page * page);
    const size_t bytes = ((uintptr_t)to + page - 1) / page * page - (uintptr_t)first;
    std::vector<char> kept(bytes);
    copy_bytes(kept.data(), first, bytes);
    new_pages(first, bytes);
    copy_bytes(first, kept.data(), bytes);
  }
  fill_bytes(from, (char)garbage, (size_t)(to - from));
}

void report(const char *what, unsigned threads)
{
  fprintf(stderr, "%s; block %u:\n", what, fibres[0].where.block.x);
  static const char *const states[] = {"ready", "at a barrier", "in an exchange", "done"};
  for (unsigned t = 0; t < threads; t++)
    if (t == 0 || fibres[t].now != fibres[t - 1].now)
      fprintf(stderr, "  from thread %u: %s\n", t, states[fibres[t].now]);
  std::abort();
}

/* Lets go whoever waits for nobody else any more; returns whether there was anybody. */
bool release_waiting(unsigned threads)
{
  bool any = false;
  for (unsigned warp = 0; warp < threads / WARP; warp++)
    for (unsigned lane = 0; lane < WARP; lane++) {
      fibre *const lanes = fibres + warp * WARP;
      const unsigned mask = lanes[lane].mask;
      if (lanes[lane].now != IN_EXCHANGE) continue;
      if ((mask >> lane & 1) == 0) report("a lane is not in the mask that it waits with", threads);
      bool complete = true;
      for (unsigned other = 0; other < WARP; other++)
        if (mask >> other & 1) {
          if (lanes[other].now == DONE) report("a lane named in a mask has returned", threads);
          complete &= lanes[other].now == IN_EXCHANGE && lanes[other].mask == mask;
          if (complete && lanes[other].purpose != lanes[lane].purpose)
            report("lanes of one mask wait for different things", threads);
        }
      if (!complete) continue;
      exchange_of(warp, mask)->held++;
      uint64_t sent[WARP];
      for (unsigned other = 0; other < WARP; other++) sent[other] = lanes[other].sent;
      for (unsigned other = 0; other < WARP; other++)
        if (mask >> other & 1) {
          copy_bytes((char *)lanes[other].received, (const char *)sent, sizeof sent);
          lanes[other].now = READY;
        }
      any = true;
    }
  if (any) return true;

  barrier_count = barrier_all = 0;
  for (unsigned t = 0; t < threads; t++) {
    if (fibres[t].now == IN_EXCHANGE) return false;
    if (fibres[t].now == AT_BARRIER) barrier_all++, barrier_count += fibres[t].predicate != 0;
  }
  for (unsigned t = 0; t < threads; t++)
    if (fibres[t].now == AT_BARRIER) fibres[t].now = READY;
  barrier.held++;
  return barrier_all > 0;
}

/* 0 .. n - 1 in the order asked for. */
std::vector<unsigned> order_of(unsigned n, unsigned more)
{
  std::vector<unsigned> order(n);
  std::iota(order.begin(), order.end(), 0u);
  if (order_wanted == 1) std::reverse(order.begin(), order.end());
  if (order_wanted > 1) std::shuffle(order.begin(), order.end(), std::mt19937((unsigned)order_wanted + more));
  return order;
}

/* Returns whether every thread came to its end. */
bool run_block(unsigned block, unsigned threads)
{
  const std::vector<unsigned> order = order_of(threads, block);
  for (unsigned t = 0; t < threads; t++) make(&fibres[t], t, block);
  barrier = new_meeting(0);
  for (std::vector<meeting> &of_warp : exchanges) of_warp.clear();
  do {
    for (const unsigned t : order) {
      if (fibres[t].now == READY) resume(&fibres[t]);
      if (last_error != cudaSuccess) return false;
    }
  } while (release_waiting(threads));
  for (unsigned t = 0; t < threads; t++)
    if (fibres[t].now != DONE) report("threads wait for each other at different places", threads);
  return true;
}

}  // namespace

void launch(unsigned grid, unsigned threads, size_t shared_bytes, void (*kernel)(const void *), const void *context)
{
  if (grid == 0 || threads == 0 || threads > MOST_THREADS || threads % WARP != 0 || shared_bytes > 48 * 1024) {
    last_error = cudaErrorInvalidConfiguration;
    return;
  }
  body = kernel;
  body_context = context;
  block_size = {threads, 1, 1};
  grid_size = {grid, 1, 1};
  lent_tsan = lent_places = 0;
  if (__tsan_get_current_fiber) scheduler_tsan = __tsan_get_current_fiber();
  std::vector<std::unique_ptr<char[]>> dynamics;  // a block's own, and none freed before all have ended
  const std::vector<unsigned> order = order_of(grid, grid);
  const unsigned garbage = 0xa5 + 17 * (unsigned)order_wanted;
  for (const unsigned block : order) {
    renew_shared(garbage);
    dynamics.emplace_back(new char[shared_bytes]);
    dynamic = dynamics.back().get();
    fill_bytes(dynamic, (char)garbage, shared_bytes);
    release(&launch_start);
    const bool ended = run_block(block, threads);
    if (__tsan_destroy_fiber) drop_tsan(threads, ended);
    if (!ended) break;
  }
  acquire(&launch_end);
}

void *dynamic_shared() { return dynamic; }

void fail(const char *condition, const char *file, int line)
{
  snprintf(failure, sizeof failure, "%s:%d: block %u, thread %u: assertion `%s` failed", file, line, self->block.x,
           self->thread.x, condition);
  last_error = cudaErrorAssert;
  to_scheduler(current());
  std::abort();  // nobody resumes it
}

int block_barrier(int predicate, int *all)
{
  fibre *const me = current();
  me->now = AT_BARRIER;
  me->predicate = predicate;
  char *const place = &barrier.places[barrier.held % 2];
  release(place);
  to_scheduler(me);
  acquire(place);
  if (all != nullptr) *all = barrier_all;
  return barrier_count;
}

const uint64_t *warp_exchange(unsigned mask, uint64_t sent, const char *purpose, bool orders)
{
  fibre *const me = current();
  me->now = IN_EXCHANGE;
  me->mask = mask;
  me->purpose = purpose;
  me->sent = sent;
  const meeting *const with = exchange_of(me->where.thread.x / WARP, mask);
  char *const place = orders ? &with->places[with->held % 2] : nullptr;
  if (orders) release(place);
  to_scheduler(me);
  if (orders) acquire(place);
  return me->received;
}

}  // namespace emulated

void sumix_emulated_order(int order) { emulated::order_wanted = order; }

void __threadfence()
{
  emulated::acquire(&emulated::fence_sync);
  emulated::release(&emulated::fence_sync);
}

cudaError_t cudaGetLastError()
{
  const cudaError_t error = emulated::last_error;
  emulated::last_error = cudaSuccess;
  return error;
}

const char *cudaGetErrorString(cudaError_t error)
{
  if (error == cudaErrorAssert) return emulated::failure;
  return error == cudaSuccess ? "no error" : "invalid configuration argument";
}
