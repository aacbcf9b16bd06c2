// Tile choice for the dense kernels; see sparse_choice.h.
#pragma once
#include <vector>

#include "ops/conv2d/conv2d.h"
#include "ops/conv_pass.h"
#include "ops/conv_tiling.h"

namespace rp {

HasTile has_dense_gather(const DenseConvKernels&, int x_step);
// Outputs that a gather with tiles of this choice takes together.
int dense_output_group(const DenseConvKernels&, const TileChoice&);
// Wgrad takes tiles of any shape, of whose dy a thread holds a copy.
bool has_dense_wgrad(int height, int width);

std::vector<TileChoice> dense_gather_choices(const ConvPass&, const DenseConvKernels&, int blocks);
// tap_group: DenseConvKernels.tap_group.
std::vector<TileChoice> dense_wgrad_choices(const ConvPass&, int tap_group, int blocks);
// Of a tile of wgrad, at most. On maps of fewer it may lie across image blocks.
int most_wgrad_positions();
// Whether each group of wgrad's (channel, tap) pairs is one tap of several channels, so that it leaves out
// what the tap does not reach.
bool wgrad_by_tap(const ConvPass&, int tap_group);

}  // namespace rp
