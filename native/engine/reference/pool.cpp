// Pooling. Both pick fixed linear maps once the maxima are known, so tangents repeat the passes.
#include <cmath>

#include "engine/reference/op.h"

namespace rp::reference {
namespace {

// y = the largest of each window, padding never. Of equal values the first in row-major order wins, and NaN
// wins over everything (PyTorch's rule): its gradient goes to that element alone.
class MaxPool final : public Op {
 public:
  explicit MaxPool(const OpSource& s)
      : kernel_(s.node.kernel_h), stride_(s.node.stride), padding_(s.node.padding), x_(*s.x[0]), y_(*s.y) {
    argmax_ = s.activations.take<int64_t>(y_.size(s.max_batch));
  }

  void forward(const Pass& pass) override {
    each_row(pass, [&](int64_t row) {
      const double* x = x_.value + row * x_.pixels();
      for (int p = 0; p < y_.height; p++) {
        for (int q = 0; q < y_.width; q++) {
          int64_t best = -1;
          for (int r = 0; r < kernel_; r++) {
            for (int s = 0; s < kernel_; s++) {
              const int h = p * stride_ + r - padding_, w = q * stride_ + s - padding_;
              if (h < 0 || h >= x_.height || w < 0 || w >= x_.width) continue;
              const int64_t at = int64_t{h} * x_.width + w;
              if (best < 0 || x[at] > x[best] || (std::isnan(x[at]) && !std::isnan(x[best]))) best = at;
            }
          }
          const int64_t out = row * y_.pixels() + int64_t{p} * y_.width + q;
          y_.value[out] = x[best];
          argmax_[out] = best;
        }
      }
    });
  }
  void backward(const Pass& pass) override { scatter(pass, y_.gradient, x_.gradient); }
  void forward_tangent(const Pass& pass) override {
    each_row(pass, [&](int64_t row) {
      for (int64_t i = row * y_.pixels(); i < (row + 1) * y_.pixels(); i++) {
        y_.tangent[i] = x_.tangent[row * x_.pixels() + argmax_[i]];
      }
    });
  }
  void backward_tangent(const Pass& pass) override {
    scatter(pass, y_.gradient_tangent, x_.gradient_tangent);
  }

 private:
  // Rows here are (c, n): one channel of one image.
  template <class Body>
  void each_row(const Pass& pass, const Body& body) {
    pass.team.parallel_range(int64_t{y_.channels} * pass.n, [&](int64_t first, int64_t last, int) {
      for (int64_t row = first; row < last; row++) body(row);
    });
  }
  void scatter(const Pass& pass, const double* dy, double* dx) {
    each_row(pass, [&](int64_t row) {
      for (int64_t i = row * y_.pixels(); i < (row + 1) * y_.pixels(); i++) {
        dx[row * x_.pixels() + argmax_[i]] += dy[i];
      }
    });
  }

  int kernel_, stride_, padding_;
  Activation &x_, &y_;
  int64_t* argmax_;  // (C, n, P, Q): the winner's index in its image
};

// y = the mean of each window. Global average pooling is the window that covers the map.
class AvgPool final : public Op {
 public:
  explicit AvgPool(const OpSource& s) : x_(*s.x[0]), y_(*s.y) {
    const bool global = s.node.op == RP_OP_GLOBAL_AVG_POOL;
    kernel_h_ = global ? x_.height : s.node.kernel_h;
    kernel_w_ = global ? x_.width : s.node.kernel_w;
    stride_ = global ? 1 : s.node.stride;
  }

  void forward(const Pass& pass) override { mean(pass, x_.value, y_.value); }
  void backward(const Pass& pass) override { spread(pass, y_.gradient, x_.gradient); }
  void forward_tangent(const Pass& pass) override { mean(pass, x_.tangent, y_.tangent); }
  void backward_tangent(const Pass& pass) override { spread(pass, y_.gradient_tangent, x_.gradient_tangent); }

 private:
  // Calls body(index in y, index in x) for every element of every window.
  template <class Body>
  void each_pair(const Pass& pass, const Body& body) {
    pass.team.parallel_range(int64_t{y_.channels} * pass.n, [&](int64_t first, int64_t last, int) {
      for (int64_t row = first; row < last; row++) {
        for (int p = 0; p < y_.height; p++) {
          for (int q = 0; q < y_.width; q++) {
            const int64_t out = row * y_.pixels() + int64_t{p} * y_.width + q;
            for (int r = 0; r < kernel_h_; r++) {
              for (int s = 0; s < kernel_w_; s++) {
                body(out, row * x_.pixels() + int64_t{p * stride_ + r} * x_.width + q * stride_ + s);
              }
            }
          }
        }
      }
    });
  }
  void mean(const Pass& pass, const double* x, double* y) {
    pass.team.parallel_range(y_.size(pass.n), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i++) y[i] = 0;
    });
    const double window = double(kernel_h_) * kernel_w_;
    each_pair(pass, [&](int64_t out, int64_t in) { y[out] += x[in]; });
    pass.team.parallel_range(y_.size(pass.n), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i++) y[i] /= window;
    });
  }
  void spread(const Pass& pass, const double* dy, double* dx) {
    const double window = double(kernel_h_) * kernel_w_;
    each_pair(pass, [&](int64_t out, int64_t in) { dx[in] += dy[out] / window; });
  }

  int kernel_h_, kernel_w_, stride_;
  Activation &x_, &y_;
};

}  // namespace

std::unique_ptr<Op> make_max_pool(const OpSource& source) { return std::make_unique<MaxPool>(source); }
std::unique_ptr<Op> make_avg_pool(const OpSource& source) { return std::make_unique<AvgPool>(source); }

}  // namespace rp::reference
