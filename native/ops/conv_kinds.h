// The two implementations behind make_conv (ops/conv.h).
#pragma once
#include <memory>

#include "cpu/features.h"
#include "ops/conv.h"

namespace rp {

// Of a mask's kept weights.
std::unique_ptr<ConvLayer> make_sparse_conv(const ConvShape&, const MaskView&, const ConvLayouts&,
                                            const ConvOptions&, Isa, ThreadTeam&);
// Of all weights.
std::unique_ptr<ConvLayer> make_dense_conv(const ConvShape&, const ConvLayouts&, const ConvOptions&, Isa,
                                           ThreadTeam&);

}  // namespace rp
