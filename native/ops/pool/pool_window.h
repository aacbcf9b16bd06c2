// What pools and what reads their gradients (pooled_gradient.h) have in common.
#pragma once

namespace rp {

struct PoolWindow {
  int height = 1, width = 1, stride = 1, padding = 0;
};

}  // namespace rp
