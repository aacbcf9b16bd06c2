// Max pools' gradients inside vector kernels.
#pragma once
#include "ops/activation/rows.h"
#include "ops/pool/pooled_gradient.h"

namespace rp {
namespace RP_ISA {

// Of output (p, q) of channel c in block b, in choices that y's positions have.
RP_INLINE int64_t choice_offset(const Layout& y, int64_t b, int64_t p, int64_t c, int64_t q) {
  return (((b * y.height + p) * y.channels + c) * y.width + q) * kImagesPerBlock;
}

// dy where the choice was `here`, for kLanes images.
RP_INLINE Vec chosen_gradient(const float* dy, const uint8_t* choice, float here) {
  const Vec c = load_bytes(choice), nothing = zero();
  const Vec above = select(greater(c, broadcast(here - 0.5f)), load(dy), nothing);
  return select(greater(broadcast(here + 0.5f), c), above, nothing);
}

// One row and channel of a pooled gradient.
struct PooledRow {
  const float* dy;
  const uint8_t* choice;
  int64_t outputs;
  float first;  // choice of column 0
};

RP_INLINE PooledRow pooled_row(const PooledGradient& from, int64_t b, int64_t h, int64_t c) {
  const Layout& y = from.dy_layout;
  const int64_t p = h / 2;
  if (p >= y.height) return {nullptr, nullptr, 0, 0};
  return {from.dy + row_offset(y, b, p) + c * y.channel_stride, from.choice + choice_offset(y, b, p, c, 0),
          y.width, static_cast<float>(h % 2 * 2)};
}

// At column w, of the images from `lane` on; zero where no window lies.
RP_INLINE Vec gradient_at(const PooledRow& row, int64_t w, int64_t lane) {
  const int64_t q = w / 2, i = q * kImagesPerBlock + lane;
  if (q >= row.outputs) return zero();
  return chosen_gradient(row.dy + i, row.choice + i, row.first + static_cast<float>(w % 2));
}

}  // namespace RP_ISA
}  // namespace rp
