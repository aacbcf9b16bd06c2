// Scratch of the convolution kernels: one buffer per member of a thread team and one for all of them, shared
// by all layers of the team (they run one after the other). Lives as long as any layer holds it.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

namespace rp {

class ThreadTeam;

class ConvScratch {
 public:
  // The scratch of this team; made if it has none.
  static std::shared_ptr<ConvScratch> of(ThreadTeam&);
  ~ConvScratch();
  ConvScratch(const ConvScratch&) = delete;
  ConvScratch& operator=(const ConvScratch&) = delete;

  // Grows every member's buffer to at least `bytes`, and the one that all share. Only while the team is idle.
  void reserve(int64_t bytes, int64_t common_bytes, ThreadTeam&);
  // 64-byte aligned.
  float* member(int index) const { return buffers_[index]; }
  float* common() const { return common_; }

 private:
  ConvScratch() = default;

  std::vector<float*> buffers_;
  int64_t bytes_ = 0;
  float* common_ = nullptr;
  int64_t common_bytes_ = 0;
};

// Zeroed memory, 64-byte aligned, in 2 MiB pages where the system has them; free with std::free.
void* allocate_pages(int64_t bytes);

}  // namespace rp
