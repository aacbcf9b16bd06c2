// conv2d: the kernels of a dense convolution in the batch-innermost layout. Outputs share loads of x, so that
// the multiply-add units are the limit (PERFORMANCE, CPU design 9).
//
//   gather  y[o][t] (+)= Σ_k w[k][o] · x[t + offset[k]]     k over (channel, tap), three outputs at a time
//   wgrad   sums[k][o] += Σ_t,lane dy[o][t][lane] · x[t + offset[k]][lane], tap_group k by three outputs at a
//   time
#pragma once
#include <cstdint>

#include "cpu/features.h"
#include "ops/gather_flags.h"

namespace rp {

constexpr int kOutputGroup = 3;

// Of so many outputs left, those that a kernel takes together. Of four, two and two: one alone has too few
// sums to keep the multiply-add units busy.
constexpr int outputs_together(int left) {
  return left >= kOutputGroup && left != 4 ? kOutputGroup : left < 2 ? left : 2;
}

struct DenseTerms {
  const int32_t* entries;  // count pairs {byte offset, k}
  int count;
};

struct DenseGatherArgs {
  const char* x;  // tile's first position, first channel of the channel block
  int64_t x_row;  // bytes between the tile's rows
  char* y;        // tile's first position, first of the outputs
  int64_t y_row, y_col, y_channel;
  // For all columns; for all but the first, where that one sees the border; for all but the last. A tile of
  // one column has the first kind only.
  DenseTerms terms[3];
  const float* weights;  // of outputs_together, one group after another: [k_count][group]
  int64_t k_count;
  float* partial;  // [outputs][height·width][16]
  PrefetchLines next;
  TileSums sums;
  int outputs;
  uint32_t flags;
};

// Positions of a tile from which a tap reaches the map.
struct TapReach {
  int row_begin, row_end, col_begin, col_end;
};

struct DenseWgradArgs {
  const char* x;  // first position of the tile, channel 0
  int64_t x_row, x_col;
  const char* dy;  // first position of the tile, first output
  int64_t dy_row, dy_channel;
  int height, width;
  const int32_t* offsets;  // taps byte offsets
  int taps, outputs;
  // Where the offsets of a group are one tap of several channels, and its neighbours the channels' other
  // taps: what each of the kernel's taps reaches from a tile of full height; the first offset is the
  // first_tap-th of all. Null where offsets go channel by channel: every position is taken.
  const TapReach* reach;
  int first_tap, kernel_taps;
  int groups_at_once;             // groups of taps that share a pass over dy
  PrefetchLines next_x, next_dy;  // of the next tile
  // [taps in groups (then 4, 2, 1)][outputs][taps of the group]; up to three floats behind them are written.
  float* sums;
};

using DenseGather = void (*)(const DenseGatherArgs&);

struct DenseConvKernels {
  int lanes;
  int gather_registers;                                      // for the sums of one output (gather_passes)
  DenseGather (*gather)(int height, int width, int x_step);  // null when there is none
  void (*wgrad)(const DenseWgradArgs&);
  int tap_group;  // taps that wgrad takes at a time
  void (*stream_fence)();
};

RP_ISA_TABLE(DenseConvKernels, dense_conv_kernels)

}  // namespace rp
