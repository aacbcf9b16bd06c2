// The implementations behind make_conv (ops/conv.h).
#pragma once
#include <memory>
#include <vector>

#include "cpu/features.h"
#include "ops/conv.h"
#include "ops/conv_tiling.h"

namespace rp {

// Of a mask's kept weights.
std::unique_ptr<ConvLayer> make_sparse_conv(const ConvShape&, const MaskView&, const ConvLayouts&,
                                            const ConvOptions&, Isa, ThreadTeam&);
// Of a mask's kept weights, on the dense kernels: zeros are computed with.
std::unique_ptr<ConvLayer> make_masked_conv(const ConvShape&, const MaskView&, const ConvLayouts&,
                                            const ConvOptions&, Isa, ThreadTeam&);
// Of all weights.
std::unique_ptr<ConvLayer> make_dense_conv(const ConvShape&, const ConvLayouts&, const ConvOptions&, Isa,
                                           ThreadTeam&);

// Whether wgrad goes by parts of the images and the sums of one fit a thread's caches, so that it may run
// beside dgrad.
bool sparse_wgrad_goes_beside(const Layout& x, int64_t nnz);
bool dense_wgrad_goes_beside(const ConvShape&);

// Tiles for a pass, best first by the cost model of the kind. blocks: of the largest batch.
// channels: of a sparse wgrad, which walks forward's list, forward's channel block. backward: both gradients
// by one kernel; none where there is no such kernel.
enum class ConvPassKind { forward, dgrad, wgrad, backward };
std::vector<TileChoice> sparse_candidates(ConvPassKind, const ConvShape&, const MaskView&, const ConvLayouts&,
                                          Isa, int blocks, int channels);
std::vector<TileChoice> dense_candidates(ConvPassKind, const ConvShape&, const ConvLayouts&, Isa, int blocks);

}  // namespace rp
