// An activation for the measured search (zeros: no instruction of the kernels depends on the values).
#pragma once
#include <cstdlib>
#include <memory>

#include "core/layout.h"
#include "ops/conv_scratch.h"

namespace rp {

// Enough for every thread and for tiles across blocks; more would only take longer.
constexpr int kMeasuredBlocks = 8;

struct ConvBuffer {
  ConvBuffer(const Layout& layout, int blocks)
      : memory(allocate_pages(4 * layout.floats(blocks * kImagesPerBlock)), std::free),
        base(static_cast<float*>(memory.get()) + layout.margin) {}
  std::unique_ptr<void, void (*)(void*)> memory;
  float* base;
};

}  // namespace rp
