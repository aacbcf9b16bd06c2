#include "ceilings.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "cpu/threads.h"

namespace rp_bench {
namespace {

double seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

// Each of two arrays: a run takes the next part, so that a part has left every cache when its turn comes.
constexpr int64_t kMemoryBytes = 512 << 20;
constexpr int kWindows = 16;

}  // namespace

CeilingMeter::CeilingMeter(rp::ThreadTeam& team)
    : team_(team),
      kernels_(rp::ceiling_kernels(rp::cpu_isa())),
      operands_(team.size()),
      from_(kMemoryBytes / 4),
      to_(kMemoryBytes / 4),
      floats_(kMemoryBytes / 4 / kWindows / team.size() / 64 * 64) {
  from_.touch();
  to_.touch();
  for (Operands& o : operands_) {
    std::fill(std::begin(o.x), std::end(o.x), 0.5f);
    std::fill(std::begin(o.w), std::end(o.w), 0.25f);
    o.sink = 0;
  }
}

template <class Run>
double CeilingMeter::rate(const Run& run) {
  std::vector<double> amounts(team_.size());
  const double start = seconds();
  team_.parallel([&](int member) { amounts[member] = run(operands_[member], member); });
  double total = 0;
  for (double amount : amounts) total += amount;
  return total / (seconds() - start) * 1e-9;
}

double CeilingMeter::fma() {
  return rate([&](Operands& o, int) { return kernels_.fma(500000, &o.sink); });
}

double CeilingMeter::load_fma() {
  return rate([&](Operands& o, int) { return kernels_.load_fma(6000, o.x, o.w, &o.sink); });
}

float* CeilingMeter::share(const rp::HugePages& pages, int member) const {
  return pages.data() + (int64_t{window_} * team_.size() + member) * floats_;
}

double CeilingMeter::read() {
  window_ = (window_ + 1) % kWindows;
  return rate([&](Operands& o, int member) {
    kernels_.read(share(from_, member), floats_, &o.sink);
    return 4.0 * floats_;
  });
}

double CeilingMeter::copy() {
  window_ = (window_ + 1) % kWindows;
  return rate([&](Operands&, int member) {
    kernels_.copy(share(from_, member), share(to_, member), floats_);
    return 8.0 * floats_;
  });
}

Ceilings CeilingMeter::best() {
  const auto highest = [](const auto& measure) {
    double rate = 0;
    for (int attempt = 0; attempt < 100; attempt++) {
      if (attempt % 20 == 19) std::this_thread::sleep_for(std::chrono::milliseconds(300));
      rate = std::max(rate, measure());
    }
    return rate;
  };
  return {highest([&] { return fma(); }), highest([&] { return load_fma(); }), highest([&] { return read(); }),
          highest([&] { return copy(); })};
}

Ceilings CeilingMeter::now(bool dense) {
  return {fma(), dense ? 0 : load_fma(), read(), copy()};
}

}  // namespace rp_bench
