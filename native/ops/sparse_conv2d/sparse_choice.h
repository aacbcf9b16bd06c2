// Tile choice for the sparse kernels: a model of their cost orders the candidates; the layer takes the first,
// or measures the first few.
#pragma once
#include <vector>

#include "ops/conv_pass.h"
#include "ops/conv_tiling.h"
#include "ops/sparse_conv2d/sparse_conv2d.h"

namespace rp {

HasTile has_gather(const SparseConvKernels&, int x_step, bool pairs);
HasTile has_gather_dot(const SparseConvKernels&);
HasTile has_wgrad(const SparseConvKernels&, int x_step);

// Best first. nnz: of the pass. blocks: image blocks of the largest batch.
std::vector<TileChoice> gather_choices(const ConvPass&, int64_t nnz, const SparseConvKernels&, int blocks);
// Of a dgrad pass that wgrad goes with.
std::vector<TileChoice> gather_dot_choices(const ConvPass&, int64_t nnz, const SparseConvKernels&,
                                           int blocks);
// The channel block is the forward list's.
std::vector<TileChoice> wgrad_choices(const ConvPass&, int64_t nnz, const HasTile&, int blocks, int channels);

}  // namespace rp
