// The engine's own threads (not libuv's pool). A team runs one function on every member; `parallel` returns
// when all are done. Members spin briefly for the next call, then yield, then sleep.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace rp {

// Cores that the calling thread may run on (its affinity mask).
std::vector<int> allowed_cores();
// Their number, at least 1.
int available_cores();

class ThreadTeam {
 public:
  // threads = 0: available_cores(). pin: member i on the i-th allowed core; the thread that makes the team is
  // the one that calls it, member 0.
  explicit ThreadTeam(int threads, bool pin = false);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int size() const { return size_; }

  // Calls body(member) on every member 0 .. size()-1, the caller being member 0. Not reentrant.
  template <class Body>
  void parallel(const Body& body) {
    run([](const void* context, int member) { (*static_cast<const Body*>(context))(member); }, &body);
  }

  // Static split: calls body(begin, end, member) with contiguous shares of [0, items).
  template <class Body>
  void parallel_range(int64_t items, const Body& body) {
    const int64_t members = size_;
    parallel([&](int member) {
      const int64_t begin = items * member / members, end = items * (member + 1) / members;
      if (begin < end) body(begin, end, member);
    });
  }

 private:
  using Call = void (*)(const void* context, int member);
  void run(Call call, const void* context);
  void work(int member, int core);
  void invoke(int member);

  int size_;
  Call call_ = nullptr;
  const void* context_ = nullptr;
  std::atomic<uint64_t> generation_{0};
  std::atomic<int> pending_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::exception_ptr failure_;
  std::mutex failure_mutex_;
  std::vector<std::thread> workers_;
};

}  // namespace rp
