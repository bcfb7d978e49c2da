#include "threads.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace scalpel {
namespace {

int Processors() {
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

std::atomic<int> chosen{0};

struct Call {
  void (*function)(void *, int64_t, int);
  void *context;
  int64_t tasks;
};

// How often a thread looks before it sleeps: some fifty microseconds, what waking it up would take.
constexpr int kLooks = 4000;

inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Workers sleep between calls. The mutex guards all but `next`, and what others look at unlocked is
// atomic; `owner` is held during a call.
struct Pool {
  std::mutex owner, mutex;
  std::condition_variable wake, done;
  Call call;
  std::atomic<int64_t> next{0};
  std::atomic<uint64_t> number{0};  // of the call, so that a worker joins each one once
  int wanted = 0;                   // workers that may still join this call
  int joined = 0;
  std::atomic<int> working{0};
  int size = 0;

  void Work(const Call &now, int worker) {
    for (int64_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < now.tasks;) {
      now.function(now.context, task, worker);
    }
  }

  void Loop() {
    std::unique_lock<std::mutex> lock(mutex);
    for (uint64_t seen = 0;;) {
      lock.unlock();
      for (int look = 0; look < kLooks && number == seen; ++look) Pause();
      lock.lock();
      wake.wait(lock, [&] { return number != seen && wanted > 0; });
      seen = number;
      --wanted;
      ++working;
      const int worker = ++joined;
      const Call now = call;
      lock.unlock();
      Work(now, worker);
      lock.lock();
      if (--working == 0) done.notify_one();
    }
  }

  void Run(const Call &now, int workers) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      try {
        for (; size < workers; ++size) std::thread(&Pool::Loop, this).detach();
      } catch (const std::system_error &) {
        workers = size;  // no more threads to be had: fewer do the work
      }
      call = now;
      next.store(0, std::memory_order_relaxed);
      ++number;
      wanted = workers;
      joined = 0;
    }
    wake.notify_all();
    Work(now, 0);
    std::unique_lock<std::mutex> lock(mutex);
    wanted = 0;
    lock.unlock();
    for (int look = 0; look < kLooks && working > 0; ++look) Pause();
    lock.lock();
    done.wait(lock, [&] { return working == 0; });
  }
};

// Never destroyed: its threads sleep on it until the process ends.
Pool &ThePool() {
  static Pool *pool = new Pool;
  return *pool;
}

}  // namespace

int Threads() {
  const int set = chosen.load(std::memory_order_relaxed);
  if (set > 0) return set;
  static const int processors = Processors();
  return processors;
}

void SetThreads(int count) { chosen.store(std::max(count, 0), std::memory_order_relaxed); }

void ParallelFor(int threads, int64_t tasks, void (*function)(void *, int64_t, int),
                 void *context) {
  const int workers = static_cast<int>(std::min<int64_t>(threads, tasks)) - 1;
  Pool &pool = ThePool();
  if (workers > 0) {
    std::unique_lock<std::mutex> owner(pool.owner, std::try_to_lock);
    if (owner) return pool.Run({function, context, tasks}, workers);
  }
  for (int64_t task = 0; task < tasks; ++task) function(context, task, 0);
}

}  // namespace scalpel
