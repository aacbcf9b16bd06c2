// combine: z = [relu] (t0 [+ t1]), in one pass. A term is a tensor x, or a batch norm of it,
// (x - mean[c]) · scale[c] + shift[c]. Batch norm, ReLU, add and every fusion of them are this op; so is a
// bias (mean 0, scale 1). Subtracting the mean first keeps the digits that x·a + b loses where |mean| >> std.
//
// NaN passes through the ReLU, so a diverged network is seen at the loss.
// Rows are (image block, h) pairs, block-major: row r is h = r % H of block r / H.
#pragma once
#include <cstdint>

#include "core/layout.h"
#include "cpu/features.h"
#include "ops/pool/pooled_gradient.h"

namespace rp {

struct CombineTerm {
  const float* x = nullptr;
  Layout layout;
  // Per channel; mean null: the tensor itself.
  const float* mean = nullptr;
  const float* scale = nullptr;
  const float* shift = nullptr;
};

struct CombineArgs {
  CombineTerm terms[2];
  int term_count = 1;
  bool relu = false;
  float* z = nullptr;  // may be a term's x, where the layouts agree
  Layout z_layout;
  bool stream = false;  // with non-temporal stores
  int n = 0;            // images
};

// Backward, first pass: g = dz where the ReLU passed (all of dz without one), and the sums that batch norm's
// gradient needs, Σ g and Σ g·(x - mean) per channel and term.
enum class ReluMask {
  none,
  output,  // z > 0; g is written
  term,    // recomputed from terms[0], which is a batch norm and the only term; dz is left alone
};

struct CombineBackwardArgs {
  CombineTerm terms[2];  // the batch norms alone
  int term_count = 0;
  ReluMask mask = ReluMask::none;
  const float* z = nullptr;  // with ReluMask::output
  Layout z_layout;
  const float* dz = nullptr;
  PooledGradient pooled;  // instead of dz, with ReluMask::term
  Layout dz_layout;
  // With ReluMask::output: dz itself, or a tensor without border whose rows may be others.
  float* g = nullptr;
  Layout g_layout;
  bool stream = false;  // g with non-temporal stores
  int n = 0;
  int rows_per_chunk = 1;  // chunk_rows(): rows of one block whose sums are kept in float
  double* sums = nullptr;  // [chunk][1 + term_count][C]; null: sums are not wanted
};

// Chunks are fixed by the layout, so that sums do not depend on the number of threads: fewest rows of 128
// positions (16 images each).
inline int chunk_rows(const Layout& l) {
  const int rows = (128 + l.width - 1) / l.width;
  return rows < l.height ? rows : l.height;
}
inline int64_t chunks_per_block(const Layout& l) { return (l.height + chunk_rows(l) - 1) / chunk_rows(l); }

// Channels whose accumulators stay in L1 while a chunk passes.
constexpr int kChunkChannels = 64;

struct CombineKernels {
  void (*forward)(const CombineArgs&, int64_t row_begin, int64_t row_end);
  void (*backward)(const CombineBackwardArgs&, int64_t chunk_begin, int64_t chunk_end);
};

RP_ISA_TABLE(CombineKernels, combine_kernels)

}  // namespace rp
