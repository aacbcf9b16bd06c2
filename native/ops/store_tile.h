// Shared by the gather kernels; for vector sources only (cpu/simd.h).
#pragma once
#include "cpu/simd.h"
#include "ops/gather_flags.h"

namespace rp {
namespace RP_ISA {

// Vectors of each position that one pass takes (gather_passes).
constexpr int vectors_of_position(int positions, int registers) {
  return 16 / kLanes / gather_passes(positions, kLanes, registers);
}

// Fetches lines in `steps` shares of equal size.
class PrefetchCursor {
 public:
  PrefetchCursor(const PrefetchLines& lines, int steps)
      : channel_(lines.base),
        offsets_(lines.offsets),
        per_channel_(lines.per_channel),
        stride_(lines.channel_stride) {
    if (channel_ == nullptr) return;
    left_ = lines.per_channel * lines.channels;
    share_ = (left_ + steps - 1) / steps;
  }

  void step() {
    int now = share_ < left_ ? share_ : left_;
    left_ -= now;
    for (; now > 0; now--) {
      prefetch_l2(channel_ + offsets_[at_]);
      if (++at_ == per_channel_) {
        at_ = 0;
        channel_ += stride_;
      }
    }
  }

 private:
  const char* channel_;
  const int32_t* offsets_;
  int per_channel_, at_ = 0, left_ = 0, share_ = 0;
  int64_t stride_;
};

// A tile of an output that sums will be added to.
template <int kHeight, int kWidth>
RP_INLINE void prefetch_tile(const char* y, int64_t y_row, int64_t y_col) {
  for (int h = 0; h < kHeight; h++, y += y_row) {
    for (int c = 0; c < kWidth; c++) prefetch_write(y + c * y_col);
  }
}

// Batch norm's statistics while the output is still in registers. Differences from the tile's first value
// keep the digits that Σ y² - (Σ y)² / n would lose where the mean is far from zero. y: kVectors vectors a
// position, the images from `lane` on.
template <int kHeight, int kWidth, int kVectors>
RP_INLINE void sum_tile(const Vec* y, const TileSums& out, int output, int lane) {
  const Vec ones = broadcast(1);
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; v++, lane += kLanes) {
    const Vec origin = y[v], kept = out.lanes == nullptr ? ones : load(out.lanes + lane);
    Vec s = zero(), q = zero(), count = zero();
#pragma GCC unroll 16
    for (int h = 0; h < kHeight; h++) {
      const Vec mask = h >= out.masked_row ? kept : ones;
#pragma GCC unroll 16
      for (int c = 0; c < kWidth; c++) {
        const Vec d = (y[(h * kWidth + c) * kVectors + v] - origin) * mask;
        s = s + d;
        q = fmadd(d, d, q);
      }
      count = fmadd(mask, broadcast(kWidth), count);
    }
    add_moments(origin, s, q, count, lane > 0, out.sums + output, out.sums + out.stride + output);
  }
}

// Finished sums of a tile, kVectors a position, to y: stored, streamed or added. Only whole lines are
// streamed: non-temporal stores of parts of lines would be slower than plain ones.
template <int kHeight, int kWidth, int kVectors>
RP_INLINE void store_tile(const Vec* sum, char* y, int64_t y_row, int64_t y_col, uint32_t flags) {
  constexpr bool kWholeLines = kVectors * kLanes == 16;
#pragma GCC unroll 16
  for (int h = 0; h < kHeight; h++) {
    char* at = y;
    if (kWholeLines && (flags & kStreamOut)) {
#pragma GCC unroll 16
      for (int c = 0; c < kWidth; c++, at += y_col) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++)
          stream(reinterpret_cast<float*>(at) + v * kLanes, sum[(h * kWidth + c) * kVectors + v]);
      }
    } else if (flags & kAddOut) {
#pragma GCC unroll 16
      for (int c = 0; c < kWidth; c++, at += y_col) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++) {
          float* out = reinterpret_cast<float*>(at) + v * kLanes;
          store(out, load(out) + sum[(h * kWidth + c) * kVectors + v]);
        }
      }
    } else {
#pragma GCC unroll 16
      for (int c = 0; c < kWidth; c++, at += y_col) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++)
          store(reinterpret_cast<float*>(at) + v * kLanes, sum[(h * kWidth + c) * kVectors + v]);
      }
    }
    if (h + 1 < kHeight) {
      y += y_row;
      RP_OPAQUE(y);
    }
  }
}

}  // namespace RP_ISA
}  // namespace rp
