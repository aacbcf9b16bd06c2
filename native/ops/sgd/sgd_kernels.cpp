// Vector kernels of sgd (sgd.h); compiled once per instruction set. Plain loops: the compiler vectorises
// them, and without contraction every instruction set gives the same bits.
#include "cpu/simd.h"
#include "ops/sgd/sgd.h"

namespace rp {
namespace RP_ISA {
namespace {

template <bool nesterov>
RP_INLINE void update_momentum(const SgdArgs& a, int64_t begin, int64_t end) {
  float* __restrict w = a.w;
  const float* __restrict dw = a.dw;
  float* __restrict v = a.v;
  const float lr = a.lr, momentum = a.momentum, decay = a.decay;
  for (int64_t i = begin; i < end; i++) {
    const float d = dw[i] + decay * w[i];
    v[i] = momentum * v[i] + d;
    w[i] -= lr * (nesterov ? d + momentum * v[i] : v[i]);
  }
}

void update(const SgdArgs& a, int64_t begin, int64_t end) {
  if (a.momentum != 0) {
    if (a.nesterov) return update_momentum<true>(a, begin, end);
    return update_momentum<false>(a, begin, end);
  }
  float* __restrict w = a.w;
  const float* __restrict dw = a.dw;
  const float lr = a.lr, decay = a.decay;
  for (int64_t i = begin; i < end; i++) w[i] -= lr * (dw[i] + decay * w[i]);
}

bool all_finite(const float* values, int64_t begin, int64_t end) {
  // Exponent all ones.
  uint32_t bad = 0;
  for (int64_t i = begin; i < end; i++) {
    uint32_t bits;
    __builtin_memcpy(&bits, values + i, sizeof bits);
    bad |= static_cast<uint32_t>((bits & 0x7f800000u) == 0x7f800000u);
  }
  return bad == 0;
}

}  // namespace

const SgdKernels& sgd_kernels() {
  static const SgdKernels table = {update, all_finite};
  return table;
}

}  // namespace RP_ISA
}  // namespace rp
