// Softmax cross-entropy with label smoothing a and logit scale s (GraSP: s = 1/T), on logits z (C, n):
//
//   p = softmax(s·z),  t = (1-a)·onehot(label) + a/C
//   loss = mean over images of -Σ_c t_c·log p_c
//   dz_c = weight/n · s·(p_c - t_c)
//   dz˙_c = weight/n · s·p_c·(s·ż_c - Σ_j p_j·s·ż_j)
#pragma once
#include "engine/engine_abi.h"
#include "engine/reference/tensor.h"

namespace rp::reference {

// Loss, plain cross-entropy (a = 0, s = 1) and hits of a batch.
RpBatchResult measure(const Activation& logits, const RpBatch&, const RpLoss&);
// logits.gradient = dz.
void loss_backward(Activation& logits, const RpBatch&, const RpLoss&, double weight);
// logits.gradient_tangent = dz˙.
void loss_backward_tangent(Activation& logits, const RpBatch&, const RpLoss&, double weight);

}  // namespace rp::reference
