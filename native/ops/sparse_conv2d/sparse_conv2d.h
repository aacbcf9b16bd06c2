// sparse_conv2d: the kernels of a convolution whose kept weights are listed (static mask), one register tile
// at a time. PERFORMANCE, CPU design 2-7.
//
//   gather   y[o][t] (+)= Σ_j w[j] · x[t + offset[j]]       j over the nonzeros of o: forward, and dgrad over
//   the
//                                                           transposed list
//   wgrad    dot[j] += Σ_t Σ_lane dy[o][t][lane] · x[t + offset[j]][lane]
//   gather_dot  gather, and dot[j] += Σ_t Σ_lane with[o][t][lane] · x[t + offset[j]][lane]: dgrad and wgrad
//   at
//               once, of a list of dgrad, with = the layer's x: what is loaded of dy serves both
//
// t runs over the height × width positions of a tile; every position is sixteen images. A nonzero is one
// broadcast and height·width load-FMAs.
#pragma once
#include <cstdint>

#include "cpu/features.h"
#include "ops/gather_flags.h"

namespace rp {

constexpr int32_t kOffsetMask = -64;
constexpr int kSumsPadding = 3;
constexpr int kListAhead = 8;  // kernels read up to so many entries beyond those that they use

// What a tile leaves out of one row kind (sparse_lists.h).
enum class RowCut : int32_t {
  none,
  edge,  // the tile's first (last) row: its taps read the zero row
  all,   // the whole tile
};

struct SparseGatherArgs {
  const char* x;  // tile's first position, first channel of the channel block
  int64_t x_row;  // bytes between the tile's rows
  char* y;        // tile's first position, first of the outputs
  int64_t y_row, y_col, y_channel;
  const int32_t* ends;        // of the outputs' list rows (sparse_lists.h): row r has ends[r] .. ends[r + 1]
  const uint8_t* splits;      // of three row kinds: two a row, from ends[r]
  RowCut above, below;        // of the first kind, of the last; none where there is one
  const int32_t* list;        // byte offsets, & kOffsetMask
  const float* weights;       // from the first output on, in list order; two for an entry that a pair shares
  float* partial;             // [outputs][height·width][16]: sums of the channel blocks so far
  const PrefetchLines* next;  // next_count of them
  int next_count;
  TileSums sums;
  int outputs;
  uint32_t flags;
  // gather_dot: the tile's first position, first of the outputs; bytes between its rows, columns, outputs.
  const char* with;
  int64_t with_row, with_col, with_channel;
  float* dots;  // of the outputs' nonzeros, in list order
};

struct SparseWgradArgs {
  const char* x;
  int64_t x_row;
  const char* dy;
  int64_t dy_row, dy_channel;
  const int32_t* ends;
  const uint8_t* splits;
  RowCut above, below;
  const int32_t* list;
  float* sums;            // of the outputs' nonzeros; up to kSumsPadding beyond them, 0 is added
  float* lanes;           // scratch: [longest list row of a block + kSumsPadding][lane_sums]
  PrefetchLines next[2];  // of x and dy
  int outputs;
};

using SparseGather = void (*)(const SparseGatherArgs&);
using SparseWgrad = void (*)(const SparseWgradArgs&);

struct SparseConvKernels {
  int lanes;
  int gather_registers;  // for sums (gather_passes)
  int lane_sums;         // floats of a nonzero that wgrad keeps while it is at an output, or 0
  // Null when there is none. x_step: distance of neighbouring positions in x (any when width is 1).
  // together: outputs.
  SparseGather (*gather)(int height, int width, int x_step, int together);
  SparseGather (*gather_dot)(int height, int width);  // x_step 1, single outputs
  SparseWgrad (*wgrad)(int height, int width, int x_step, int together);
  void (*stream_fence)();  // after the last kStreamOut call of a thread
};

RP_ISA_TABLE(SparseConvKernels, sparse_conv_kernels)

}  // namespace rp
