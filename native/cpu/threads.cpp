#include "cpu/threads.h"

#include <sched.h>

#include <algorithm>

namespace rp {
namespace {

// Long enough to bridge the serial gap between two kernels of a step; then, while a slower member is at work,
// whoever else wants the core has it; then it is left idle. To wake a sleeping thread of a virtual machine
// takes a tenth of a millisecond.
constexpr int kSpins = 20000;
constexpr int kYields = 20000;  // some milliseconds

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void pin_to(int core) {
  if (core < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  sched_setaffinity(0, sizeof set, &set);
}

}  // namespace

std::vector<int> allowed_cores() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int core = 0; core < CPU_SETSIZE; core++) {
      if (CPU_ISSET(core, &set)) cores.push_back(core);
    }
  }
  return cores;
}

int available_cores() { return std::max<int>(1, static_cast<int>(allowed_cores().size())); }

ThreadTeam::ThreadTeam(int threads, bool pin) : size_(threads > 0 ? threads : available_cores()) {
  const std::vector<int> cores = pin ? allowed_cores() : std::vector<int>{};
  if (!cores.empty()) pin_to(cores[0]);
  for (int member = 1; member < size_; member++) {
    const int core = cores.empty() ? -1 : cores[member % cores.size()];
    workers_.emplace_back([this, member, core] { work(member, core); });
  }
}

ThreadTeam::~ThreadTeam() {
  stopping_ = true;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    generation_++;
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::invoke(int member) {
  try {
    call_(context_, member);
  } catch (...) {
    std::lock_guard<std::mutex> lock(failure_mutex_);
    if (!failure_) failure_ = std::current_exception();
  }
}

void ThreadTeam::run(Call call, const void* context) {
  call_ = call;
  context_ = context;
  if (size_ > 1) {
    pending_.store(size_ - 1, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) {
      std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_all();
    }
  }
  invoke(0);
  for (int spin = 0; pending_.load(std::memory_order_acquire) > 0; spin++) {
    if (spin < kSpins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
  if (failure_) {
    std::exception_ptr failure = failure_;
    failure_ = nullptr;
    std::rethrow_exception(failure);
  }
}

void ThreadTeam::work(int member, int core) {
  pin_to(core);
  uint64_t seen = 0;
  for (;;) {
    const auto called = [&] { return generation_.load(std::memory_order_acquire) != seen; };
    for (int spin = 0; spin < kSpins && !called(); spin++) relax();
    for (int yield = 0; yield < kYields && !called(); yield++) std::this_thread::yield();
    if (!called()) {
      std::unique_lock<std::mutex> lock(mutex_);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [&] { return generation_.load(std::memory_order_seq_cst) != seen; });
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    }
    if (stopping_) return;
    seen = generation_.load(std::memory_order_acquire);
    invoke(member);
    pending_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace rp
