#include "ops/conv_scratch.h"

#include <map>
#include <mutex>

#include "cpu/threads.h"

namespace rp {
namespace {

HugePages pages_of(int64_t bytes) {
  HugePages pages((bytes + 3) / 4);
  pages.touch();
  return pages;
}

}  // namespace

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

void ConvScratch::reserve(int64_t bytes, int64_t common_bytes, ThreadTeam& team) {
  if (common_bytes > common_bytes_) {
    common_ = HugePages();
    common_ = pages_of(common_bytes);
    common_bytes_ = common_bytes;
  }
  if (bytes <= bytes_ && static_cast<int>(buffers_.size()) >= team.size()) return;
  if (bytes < bytes_) bytes = bytes_;
  buffers_.resize(team.size());
  // Each member allocates its own, so that the pages are near its core.
  team.parallel([&](int member) {
    buffers_[member] = HugePages();
    buffers_[member] = pages_of(bytes);
  });
  bytes_ = bytes;
}

}  // namespace rp
