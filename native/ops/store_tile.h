// Shared by the gather kernels; for vector sources only (cpu/simd.h).
#pragma once
#include "cpu/simd.h"
#include "ops/gather_flags.h"

namespace rp {
namespace RP_ISA {

// The share of one output, or of one group of them.
RP_INLINE void prefetch_share(const PrefetchLines& lines, int output, int outputs) {
  if (lines.base == nullptr) return;
  const int all = lines.per_channel * lines.channels, share = (all + outputs - 1) / outputs;
  int left = all - output * share < share ? all - output * share : share;
  if (left <= 0) return;
  const int channel = output * share / lines.per_channel;
  int at = output * share - channel * lines.per_channel;
  for (const char* base = lines.base + channel * lines.channel_stride; left > 0; left--) {
    prefetch_l2(base + lines.offsets[at]);
    if (++at == lines.per_channel) {
      at = 0;
      base += lines.channel_stride;
    }
  }
}

// A tile of an output that sums will be added to.
template <int kHeight, int kWidth>
RP_INLINE void prefetch_tile(const char* y, int64_t y_row, int64_t y_col) {
  for (int h = 0; h < kHeight; h++, y += y_row) {
    for (int c = 0; c < kWidth; c++) prefetch_write(y + c * y_col);
  }
}

// Batch norm's statistics while the output is still in registers. Differences from the tile's first value
// keep the digits that Σ y² - (Σ y)² / n would lose where the mean is far from zero.
template <int kHeight, int kWidth>
RP_INLINE void sum_tile(const Vec* y, const TileSums& out, int output, int lane) {
  const Vec origin = y[0], ones = broadcast(1);
  const Vec kept = out.lanes == nullptr ? ones : load(out.lanes + lane);
  Vec s = zero(), q = zero(), count = zero();
#pragma GCC unroll 16
  for (int h = 0; h < kHeight; h++) {
    const Vec mask = h >= out.masked_row ? kept : ones;
#pragma GCC unroll 16
    for (int c = 0; c < kWidth; c++) {
      const Vec d = (y[h * kWidth + c] - origin) * mask;
      s = s + d;
      q = fmadd(d, d, q);
    }
    count = fmadd(mask, broadcast(kWidth), count);
  }
  add_moments(origin, s, q, count, lane > 0, out.sums + output, out.sums + out.stride + output);
}

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
