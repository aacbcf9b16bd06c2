// A zeroed array of floats, 64-byte aligned, on 2 MiB pages where it is large and the system gives them
// (PERFORMANCE, design 1). Large ones are mappings of their own: what malloc gives again stays on the small
// pages that it was on.
#pragma once
#include <cstddef>
#include <cstdint>

namespace rp {

class HugePages {
 public:
  HugePages() = default;
  // Memory is taken as it is touched. std::bad_alloc where there is none.
  explicit HugePages(int64_t floats);
  ~HugePages();
  HugePages(HugePages&&) noexcept;
  HugePages& operator=(HugePages&&) noexcept;

  float* data() const { return data_; }
  // Takes all memory now, near the caller's core.
  void touch();

 private:
  bool mapped() const;

  float* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace rp
