#include "ops/search_memory.h"

#include <algorithm>

#include "cpu/features.h"

namespace rp {
namespace {

// Of a ring. A cache that many machines share leaves each less than it has.
constexpr int64_t kMostBytes = 128 << 20;

}  // namespace

void ColdRing::reserve(int64_t floats) {
  floats = std::max(floats, std::min(2 * core_caches().last_bytes, kMostBytes) / 4);
  if (floats <= floats_) return;
  memory_ = HugePages();
  memory_ = HugePages(floats);
  memory_.touch();
  floats_ = floats;
  at_ = 0;
  if (!values_) return;
  for (int64_t i = 0; i < floats; i++) memory_.data()[i] = static_cast<float>(i * 37 % 101) * 0.01f - 0.5f;
}

float* ColdRing::next(int64_t floats) {
  if (at_ + floats > floats_) at_ = 0;
  float* stretch = memory_.data() + at_;
  at_ += floats;
  return stretch;
}

SearchMemory::SearchMemory(ThreadTeam& team)
    : team_(team), filler_(static_cast<size_t>(2 * core_caches().l2_bytes * team.size())) {}

void SearchMemory::evict() {
  team_.parallel_range(static_cast<int64_t>(filler_.size()), [this](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; i += 64) filler_[i]++;
  });
}

}  // namespace rp
