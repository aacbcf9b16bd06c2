// What the cores can do at most, measured: fused multiply-adds from registers, and with one operand of each
// from L1 (what a sparse convolution does: broadcast a weight, then multiply-add it onto 16 vectors of x);
// bytes read from memory, and read and written past the caches (what a layer's activations take).
#pragma once
#include <cstdint>
#include <vector>

#include "cpu/features.h"
#include "cpu/huge_pages.h"

namespace rp {
class ThreadTeam;
struct CeilingKernels;
}  // namespace rp

namespace rp_bench {

struct Ceilings {
  double fma, load_fma;  // GFLOP/s
  double read, copy;     // GB/s; copy: bytes read + bytes written
};

// Over all members of a pinned team running at once.
class CeilingMeter {
 public:
  explicit CeilingMeter(rp::ThreadTeam&);
  // What the machine reaches undisturbed: the best of many, over some seconds.
  Ceilings best();
  // What it reaches just now, in some milliseconds: less than the best where two virtual cores share a real
  // one, or other machines its memory. A dense kernel's: load_fma is not measured.
  Ceilings now(bool dense);

 private:
  struct alignas(64) Operands {
    float x[4096], w[16], sink;
  };

  template <class Run>
  double rate(const Run&);
  double fma();
  double load_fma();
  double read();
  double copy();
  float* share(const rp::HugePages& pages, int member) const;

  rp::ThreadTeam& team_;
  const rp::CeilingKernels& kernels_;
  std::vector<Operands> operands_;
  rp::HugePages from_, to_;
  int64_t floats_;  // of one member and run
  int window_ = 0;
};

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
