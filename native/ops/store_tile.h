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

// Fetches lines in `steps` shares of equal size, one group of runs after another.
class PrefetchCursor {
 public:
  PrefetchCursor(const PrefetchLines* groups, int count, int steps) : next_(groups) {
    for (int i = 0; i < count; i++) left_ += groups[i].count;
    share_ = (left_ + steps - 1) / steps;
  }

  void step() {
    if (left_ > 0) fetch_share();
  }

 private:
  // A call, so that the kernel around it keeps its registers for itself.
  __attribute__((noinline)) void fetch_share() {
    int now = share_ < left_ ? share_ : left_;
    left_ -= now;
    while (now > 0) {
      if (in_run_ == 0) next_run();
      int lines = now < in_run_ ? now : in_run_;
      now -= lines;
      in_run_ -= lines;
      if (lines_->to_l1) {
        fetch(lines, [](const char* line) { prefetch(line); });
      } else {
        fetch(lines, [](const char* line) { prefetch_l2(line); });
      }
    }
  }

  // Of the run at hand.
  template <class Fetch>
  void fetch(int lines, const Fetch& one) {
    if (offsets_ != nullptr) {
      for (; lines > 0; lines--) one(run_ + *offsets_++);
    } else {
      for (; lines > 0; lines--, at_ += 64) one(at_);
    }
  }

  void next_run() {
    int first = 0;
    if (in_group_ > 0) {
      run_ += lines_->run_stride;
    } else {
      while (next_->count == 0) next_++;
      lines_ = next_++;
      in_group_ = lines_->count;
      run_ = lines_->base + lines_->first / lines_->per_run * lines_->run_stride;
      first = lines_->first % lines_->per_run;
    }
    in_run_ = lines_->per_run - first < in_group_ ? lines_->per_run - first : in_group_;
    in_group_ -= in_run_;
    offsets_ = lines_->offsets != nullptr ? lines_->offsets + first : nullptr;
    at_ = run_ + first * 64;
  }

  const PrefetchLines *next_, *lines_ = nullptr;  // the group to come, the one at hand
  const char *run_ = nullptr, *at_ = nullptr;
  const int32_t* offsets_ = nullptr;
  int in_run_ = 0, in_group_ = 0;  // lines left in the run at hand; in the runs of its group behind it
  int left_ = 0, share_ = 0;
};

template <int kHeight, int kWidth>
RP_INLINE void prefetch_tile_to_read(const char* x, int64_t row, int64_t col) {
  for (int h = 0; h < kHeight; h++, x += row) {
    for (int c = 0; c < kWidth; c++) prefetch(x + c * col);
  }
}

// A tile of an output that sums will be added to.
template <int kHeight, int kWidth>
RP_INLINE void prefetch_tile(const char* y, int64_t y_row, int64_t y_col) {
  for (int h = 0; h < kHeight; h++, y += y_row) {
    for (int c = 0; c < kWidth; c++) prefetch_write(y + c * y_col);
  }
}

// s = Σ (y - origin), q = Σ (y - origin)² over a tile; several chains of sums, since a sum waits for the
// one before it.
template <int kSums>
RP_INLINE void sum_differences(const Vec* y, Vec origin, Vec* s, Vec* q) {
  constexpr int kChains = kRegisters != 32 || kSums < 8 || kSums > 24 ? 1 : kSums > 16 ? 2 : 4;
  Vec sum[kChains], squares[kChains];
#pragma GCC unroll 32
  for (int i = 0; i < kSums; i++) {
    const Vec d = y[i] - origin;
    const int chain = i % kChains;
    sum[chain] = i < kChains ? d : sum[chain] + d;
    squares[chain] = i < kChains ? d * d : fmadd(d, d, squares[chain]);
  }
#pragma GCC unroll 4
  for (int i = 1; i < kChains; i++) {
    sum[0] = sum[0] + sum[i];
    squares[0] = squares[0] + squares[i];
  }
  *s = sum[0];
  *q = squares[0];
}

// Only of the images that `out` counts. Of the last image block alone: by itself, so that no register is
// spilled for it elsewhere.
template <int kHeight, int kWidth, int kVectors>
__attribute__((noinline)) void sum_masked_differences(const Vec* y, Vec origin, const TileSums& out, int lane,
                                                      Vec* s, Vec* q) {
  *s = *q = zero();
  for (int h = 0; h < kHeight; h++) {
    for (int c = 0; c < kWidth; c++) {
      for (int v = 0; v < kVectors; v++) {
        Vec d = y[(h * kWidth + c) * kVectors + v] - origin;
        if (h >= out.masked_row) d = d * load(out.lanes + lane + v * kLanes);
        *s = *s + d;
        *q = fmadd(d, d, *q);
      }
    }
  }
}

// Batch norm's statistics while the output is still in registers. Differences from the tile's first value
// keep the digits that Σ y² - (Σ y)² / n would lose where the mean is far from zero. y: kVectors vectors a
// position, the images from `lane` on.
template <int kHeight, int kWidth, int kVectors>
RP_INLINE void sum_tile(const Vec* y, const TileSums& out, int output, int lane) {
  const float first = y[0][0];
  const Vec origin = broadcast(first);
  Vec s, q;
  if (out.lanes == nullptr) {
    sum_differences<kHeight * kWidth * kVectors>(y, origin, &s, &q);
  } else {
    Vec copy[kHeight * kWidth * kVectors];
#pragma GCC unroll 32
    for (int i = 0; i < kHeight * kWidth * kVectors; i++) copy[i] = y[i];
    sum_masked_differences<kHeight, kWidth, kVectors>(copy, origin, out, lane, &s, &q);
  }
  // Images of a row: of all, and of those with lanes.
  constexpr int kImages = kLanes * kVectors;
  const int left = out.images - lane, kept = left < 0 ? 0 : left < kImages ? left : kImages;
  const int whole_rows = out.lanes == nullptr ? kHeight : out.masked_row;
  const double count = kWidth * (whole_rows * kImages + (kHeight - whole_rows) * kept);
  const double o = first, sum = sum_in_double(s), moved = sum + count * o;
  const double squares = sum_in_double(q) + o * (sum + moved);
  double* const to = out.sums + output;
  to[0] = lane > 0 ? to[0] + moved : moved;
  to[out.stride] = lane > 0 ? to[out.stride] + squares : squares;
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
