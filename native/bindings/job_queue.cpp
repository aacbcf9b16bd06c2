#include "bindings/job_queue.h"

#include <utility>

#include "bindings/errors.h"

namespace rp {
namespace {

void check(napi_env env, napi_status status) {
  if (status != napi_ok) throw Napi::Error::New(env);
}

}  // namespace

JobQueue::JobQueue(Napi::Env env, std::function<void(bool)> on_busy, std::function<void()> on_end)
    : env_(env), on_busy_(std::move(on_busy)), on_end_(std::move(on_end)) {
  const auto call = [](napi_env live, napi_value, void* context, void*) {
    if (!live) return;  // the environment is ending, and the queue may be gone
    try {
      static_cast<JobQueue*>(context)->settle_finished();
    } catch (const Napi::Error&) {
      // JavaScript can no longer run here (worker.terminate()): nobody is left to tell.
    }
  };
  const Napi::String name = Napi::String::New(env, "random_pruning.session");
  check(env, napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, call,
                                             &wake_));
  // An idle session does not keep the process alive.
  check(env, napi_unref_threadsafe_function(env, wake_));
  // Hooks run last in, first out: this one before the thread-safe function closes.
  check(env, napi_add_env_cleanup_hook(env, end_of_environment, this));
  thread_ = std::thread([this] { work(); });
}

JobQueue::~JobQueue() { stop(); }

void JobQueue::stop() {
  if (stopped_) return;
  stopped_ = true;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    if (running_cancel_) *running_cancel_ = 1;
  }
  ready_.notify_all();
  thread_.join();
  waiting_.clear();
  finished_.clear();
  if (!environment_ending_) napi_remove_env_cleanup_hook(env_, end_of_environment, this);
  napi_release_threadsafe_function(wake_, napi_tsfn_abort);
}

void JobQueue::end_of_environment(void* context) {
  auto* queue = static_cast<JobQueue*>(context);
  queue->environment_ending_ = true;
  queue->stop();
  queue->on_end_();
}

Napi::Promise JobQueue::push(Job job) {
  auto pending = std::make_unique<Pending>();
  napi_value promise;
  check(env_, napi_create_promise(env_, &pending->deferred, &promise));
  pending->job = std::move(job);
  if (unsettled_++ == 0) {
    on_busy_(true);
    napi_ref_threadsafe_function(env_, wake_);
  }
  {
    std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back(std::move(pending));
  }
  ready_.notify_one();
  return Napi::Promise(env_, promise);
}

void JobQueue::work() {
  for (;;) {
    std::unique_ptr<Pending> pending;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      ready_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      pending = std::move(waiting_.front());
      waiting_.pop_front();
      running_cancel_ = pending->job.cancel;
    }
    try {
      pending->job.work();
    } catch (...) {
      pending->failure = std::current_exception();
    }
    std::lock_guard<std::mutex> lock(mutex_);
    running_cancel_ = nullptr;
    finished_.push_back(std::move(pending));
    // Under the lock: after stop() has set stopping_ the environment may be gone.
    if (stopping_) return;
    napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
  }
}

void JobQueue::settle_finished() {
  std::deque<std::unique_ptr<Pending>> finished;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    finished.swap(finished_);
  }
  for (std::unique_ptr<Pending>& pending : finished) {
    settle(*pending);
    unsettled_--;
  }
  if (finished.empty() || unsettled_ > 0) return;
  napi_unref_threadsafe_function(env_, wake_);
  if (finishing_) stop();
  on_busy_(false);
}

void JobQueue::settle(Pending& pending) {
  Napi::HandleScope scope(env_);
  if (!pending.failure) {
    try {
      napi_resolve_deferred(env_, pending.deferred, pending.job.result(env_, pending.job.keep));
      return;
    } catch (...) {
      pending.failure = std::current_exception();
    }
  }
  napi_reject_deferred(env_, pending.deferred, to_js_error(env_, pending.failure).Value());
}

}  // namespace rp
