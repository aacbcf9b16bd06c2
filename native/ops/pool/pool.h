// pool: maximum and average over windows, in the CPU layout (core/layout.h).
//   max  y[p,q] = max over the window; dx = Σ of the dy whose window chose this position (first in row-major
//   order) avg  y[p,q] = mean over the window (no padding);  dx = Σ dy / (kh·kw) over the windows that hold
//   this position
// Backward gathers: every position of dx is written once, so neither order nor threads matter.
#pragma once
#include <cstdint>

#include "core/layout.h"
#include "cpu/features.h"
#include "ops/combine/combine.h"

namespace rp {

struct PoolWindow {
  int height = 1, width = 1, stride = 1, padding = 0;
};

// Whether a PooledGradient may stand for what max_backward would write.
inline bool gradient_stays_pooled(const PoolWindow& w) {
  return w.height == 2 && w.width == 2 && w.stride == 2 && w.padding == 0;
}

// Largest window whose choices fit the uint8 they are stored in.
constexpr int kMaxPoolPositions = 256;

struct PoolArgs {
  PoolWindow window;
  const float* in = nullptr;  // forward: x; backward: dy
  Layout in_layout;
  // max_forward: not null: x is the ReLU of this batch norm of `in`, and stored nowhere.
  const CombineTerm* term = nullptr;
  float* out = nullptr;  // forward: y; backward: dx
  Layout out_layout;
  uint8_t* choice = nullptr;  // max: (block, P, C, Q, 16), position within the window; null: not wanted
  bool add = false;           // backward: dx += instead of =
  int n = 0;
};

// Over rows (image block, h) of `out`.
struct PoolKernels {
  void (*max_forward)(const PoolArgs&, int64_t row_begin, int64_t row_end);
  void (*max_backward)(const PoolArgs&, int64_t row_begin, int64_t row_end);
  void (*avg_forward)(const PoolArgs&, int64_t row_begin, int64_t row_end);
  void (*avg_backward)(const PoolArgs&, int64_t row_begin, int64_t row_end);
};

RP_ISA_TABLE(PoolKernels, pool_kernels)

}  // namespace rp
