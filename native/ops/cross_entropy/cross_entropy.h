// cross_entropy: softmax cross-entropy with label smoothing a and logit scale s, in double.
//   p = softmax(s·u);  loss = mean over images of (1-a)·(-log p[label]) + a·mean over classes of (-log p)
//   du = weight·s/n · (p - (1-a)·onehot - a/K)
// Tangent: dp = p·(s·u' - Σ p s·u'), du' = weight·s/n · dp.
#pragma once
#include <cstdint>

#include "core/layout.h"
#include "engine/engine_abi.h"

namespace rp {

struct CrossEntropyArgs {
  const float* logits = nullptr;  // (K, 1, 1)
  Layout layout;
  const int32_t* labels = nullptr;
  int n = 0;
  RpLoss loss{0, 1};
  double weight = 1;
  float* gradient = nullptr;  // du, zero for padding images; null: not wanted
  Layout gradient_layout;
  const float* logits_tangent = nullptr;  // u'
  float* gradient_tangent = nullptr;      // du'
};

// Sums over the images of one block.
struct CrossEntropySums {
  double loss = 0, nll = 0;
  int64_t correct = 0;
};

CrossEntropySums cross_entropy(const CrossEntropyArgs&, int64_t block);

}  // namespace rp
