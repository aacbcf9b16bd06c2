// conv2d: the kernels of a dense convolution in the batch-innermost layout. Outputs share loads of x, so that
// the multiply-add units are the limit (PERFORMANCE, CPU design 9).
//
//   gather  y[o][t] (+)= Σ_k w[k][o] · x[t + offset[k]]   a group of outputs at a time; k over (tap, channel)
//   wgrad   sums[k][o] += Σ_t,image dy[t][image][o] · x[t + offset[k]][image]   two vectors of outputs by
//           tap_group k at a time, of a copy of dy whose vectors hold outputs
#pragma once
#include <cstdint>

#include "cpu/features.h"
#include "ops/gather_flags.h"

namespace rp {

constexpr int kOutputGroup = 3;      // of a gather
constexpr int kWideOutputGroup = 6;  // of one over tiles of few positions, whose channel blocks are larger
constexpr int kWgradVectors = 2;     // of outputs that wgrad takes together

// Where the group-th group of `size` outputs that a gather takes together begins; of the one behind the last:
// where it ends. A last output takes the one before it along: alone it has too few sums to keep the
// multiply-add units busy.
static constexpr int group_begin(int group, int outputs, int size) {
  const int at = group * size;
  if (at >= outputs) return outputs;
  return group > 0 && outputs - at == 1 ? at - 1 : at;
}

// Columns of a tile: where its first (last) one sees the border, that one is left out.
enum class DenseColumns : int32_t { all, not_first, not_last };

// Neighbouring taps that meet the same columns.
struct TapRun {
  int32_t first_tap, taps;
  DenseColumns columns;
};

struct DenseGatherArgs {
  const char* x;  // tile's first position, first channel of the channel block
  int64_t x_row;  // bytes between the tile's rows
  char* y;        // tile's first position, first of the outputs
  int64_t y_row, y_col, y_channel;
  int64_t x_channel;
  const TapRun* runs;  // the taps of this tile
  int run_count;
  int channels;               // of the block
  int64_t k_count;            // weights of one output in the block
  const int32_t* offsets;     // of each tap, bytes
  const float* weights;       // one group of outputs after another: [taps][channels][group]
  float* partial;             // [outputs][height·width][16]
  const PrefetchLines* next;  // next_count of them
  int next_count;
  TileSums sums;
  int outputs;
  uint32_t flags;
};

// Positions of a tile from which a tap reaches the map.
struct TapReach {
  int row_begin, row_end, col_begin, col_end;
};

// Of (channel, tap) pairs, which wgrad multiplies with an output's dy together.
struct TapGroup {
  int32_t first, count;  // tap_group of them, or a smaller power of two
  int32_t tap;           // of all of them, where they go tap by tap
};

struct DenseWgradArgs {
  const char* x;  // first position of the tile, channel 0
  int64_t x_row, x_col;
  const char* dy;  // first position of the tile, first output
  int64_t dy_row, dy_channel;
  int height, width;
  const int32_t* offsets;  // byte offsets of pairs
  const TapGroup* groups;  // group_count of them, neighbours
  int group_count;
  int outputs;
  // What each tap reaches from a tile of full height, where a group is of one tap. Null where pairs go
  // channel by channel: every position is taken.
  const TapReach* reach;
  PrefetchLines next[2];  // of x and dy
  float* dy_images;       // for the copy: outputs, in whole vectors, · positions · 16
  float* sums;            // [vectors of outputs that are taken together][pair of these groups][output]
};

using DenseGather = void (*)(const DenseGatherArgs&);

struct DenseConvKernels {
  int lanes;
  int gather_registers;  // for the sums of one output (gather_passes)
  int wide_positions;    // a choice of tiles of so many or fewer takes kWideOutputGroup outputs together
  // outputs: of a group. Null when there is none.
  DenseGather (*gather)(int height, int width, int x_step, int outputs);
  void (*wgrad)(const DenseWgradArgs&);
  int tap_group;  // (channel, tap) pairs that wgrad takes at a time
  void (*stream_fence)();
};

RP_ISA_TABLE(DenseConvKernels, dense_conv_kernels)

}  // namespace rp
