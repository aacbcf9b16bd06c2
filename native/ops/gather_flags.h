// Flags of a gather kernel call (sparse_conv2d, conv2d).
#pragma once
#include <cstdint>

namespace rp {

constexpr uint32_t kFirstBlock = 1;  // sums start at zero, not at the partial sums
constexpr uint32_t kLastBlock = 2;   // sums go to y, not to the partial sums
constexpr uint32_t kStreamOut = 4;   // with non-temporal stores
constexpr uint32_t kAddOut = 8;      // y += instead of =

}  // namespace rp
