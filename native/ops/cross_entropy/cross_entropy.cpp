#include "ops/cross_entropy/cross_entropy.h"

#include <algorithm>
#include <cmath>

namespace rp {
namespace {

// One image's logits: element k is at k * stride.
struct Logits {
  const float* u;
  int64_t stride;
  int classes;
  double operator[](int64_t k) const { return u[k * stride]; }
};

double log_sum_exp(const Logits& u, double scale) {
  double top = scale * u[0];
  for (int k = 1; k < u.classes; k++) top = std::max(top, scale * u[k]);
  double sum = 0;
  for (int k = 0; k < u.classes; k++) sum += std::exp(scale * u[k] - top);
  return top + std::log(sum);
}

int first_maximum(const Logits& u) {
  int best = 0;
  for (int k = 1; k < u.classes; k++) {
    if (u[k] > u[best]) best = k;
  }
  return best;
}

}  // namespace

CrossEntropySums cross_entropy(const CrossEntropyArgs& args, int64_t block) {
  const Layout& l = args.layout;
  const Layout& gl = args.gradient_layout;
  const int classes = l.channels;
  const double a = args.loss.label_smoothing, scale = args.loss.logit_scale;
  const double factor = args.weight * scale / args.n;
  CrossEntropySums sums;
  for (int image = 0; image < kImagesPerBlock; image++) {
    const int64_t index = block * kImagesPerBlock + image;
    float* du = args.gradient ? args.gradient + gl.at(block, 0, 0, 0) + image : nullptr;
    float* du_tangent =
        args.gradient_tangent ? args.gradient_tangent + gl.at(block, 0, 0, 0) + image : nullptr;
    if (index >= args.n) {
      for (int64_t k = 0; k < classes; k++) {
        if (du) du[k * gl.channel_stride] = 0;
        if (du_tangent) du_tangent[k * gl.channel_stride] = 0;
      }
      continue;
    }
    const Logits u{args.logits + l.at(block, 0, 0, 0) + image, l.channel_stride, classes};
    const int32_t label = args.labels[index];
    const double log_z = log_sum_exp(u, scale);
    sums.nll += (scale == 1 ? log_z : log_sum_exp(u, 1)) - u[label];
    sums.correct += first_maximum(u) == label;
    double mean_logit = 0;
    for (int k = 0; k < classes; k++) mean_logit += u[k];
    mean_logit /= classes;
    sums.loss += log_z - scale * ((1 - a) * u[label] + a * mean_logit);
    if (!du) continue;
    for (int k = 0; k < classes; k++) {
      const double target = (k == label ? 1 - a : 0) + a / classes;
      du[k * gl.channel_stride] = static_cast<float>(factor * (std::exp(scale * u[k] - log_z) - target));
    }
    if (!du_tangent) continue;
    const Logits v{args.logits_tangent + l.at(block, 0, 0, 0) + image, l.channel_stride, classes};
    double mean = 0;
    for (int k = 0; k < classes; k++) mean += std::exp(scale * u[k] - log_z) * scale * v[k];
    for (int k = 0; k < classes; k++) {
      const double p = std::exp(scale * u[k] - log_z);
      du_tangent[k * gl.channel_stride] = static_cast<float>(factor * p * (scale * v[k] - mean));
    }
  }
  return sums;
}

}  // namespace rp
