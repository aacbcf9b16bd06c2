// sgd: PyTorch's SGD over a range of packed parameters. With d = dw + decay·w:
//   momentum m: v = m·v + d;  w -= lr·(nesterov ? d + m·v : v)      (v starts at 0, so the first v is d)
//   m = 0:      w -= lr·d, and v is not touched
#pragma once
#include <cstdint>

#include "cpu/features.h"

namespace rp {

struct SgdArgs {
  float* w = nullptr;
  const float* dw = nullptr;
  float* v = nullptr;
  float lr = 0, momentum = 0, decay = 0;
  bool nesterov = false;
};

struct SgdKernels {
  void (*update)(const SgdArgs&, int64_t begin, int64_t end);
  // No NaN or infinity in values[begin .. end).
  bool (*all_finite)(const float* values, int64_t begin, int64_t end);
};

RP_ISA_TABLE(SgdKernels, sgd_kernels)

}  // namespace rp
