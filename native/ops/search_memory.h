// The memory of runs that a search times, as cold as a step finds it: its tensors were last touched many
// layers ago.
#pragma once
#include <cstdint>
#include <vector>

#include "cpu/huge_pages.h"
#include "cpu/threads.h"

namespace rp {

// Stretches of a ring, one behind the other. By the time that one comes again, as much has been touched as
// the last cache holds. Emptying that instead would take longer than the runs.
class ColdRing {
 public:
  // values: not zeros, whose sums would take less power, and so less time, than those of a step.
  explicit ColdRing(bool values) : values_(values) {}
  // Room for a run's stretches, so many floats together. Those given before are gone.
  void reserve(int64_t floats);
  float* next(int64_t floats);

 private:
  bool values_;
  HugePages memory_;
  int64_t floats_ = 0, at_ = 0;
};

struct SearchMemory {
  explicit SearchMemory(ThreadTeam&);
  // What building a layer left in the caches of the cores.
  void evict();

  ColdRing inputs{true}, outputs{false};

 private:
  ThreadTeam& team_;
  std::vector<char> filler_;
};

}  // namespace rp
