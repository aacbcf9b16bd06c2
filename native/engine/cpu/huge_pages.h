// A zeroed array of floats on 2 MiB pages where the system gives them (PERFORMANCE, design 1). Memory is
// taken as it is touched.
#pragma once
#include <cstddef>
#include <cstdint>

namespace rp {
namespace cpu {

class HugePages {
 public:
  HugePages() = default;
  explicit HugePages(int64_t floats);
  ~HugePages();
  HugePages(HugePages&&) noexcept;
  HugePages& operator=(HugePages&&) noexcept;

  float* data() const { return data_; }

 private:
  void* mapping_ = nullptr;
  size_t bytes_ = 0;
  float* data_ = nullptr;
};

}  // namespace cpu
}  // namespace rp
