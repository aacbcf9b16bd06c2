// The gradient of what 2x2 max pools of stride 2 read, taken from that of what they made and their choices
// where it is needed: it is stored nowhere.
#pragma once
#include <cstdint>

#include "core/layout.h"

namespace rp {

struct PooledGradient {
  const float* dy = nullptr;
  Layout dy_layout;
  const uint8_t* choice = nullptr;  // PoolArgs; null: there is no pool
};

}  // namespace rp
