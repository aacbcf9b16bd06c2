// What the calls of the gather kernels (sparse_conv2d, conv2d) have in common: flags, lines to prefetch.
#pragma once
#include <cstdint>

namespace rp {

constexpr uint32_t kFirstBlock = 1;  // there are no partial sums yet
constexpr uint32_t kLastBlock = 2;   // sums go to y, not to the partial sums
constexpr uint32_t kStreamOut = 4;   // with non-temporal stores
constexpr uint32_t kAddOut = 8;      // y += instead of =

// Passes of a kernel over a tile of so many positions: one where `registers` hold all sixteen images of each,
// else one for each vector of `lanes` images. In one pass lists are walked once, and y leaves in whole lines.
static constexpr int gather_passes(int positions, int lanes, int registers) {
  return positions * (16 / lanes) <= registers ? 1 : 16 / lanes;
}

// Lines that later calls of a thread read and this one fetches, a few beside each output: all at once
// they would fill the core's miss buffers and stall it. They come in runs, each per_run lines.
struct PrefetchLines {
  const char* base = nullptr;
  const int32_t* offsets = nullptr;  // bytes, of the lines of a run; null: one after another
  int per_run = 0;
  int64_t run_stride = 0;    // bytes
  int first = 0, count = 0;  // lines
  bool to_l1 = false;        // else to L2
};

// Where a call leaves Σ y and Σ y² of each of its outputs over its tile; sums null: not wanted. Lanes of the
// last image block that hold no image are left out: those with lanes[i] = 0, in the tile's rows from
// masked_row on.
struct TileSums {
  double* sums = nullptr;  // of the first output; Σ y² stands `stride` further
  int64_t stride = 0;
  const float* lanes = nullptr;
  int masked_row = 0;
  int images = 16;  // lanes that are not 0
};

}  // namespace rp
