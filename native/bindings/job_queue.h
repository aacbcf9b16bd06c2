// JobQueue: one native thread that runs jobs first in, first out, each a JavaScript promise. A session
// computes here, never on the event loop and never in libuv's pool.
//
// Lives in one environment (the main thread's, or one worker_thread's) and keeps no global state. The
// environment may end while a job runs: then the running job is cancelled and waited for, the others are
// dropped.
#pragma once
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "bindings/bindings.h"

namespace rp {

struct Job {
  using Kept = std::vector<Napi::Reference<Napi::Value>>;

  std::function<void()> work;  // on the queue's thread; no JavaScript
  // On the JavaScript thread, after work; its value is the promise's.
  std::function<Napi::Value(Napi::Env, const Kept&)> result;
  Kept keep;                           // JavaScript memory that `work` reads or writes
  volatile int32_t* cancel = nullptr;  // set to 1 when the environment ends
};

class JobQueue {
 public:
  // on_busy(true) when the first job comes, on_busy(false) when the last has settled: the owner keeps itself
  // alive. on_end: the environment ends; called after the thread has stopped.
  JobQueue(Napi::Env, std::function<void(bool busy)> on_busy, std::function<void()> on_end);
  ~JobQueue();
  JobQueue(const JobQueue&) = delete;
  JobQueue& operator=(const JobQueue&) = delete;

  // All on the JavaScript thread.
  Napi::Promise push(Job);
  // No more jobs; the thread is joined once those pushed have settled.
  void finish() { finishing_ = true; }

 private:
  struct Pending {
    Job job;
    napi_deferred deferred;
    std::exception_ptr failure;
  };

  void work();
  void settle_finished();
  void settle(Pending&);
  void stop();
  static void end_of_environment(void* queue);

  napi_env env_;
  std::function<void(bool)> on_busy_;
  std::function<void()> on_end_;
  napi_threadsafe_function wake_ = nullptr;  // calls settle_finished on the JavaScript thread
  int unsettled_ = 0;                        // JavaScript thread only
  bool finishing_ = false, stopped_ = false, environment_ending_ = false;

  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::unique_ptr<Pending>> waiting_, finished_;
  volatile int32_t* running_cancel_ = nullptr;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace rp
