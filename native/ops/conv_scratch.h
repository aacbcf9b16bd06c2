// Scratch of the convolution kernels: one buffer per member of a thread team and one for all of them, shared
// by all layers of the team (they run one after the other). Lives as long as any layer holds it.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/huge_pages.h"

namespace rp {

class ThreadTeam;

class ConvScratch {
 public:
  // The scratch of this team; made if it has none.
  static std::shared_ptr<ConvScratch> of(ThreadTeam&);

  // Grows every member's buffer to at least `bytes`, and the one that all share. Only while the team is idle.
  void reserve(int64_t bytes, int64_t common_bytes, ThreadTeam&);
  // 64-byte aligned.
  float* member(int index) const { return buffers_[index].data(); }
  float* common() const { return common_.data(); }

 private:
  ConvScratch() = default;

  std::vector<HugePages> buffers_;
  int64_t bytes_ = 0;
  HugePages common_;
  int64_t common_bytes_ = 0;
};

}  // namespace rp
