// What forward and dgrad have in common: a pass computes, for every output channel o and every position (p,
// q) of a grid,
//
//   y[o][p·y_step + y_row][q·y_step + y_col] (+)= Σ w · x[c][p·x_step + tap.dr][q·x_step + tap.ds]
//
// Forward is one pass with x_step = stride. Dgrad reads dy and writes dx: one pass per phase (h mod stride,
// w mod stride) with y_step = stride; a tap belongs to exactly one phase. Phases that no tap reaches are
// passes without taps.
#pragma once
#include <vector>

#include "core/layout.h"
#include "ops/conv.h"
#include "ops/conv_tiling.h"

namespace rp {

struct PassTap {
  int dr, ds;
  int index;  // r · kernel_w + s
};

struct ConvPass {
  Layout x, y;
  int rows = 0, cols = 0;  // positions computed
  int x_step = 1;
  int y_step = 1, y_row = 0, y_col = 0;
  std::vector<PassTap> taps;  // ascending index

  int inputs() const { return x.channels; }
  int outputs() const { return y.channels; }
};

ConvPass forward_pass(const ConvShape&, const ConvLayouts&);
// stride² passes, those without positions left out.
std::vector<ConvPass> dgrad_passes(const ConvShape&, const ConvLayouts&);

// The pass with most taps stands for all phases.
const ConvPass& main_pass(const std::vector<ConvPass>& dgrad_passes);

// The rectangle of a pass's taps: its rows and its columns, in the order of the taps.
std::vector<int> tap_rows(const ConvPass&);
std::vector<int> tap_cols(const ConvPass&);

// That reads a tensor position by position, as wgrad does dy; of its outputs nothing is said.
ConvPass pass_of_positions(const Layout&);

// Throws rp::Error when a shape or layout cannot be served.
void check_conv(const ConvShape&, const MaskView&, const ConvLayouts&);

}  // namespace rp
