// The gradient of what 2x2 max pools of stride 2 read, taken from that of what they made and their choices
// where it is needed: it is stored nowhere.
#pragma once
#include <cstdint>

#include "core/layout.h"
#include "ops/pool/pool_window.h"

namespace rp {

struct PooledGradient {
  const float* dy = nullptr;
  Layout dy_layout;
  const uint8_t* choice = nullptr;  // PoolArgs; null: there is no pool
};

// Of these windows.
inline bool gradient_stays_pooled(const PoolWindow& w) {
  return w.height == 2 && w.width == 2 && w.stride == 2 && w.padding == 0;
}

}  // namespace rp
