#include "ceilings.h"

#include <time.h>

#include <algorithm>
#include <vector>

#include "cpu/threads.h"

namespace rp_bench {
namespace {

double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

struct alignas(64) Operands {
  float x[4096], w[16], sink;
};

}  // namespace

Ceilings measure_ceilings(int threads) {
  const rp::CeilingKernels& kernels = rp::ceiling_kernels(rp::cpu_isa());
  rp::ThreadTeam team(threads);
  std::vector<Operands> operands(team.size());
  for (Operands& o : operands) {
    std::fill(std::begin(o.x), std::end(o.x), 0.5f);
    std::fill(std::begin(o.w), std::end(o.w), 0.25f);
    o.sink = 0;
  }
  // Best of several: a ceiling is what the machine reaches undisturbed.
  const auto best = [&](auto run) {
    double highest = 0;
    for (int attempt = 0; attempt < 12; attempt++) {
      std::vector<double> operations(team.size());
      const double start = now();
      team.parallel([&](int member) { operations[member] = run(operands[member]); });
      double total = 0;
      for (double count : operations) total += count;
      highest = std::max(highest, total / (now() - start) * 1e-9);
    }
    return highest;
  };
  Ceilings ceilings;
  ceilings.fma = best([&](Operands& o) { return kernels.fma(4000000, &o.sink); });
  ceilings.load_fma = best([&](Operands& o) { return kernels.load_fma(200000, o.x, o.w, &o.sink); });
  return ceilings;
}

}  // namespace rp_bench
