// Which layout (core/layout.h) every value and gradient has.
//
// Between convolutions that work position by position (1x1, stride 1, without padding) the rows of an image
// mean nothing, and rows of many channels are too long for the caches. Where nothing but such convolutions
// and elementwise steps touches a value, its positions are cut into shorter rows, and a few of these into a
// part that convolutions take for a block.
#pragma once
#include <vector>

#include "core/layout.h"
#include "engine/cpu/graph.h"

namespace rp {
namespace cpu {

struct Layouts {
  std::vector<Layout> values, gradients;  // per value
  std::vector<ConvShape> conv_shapes;     // per conv, on the rows of these layouts
};

Layouts choose_layouts(const StepGraph&, const RpModel&);

}  // namespace cpu
}  // namespace rp
