// One vector of a batch norm term, the same arithmetic wherever it is computed: forward, and backward where
// the ReLU's mask is recomputed.
#pragma once
#include "cpu/simd.h"
#include "ops/combine/combine.h"

namespace rp {
namespace RP_ISA {

struct AffineVecs {
  Vec mean, scale, shift;
};

RP_INLINE AffineVecs affine_of(const CombineTerm& term, int64_t c) {
  return {broadcast(term.mean[c]), broadcast(term.scale[c]), broadcast(term.shift[c])};
}

RP_INLINE Vec affine(Vec x, const AffineVecs& a) { return fmadd(x - a.mean, a.scale, a.shift); }

}  // namespace RP_ISA
}  // namespace rp
