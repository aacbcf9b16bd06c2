// Shared by the gather kernels; for vector sources only (cpu/simd.h).
#pragma once
#include "cpu/simd.h"
#include "ops/gather_flags.h"

namespace rp {
namespace RP_ISA {

// Finished sums of a tile to y: stored, streamed or added.
template <int kHeight, int kWidth>
RP_INLINE void store_tile(const Vec* sum, char* y, int64_t y_row, int64_t y_col, uint32_t flags) {
#pragma GCC unroll 16
  for (int h = 0; h < kHeight; h++) {
    char* at = y;
    if (flags & kStreamOut) {
#pragma GCC unroll 16
      for (int c = 0; c < kWidth; c++, at += y_col) stream(reinterpret_cast<float*>(at), sum[h * kWidth + c]);
    } else if (flags & kAddOut) {
#pragma GCC unroll 16
      for (int c = 0; c < kWidth; c++, at += y_col) {
        float* out = reinterpret_cast<float*>(at);
        store(out, load(out) + sum[h * kWidth + c]);
      }
    } else {
#pragma GCC unroll 16
      for (int c = 0; c < kWidth; c++, at += y_col) store(reinterpret_cast<float*>(at), sum[h * kWidth + c]);
    }
    if (h + 1 < kHeight) {
      y += y_row;
      RP_OPAQUE(y);
    }
  }
}

}  // namespace RP_ISA
}  // namespace rp
