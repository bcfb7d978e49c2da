// Threads that share the work of one call.
#ifndef SCALPEL_CUSTOM_OPS_THREADS_H_
#define SCALPEL_CUSTOM_OPS_THREADS_H_

#include <cstdint>

namespace scalpel {

int Threads();
void SetThreads(int threads);

// Calls function(context, task, worker) once for every task in [0, tasks), worker in [0,
// Threads()), and returns when all are done. Tasks of one worker never run at the same time. A
// caller that finds the other threads busy does all tasks by itself, so that many callers never
// make many threads.
void ParallelFor(int threads, int64_t tasks,
                 void (*function)(void *context, int64_t task, int worker), void *context);

template <typename Function>
void ParallelFor(int threads, int64_t tasks, Function function) {
  ParallelFor(
      threads, tasks,
      [](void *context, int64_t task, int worker) {
        (*static_cast<Function *>(context))(task, worker);
      },
      &function);
}

}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_THREADS_H_
