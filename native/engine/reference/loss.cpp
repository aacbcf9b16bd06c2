#include "engine/reference/loss.h"

#include <cmath>

namespace rp::reference {
namespace {

// The scaled logits of one image, s·z, in reach of the formulas above. Logits are (C, n).
struct Image {
  const Activation& logits;
  int n, index;
  double scale;
  double maximum = 0, log_sum = 0;  // log Σ exp(s·z - maximum)

  Image(const Activation& logits, const RpBatch& batch, int index, double scale)
      : logits(logits), n(batch.n), index(index), scale(scale) {
    maximum = scaled(0);
    for (int c = 1; c < classes(); c++) maximum = std::fmax(maximum, scaled(c));
    double sum = 0;
    for (int c = 0; c < classes(); c++) sum += std::exp(scaled(c) - maximum);
    log_sum = std::log(sum);
  }
  int classes() const { return logits.channels; }
  int64_t at(int c) const { return int64_t{c} * n + index; }
  double scaled(int c) const { return scale * logits.value[at(c)]; }
  double log_p(int c) const { return scaled(c) - maximum - log_sum; }
};

}  // namespace

RpBatchResult measure(const Activation& logits, const RpBatch& batch, const RpLoss& loss) {
  const double a = loss.label_smoothing;
  RpBatchResult result{};
  for (int i = 0; i < batch.n; i++) {
    const int label = batch.labels[i];
    const Image asked(logits, batch, i, loss.logit_scale), plain(logits, batch, i, 1);
    double sum = 0;
    int best = 0;
    for (int c = 0; c < asked.classes(); c++) {
      sum += asked.log_p(c);
      if (plain.scaled(c) > plain.scaled(best)) best = c;
    }
    result.loss -= ((1 - a) * asked.log_p(label) + a * sum / asked.classes()) / batch.n;
    result.nll -= plain.log_p(label) / batch.n;
    result.correct += best == label;
  }
  return result;
}

void loss_backward(Activation& logits, const RpBatch& batch, const RpLoss& loss, double weight) {
  const double a = loss.label_smoothing, s = loss.logit_scale;
  for (int i = 0; i < batch.n; i++) {
    const Image image(logits, batch, i, s);
    for (int c = 0; c < image.classes(); c++) {
      const double target = (c == batch.labels[i] ? 1 - a : 0) + a / image.classes();
      logits.gradient[image.at(c)] = weight / batch.n * s * (std::exp(image.log_p(c)) - target);
    }
  }
}

void loss_backward_tangent(Activation& logits, const RpBatch& batch, const RpLoss& loss, double weight) {
  const double s = loss.logit_scale;
  for (int i = 0; i < batch.n; i++) {
    const Image image(logits, batch, i, s);
    double mean = 0;  // Σ_j p_j·s·ż_j
    for (int c = 0; c < image.classes(); c++) {
      mean += std::exp(image.log_p(c)) * s * logits.tangent[image.at(c)];
    }
    for (int c = 0; c < image.classes(); c++) {
      const double p = std::exp(image.log_p(c));
      logits.gradient_tangent[image.at(c)] =
          weight / batch.n * s * p * (s * logits.tangent[image.at(c)] - mean);
    }
  }
}

}  // namespace rp::reference
