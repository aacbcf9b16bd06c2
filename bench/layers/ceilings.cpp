#include "ceilings.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "cpu/threads.h"
#include "ops/conv_scratch.h"

namespace rp_bench {
namespace {

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

constexpr int64_t kMemoryBytes = 256 << 20;  // far more than any cache, for each of two arrays

struct alignas(64) Operands {
  float x[4096], w[16], sink;
};

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Pages = std::unique_ptr<void, Free>;

}  // namespace

Ceilings measure_ceilings(rp::ThreadTeam& team) {
  const rp::CeilingKernels& kernels = rp::ceiling_kernels(rp::cpu_isa());
  std::vector<Operands> operands(team.size());
  for (Operands& o : operands) {
    std::fill(std::begin(o.x), std::end(o.x), 0.5f);
    std::fill(std::begin(o.w), std::end(o.w), 0.25f);
    o.sink = 0;
  }
  // Best of many short ones, in bursts spread over seconds: a ceiling is what the machine reaches
  // undisturbed, and two virtual cores may share a real one for a while.
  const auto best = [&](auto run) {
    double highest = 0;
    for (int attempt = 0; attempt < 100; attempt++) {
      if (attempt % 20 == 19) std::this_thread::sleep_for(std::chrono::milliseconds(300));
      std::vector<double> amounts(team.size());
      const double start = now();
      team.parallel([&](int member) { amounts[member] = run(operands[member], member); });
      double total = 0;
      for (double amount : amounts) total += amount;
      highest = std::max(highest, total / (now() - start) * 1e-9);
    }
    return highest;
  };
  Ceilings ceilings;
  ceilings.fma = best([&](Operands& o, int) { return kernels.fma(500000, &o.sink); });
  ceilings.load_fma = best([&](Operands& o, int) { return kernels.load_fma(25000, o.x, o.w, &o.sink); });
  const Pages from(rp::allocate_pages(kMemoryBytes)), to(rp::allocate_pages(kMemoryBytes));
  const int64_t floats = kMemoryBytes / 4 / team.size() / 64 * 64;  // of one member
  const auto share = [&](const Pages& pages, int member) {
    return static_cast<float*>(pages.get()) + member * floats;
  };
  ceilings.read = best([&](Operands& o, int member) {
    kernels.read(share(from, member), floats, &o.sink);
    return 4.0 * floats;
  });
  ceilings.copy = best([&](Operands&, int member) {
    kernels.copy(share(from, member), share(to, member), floats);
    return 8.0 * floats;
  });
  return ceilings;
}

}  // namespace rp_bench
