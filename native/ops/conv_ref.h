// conv_ref: the contract of ops/conv.h as plain loops in double over NCHW arrays: the specification that the
// conformance tests compare every kernel with.
#pragma once
#include <cstdint>

#include "ops/conv.h"

namespace rp {

// x (n, C, H, W), w (K, C, R, S) with zeros where pruned, dy (n, K, P, Q). Outputs of the same shapes are
// overwritten: y, dx, dw; and what the rounding bounds need, the sums of the magnitudes of the terms: y_size,
// dx_size, dw_size. dw is computed at every weight.
struct ConvReference {
  const float *x, *w, *dy;
  double *y, *dx, *dw;
  double *y_size, *dx_size, *dw_size;
};

void conv_ref(const ConvShape&, int n, const ConvReference&);

}  // namespace rp
