// What the cores can do at most, measured: fused multiply-adds from registers, and with one operand of each
// from L1 (what a sparse convolution does: broadcast a weight, then multiply-add it onto 16 vectors of x);
// bytes read from memory, and read and written past the caches (what a layer's activations take).
#pragma once
#include <cstdint>

#include "cpu/features.h"

namespace rp {
class ThreadTeam;
}

namespace rp_bench {
// Over all members of a pinned team running at once, each alone on its core.
struct Ceilings {
  double fma, load_fma;  // GFLOP/s
  double read, copy;     // GB/s; copy: bytes read + bytes written
};
Ceilings measure_ceilings(rp::ThreadTeam&);
}  // namespace rp_bench

namespace rp {

struct CeilingKernels {
  // Both give the number of floating-point operations done; `sink` keeps the work from being dropped.
  double (*fma)(int64_t rounds, float* sink);
  // x: 16 KiB, aligned to the vector; w: 16 weights.
  double (*load_fma)(int64_t rounds, const float* x, const float* w, float* sink);
  // floats: a multiple of 64; aligned to a line.
  void (*read)(const float* from, int64_t floats, float* sink);
  void (*copy)(const float* from, float* to, int64_t floats);
};

RP_ISA_TABLE(CeilingKernels, ceiling_kernels)

}  // namespace rp
