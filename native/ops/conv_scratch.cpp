#include "ops/conv_scratch.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "cpu/threads.h"

namespace rp {

void* allocate_pages(int64_t bytes) {
  constexpr size_t kPage = size_t{2} << 20;
  const size_t alignment = bytes >= static_cast<int64_t>(kPage / 2) ? kPage : 64;
  const size_t size = (static_cast<size_t>(bytes) + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, size == 0 ? alignment : size);
  if (memory == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  if (alignment == kPage) madvise(memory, size, MADV_HUGEPAGE);  // advice only
#endif
  std::memset(memory, 0, size);
  return memory;
}

std::shared_ptr<ConvScratch> ConvScratch::of(ThreadTeam& team) {
  static std::mutex mutex;
  static std::map<const ThreadTeam*, std::weak_ptr<ConvScratch>> teams;
  std::lock_guard<std::mutex> lock(mutex);
  for (auto it = teams.begin(); it != teams.end();)
    it = it->second.expired() ? teams.erase(it) : std::next(it);
  std::shared_ptr<ConvScratch> scratch = teams[&team].lock();
  if (!scratch) {
    scratch.reset(new ConvScratch());
    teams[&team] = scratch;
  }
  return scratch;
}

ConvScratch::~ConvScratch() {
  for (float* buffer : buffers_) std::free(buffer);
  std::free(common_);
}

void ConvScratch::reserve(int64_t bytes, int64_t common_bytes, ThreadTeam& team) {
  if (common_bytes > common_bytes_) {
    std::free(common_);
    common_ = nullptr;
    common_ = static_cast<float*>(allocate_pages(common_bytes));
    common_bytes_ = common_bytes;
  }
  if (bytes <= bytes_ && static_cast<int>(buffers_.size()) >= team.size()) return;
  if (bytes < bytes_) bytes = bytes_;
  buffers_.resize(team.size(), nullptr);
  // Each member allocates its own, so that the pages are near its core.
  team.parallel([&](int member) {
    std::free(buffers_[member]);
    buffers_[member] = nullptr;
    buffers_[member] = static_cast<float*>(allocate_pages(bytes));
  });
  bytes_ = bytes;
}

}  // namespace rp
