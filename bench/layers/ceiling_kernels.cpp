// Compiled once per instruction set, with the flags of the engine's own kernels (cpu/simd.h).
#include "ceilings.h"
#include "cpu/simd.h"

namespace rp {
namespace RP_ISA {
namespace {

// Enough accumulators to hide the latency of two units; the loops over them unroll whole.
constexpr int kAccumulators = kRegisters == 32 ? 16 : 12;
constexpr int kVectors = 16384 / 4 / kLanes;  // of x
constexpr int kOperands = 16;

double fma(int64_t rounds, float* sink) {
  Vec sums[kAccumulators];
  for (int t = 0; t < kAccumulators; t++) sums[t] = broadcast(static_cast<float>(t));
  Vec a = broadcast(0.999999f), b = broadcast(1e-9f);
  for (int64_t round = 0; round < rounds; round++) {
    keep(a);
#pragma GCC unroll 16
    for (int t = 0; t < kAccumulators; t++) sums[t] = fmadd(sums[t], a, b);
  }
  Vec total = zero();
  for (int t = 0; t < kAccumulators; t++) total = total + sums[t];
  *sink += horizontal_sum(total);
  return 2.0 * kLanes * kAccumulators * static_cast<double>(rounds);
}

double load_fma(int64_t rounds, const float* x, const float* w, float* sink) {
  constexpr int kTile = kAccumulators;
  Vec sums[kTile];
  for (int t = 0; t < kTile; t++) sums[t] = zero();
  constexpr int kPlaces = kVectors / kTile;
  double operations = 0;
  for (int64_t round = 0; round < rounds; round++) {
    for (int place = 0; place < kPlaces; place++) {
      const float* from = x + place * kTile * kLanes;
      RP_OPAQUE(from);
      const Vec weight = broadcast(w[place % kOperands]);
#pragma GCC unroll 16
      for (int t = 0; t < kTile; t++) sums[t] = fmadd(weight, load(from + t * kLanes), sums[t]);
    }
  }
  operations = 2.0 * kLanes * kTile * kPlaces * static_cast<double>(rounds);
  Vec total = zero();
  for (int t = 0; t < kTile; t++) total = total + sums[t];
  *sink += horizontal_sum(total);
  return operations;
}

constexpr int kUnrolled = 64 / kLanes;  // vectors of four lines

void read(const float* from, int64_t floats, float* sink) {
  Vec sums[kUnrolled];
  for (int t = 0; t < kUnrolled; t++) sums[t] = zero();
  for (const float* end = from + floats; from < end; from += 64) {
#pragma GCC unroll 16
    for (int t = 0; t < kUnrolled; t++) sums[t] = sums[t] + load(from + t * kLanes);
  }
  Vec total = zero();
  for (int t = 0; t < kUnrolled; t++) total = total + sums[t];
  *sink += horizontal_sum(total);
}

void copy(const float* from, float* to, int64_t floats) {
  for (const float* end = from + floats; from < end; from += 64, to += 64) {
#pragma GCC unroll 16
    for (int t = 0; t < kUnrolled; t++) stream(to + t * kLanes, load(from + t * kLanes));
  }
  stream_fence();
}

}  // namespace

const CeilingKernels& ceiling_kernels() {
  static const CeilingKernels table = {fma, load_fma, read, copy};
  return table;
}

}  // namespace RP_ISA
}  // namespace rp
