// ReLU and addition.
#include "engine/reference/op.h"

namespace rp::reference {
namespace {

// y = max(x, 0), NaN stays NaN. The derivative at 0 is 0, as PyTorch's; the second derivative is 0
// everywhere.
class Relu final : public Op {
 public:
  explicit Relu(const OpSource& s) : x_(*s.x[0]), y_(*s.y) {}

  void forward(const Pass& pass) override {
    pass.team.parallel_range(y_.size(pass.n), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i++) y_.value[i] = x_.value[i] <= 0 ? 0 : x_.value[i];
    });
  }
  void backward(const Pass& pass) override { gate_add(pass, y_.gradient, x_.gradient); }
  void forward_tangent(const Pass& pass) override {
    pass.team.parallel_range(y_.size(pass.n), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i++) y_.tangent[i] = x_.value[i] <= 0 ? 0 : x_.tangent[i];
    });
  }
  void backward_tangent(const Pass& pass) override {
    gate_add(pass, y_.gradient_tangent, x_.gradient_tangent);
  }

 private:
  // to += from where the input was positive.
  void gate_add(const Pass& pass, const double* from, double* to) {
    pass.team.parallel_range(y_.size(pass.n), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i++) to[i] += x_.value[i] <= 0 ? 0 : from[i];
    });
  }
  Activation &x_, &y_;
};

// y = a + b: linear, so the tangents are the passes themselves.
class Add final : public Op {
 public:
  explicit Add(const OpSource& s) : a_(*s.x[0]), b_(*s.x[1]), y_(*s.y) {}

  void forward(const Pass& pass) override { sum(pass, a_.value, b_.value, y_.value); }
  void backward(const Pass& pass) override { spread(pass, y_.gradient, a_.gradient, b_.gradient); }
  void forward_tangent(const Pass& pass) override { sum(pass, a_.tangent, b_.tangent, y_.tangent); }
  void backward_tangent(const Pass& pass) override {
    spread(pass, y_.gradient_tangent, a_.gradient_tangent, b_.gradient_tangent);
  }

 private:
  void sum(const Pass& pass, const double* a, const double* b, double* y) {
    pass.team.parallel_range(y_.size(pass.n), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i++) y[i] = a[i] + b[i];
    });
  }
  // Statement by statement, so that y = x + x gives dx = 2 dy.
  void spread(const Pass& pass, const double* dy, double* da, double* db) {
    pass.team.parallel_range(y_.size(pass.n), [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; i++) {
        da[i] += dy[i];
        db[i] += dy[i];
      }
    });
  }
  Activation &a_, &b_, &y_;
};

}  // namespace

std::unique_ptr<Op> make_relu(const OpSource& source) { return std::make_unique<Relu>(source); }
std::unique_ptr<Op> make_add(const OpSource& source) { return std::make_unique<Add>(source); }

}  // namespace rp::reference
