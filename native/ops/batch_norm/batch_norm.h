// batch_norm: statistics over (N, H, W) forward; backward,
//   dx = gamma·s · (g - mean(g) - (x - mean)·s² · mean(g·(x - mean))),  s = 1 / sqrt(var + eps)
// as dx = k1[c]·g + k2[c]·(x - mean[c]) + k3[c]. The normalisation itself is combine's (ops/combine), and so
// are the two sums of the gradient.
#pragma once
#include <cstdint>

#include "core/layout.h"
#include "cpu/features.h"
#include "ops/combine/combine.h"
#include "ops/pool/pooled_gradient.h"

namespace rp {

// Σ x and Σ x² per channel and chunk (chunk_rows). Floats hold sums of x - x[first position of the chunk], so
// that a mean far from zero costs no digits; double holds the rest. Padding images are left out.
struct StatisticsArgs {
  const float* x = nullptr;
  Layout layout;
  int n = 0;
  int rows_per_chunk = 1;
  double* sums = nullptr;  // [chunk][2][C]
};

struct BatchNormApplyArgs {
  const float* g = nullptr;  // dL/dz
  PooledGradient pooled;     // instead of g, with relu_mask
  Layout g_layout;
  CombineTerm term;        // x, mean; scale and shift where the mask is recomputed
  bool relu_mask = false;  // g counts only where the term is > 0
  const float* k1 = nullptr;
  const float* k2 = nullptr;
  const float* k3 = nullptr;
  bool add = false;     // dx += instead of =
  bool stream = false;  // dx with non-temporal stores
  float* dx = nullptr;  // may be g
  Layout dx_layout;
  int n = 0;
};

struct BatchNormKernels {
  void (*statistics)(const StatisticsArgs&, int64_t chunk_begin, int64_t chunk_end);
  void (*apply)(const BatchNormApplyArgs&, int64_t row_begin, int64_t row_end);  // rows as in combine
};

RP_ISA_TABLE(BatchNormKernels, batch_norm_kernels)

}  // namespace rp
