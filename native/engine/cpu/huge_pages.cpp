#include "engine/cpu/huge_pages.h"

#include <sys/mman.h>

#include <new>
#include <utility>

namespace rp {
namespace cpu {
namespace {

constexpr size_t kPage = size_t{2} << 20;

}  // namespace

HugePages::HugePages(int64_t floats) {
  if (floats <= 0) return;
  const size_t wanted = static_cast<size_t>(floats) * sizeof(float);
  // Small arrays do not ask for huge pages, which would round them up.
  const bool huge = wanted >= kPage;
  bytes_ = huge ? (wanted + kPage - 1) / kPage * kPage + kPage : wanted;
  mapping_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping_ == MAP_FAILED) {
    mapping_ = nullptr;
    throw std::bad_alloc();
  }
  auto address = reinterpret_cast<uintptr_t>(mapping_);
  if (huge) {
    address = (address + kPage - 1) / kPage * kPage;
    // A refusal costs speed only.
    (void)madvise(reinterpret_cast<void*>(address), (wanted + kPage - 1) / kPage * kPage, MADV_HUGEPAGE);
  }
  data_ = reinterpret_cast<float*>(address);
}

HugePages::~HugePages() {
  if (mapping_) munmap(mapping_, bytes_);
}

HugePages::HugePages(HugePages&& other) noexcept { *this = std::move(other); }

HugePages& HugePages::operator=(HugePages&& other) noexcept {
  std::swap(mapping_, other.mapping_);
  std::swap(bytes_, other.bytes_);
  std::swap(data_, other.data_);
  return *this;
}

}  // namespace cpu
}  // namespace rp
