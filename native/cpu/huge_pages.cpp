#include "cpu/huge_pages.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace rp {
namespace {

constexpr size_t kLine = 64;
constexpr size_t kPage = size_t{2} << 20;
constexpr size_t kLeast = kPage / 2;  // smaller ones would grow too much

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Aligned to a page, of which `bytes` is a multiple; null where there is none.
void* map_pages(size_t bytes) {
  void* const mapping =
      mmap(nullptr, bytes + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  char* const begin = static_cast<char*>(mapping);
  const size_t before =
      round_up(reinterpret_cast<uintptr_t>(begin), kPage) - reinterpret_cast<uintptr_t>(begin);
  if (before > 0) munmap(begin, before);
  munmap(begin + before + bytes, kPage - before);
#if defined(MADV_HUGEPAGE)
  (void)madvise(begin + before, bytes, MADV_HUGEPAGE);  // a refusal costs speed only
#endif
  return begin + before;
}

}  // namespace

HugePages::HugePages(int64_t floats) {
  if (floats <= 0) return;
  bytes_ = round_up(static_cast<size_t>(floats) * sizeof(float), kLine);
  if (mapped()) bytes_ = round_up(bytes_, kPage);
  data_ = static_cast<float*>(mapped() ? map_pages(bytes_) : std::aligned_alloc(kLine, bytes_));
  if (data_ == nullptr) throw std::bad_alloc();
  if (!mapped()) touch();
}

HugePages::~HugePages() {
  if (mapped()) {
    munmap(data_, bytes_);
  } else {
    std::free(data_);
  }
}

HugePages::HugePages(HugePages&& other) noexcept { *this = std::move(other); }

HugePages& HugePages::operator=(HugePages&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void HugePages::touch() {
  if (data_ != nullptr) std::memset(data_, 0, bytes_);
}

bool HugePages::mapped() const { return bytes_ >= kLeast; }

}  // namespace rp
