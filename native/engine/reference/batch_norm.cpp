// Batch norm over the m = n*H*W values of each channel (Ioffe & Szegedy 2015; PyTorch's conventions).
//
//   μ = mean(x), σ² = mean((x-μ)²) (biased), ρ = 1/√(σ²+ε), x̂ = (x-μ)·ρ, y = γ·x̂ + β
//   running mean moves to μ, running variance to the unbiased σ²·m/(m-1), each by `momentum`
//
// In evaluation μ and σ² are the running ones and constants.
//
//   dβ = Σ dy,  dγ = Σ dy·x̂
//   dx = γ·ρ·(dy - dβ/m - x̂·dγ/m)        (evaluation: dx = γ·ρ·dy)
//
// Tangents, by differentiating each line once more:
//   μ̇ = mean(ẋ),  (σ²)˙ = 2·mean((x-μ)·ẋ),  ρ̇ = -ρ³/2·(σ²)˙
//   x̂˙ = (ẋ-μ̇)·ρ + (x-μ)·ρ̇,  ẏ = γ̇·x̂ + γ·x̂˙ + β̇
//   dβ˙ = Σ dy˙,  dγ˙ = Σ dy˙·x̂ + dy·x̂˙
//   dx˙ = (γ̇·ρ + γ·ρ̇)·(dy - dβ/m - x̂·dγ/m) + γ·ρ·(dy˙ - dβ˙/m - x̂˙·dγ/m - x̂·dγ˙/m)
#include <cmath>

#include "core/error.h"
#include "engine/reference/op.h"

namespace rp::reference {
namespace {

class BatchNorm final : public Op {
 public:
  explicit BatchNorm(const OpSource& s)
      : name_(s.node.name),
        epsilon_(s.node.epsilon),
        momentum_(s.node.momentum),
        x_(*s.x[0]),
        y_(*s.y),
        gamma_(*s.params[0]),
        beta_(*s.params[1]),
        running_mean_(s.running[0]),
        running_var_(s.running[1]) {
    mean_ = s.activations.take<double>(y_.channels);
    rho_ = s.activations.take<double>(y_.channels);
    if (s.needs.tangent) {
      mean_tangent_ = s.activations.take<double>(y_.channels);
      rho_tangent_ = s.activations.take<double>(y_.channels);
    }
  }

  void forward(const Pass& pass) override {
    const int64_t m = y_.row(pass.n);
    if (pass.batch_statistics && m < 2) {
      fail(
          "[batch_norm] %s: expected more than one value per channel in training, got one image of 1x1. "
          "Use a larger batch or larger images.",
          name_.c_str());
    }
    each_channel(pass, [&](int64_t c) {
      const double* x = x_.value + c * m;
      double* y = y_.value + c * m;
      double variance = running_var_[c];
      mean_[c] = running_mean_[c];
      if (pass.batch_statistics) {
        double sum = 0, squares = 0;
        for (int64_t i = 0; i < m; i++) sum += x[i];
        mean_[c] = sum / m;
        for (int64_t i = 0; i < m; i++) squares += (x[i] - mean_[c]) * (x[i] - mean_[c]);
        variance = squares / m;
        if (pass.update_running_stats) {
          running_mean_[c] = (1 - momentum_) * running_mean_[c] + momentum_ * mean_[c];
          running_var_[c] = (1 - momentum_) * running_var_[c] + momentum_ * (squares / (m - 1));
        }
      }
      rho_[c] = 1 / std::sqrt(variance + epsilon_);
      for (int64_t i = 0; i < m; i++) y[i] = gamma_.value[c] * ((x[i] - mean_[c]) * rho_[c]) + beta_.value[c];
    });
  }

  void backward(const Pass& pass) override {
    const int64_t m = y_.row(pass.n);
    double *dgamma = pass.scratch, *dbeta = pass.scratch + y_.channels;
    each_channel(pass, [&](int64_t c) {
      const double *x = x_.value + c * m, *dy = y_.gradient + c * m;
      double* dx = x_.gradient + c * m;
      dgamma[c] = dbeta[c] = 0;
      for (int64_t i = 0; i < m; i++) {
        dbeta[c] += dy[i];
        dgamma[c] += dy[i] * normalised(c, x[i]);
      }
      const double scale = gamma_.value[c] * rho_[c];
      for (int64_t i = 0; i < m; i++) {
        dx[i] += pass.batch_statistics
                     ? scale * (dy[i] - dbeta[c] / m - normalised(c, x[i]) * (dgamma[c] / m))
                     : scale * dy[i];
      }
    });
    if (!pass.parameter_gradients) return;
    gamma_.add_kept(dgamma, gamma_.gradient);
    beta_.add_kept(dbeta, beta_.gradient);
  }

  void forward_tangent(const Pass& pass) override {
    const int64_t m = y_.row(pass.n);
    each_channel(pass, [&](int64_t c) {
      const double *x = x_.value + c * m, *xt = x_.tangent + c * m;
      double* yt = y_.tangent + c * m;
      double sum = 0, product = 0;
      for (int64_t i = 0; i < m; i++) {
        sum += xt[i];
        product += (x[i] - mean_[c]) * xt[i];
      }
      mean_tangent_[c] = sum / m;
      rho_tangent_[c] = -0.5 * rho_[c] * rho_[c] * rho_[c] * (2 * product / m);
      for (int64_t i = 0; i < m; i++) {
        yt[i] = gamma_.direction[c] * normalised(c, x[i]) +
                gamma_.value[c] * normalised_tangent(c, x[i], xt[i]) + beta_.direction[c];
      }
    });
  }

  void backward_tangent(const Pass& pass) override {
    const int64_t m = y_.row(pass.n);
    double *dgammat = pass.scratch, *dbetat = pass.scratch + y_.channels;
    each_channel(pass, [&](int64_t c) {
      const double *x = x_.value + c * m, *xt = x_.tangent + c * m;
      const double *dy = y_.gradient + c * m, *dyt = y_.gradient_tangent + c * m;
      double* dxt = x_.gradient_tangent + c * m;
      double dgamma = 0, dbeta = 0;
      dgammat[c] = dbetat[c] = 0;
      for (int64_t i = 0; i < m; i++) {
        const double xh = normalised(c, x[i]), xht = normalised_tangent(c, x[i], xt[i]);
        dbeta += dy[i];
        dgamma += dy[i] * xh;
        dbetat[c] += dyt[i];
        dgammat[c] += dyt[i] * xh + dy[i] * xht;
      }
      const double scale = gamma_.value[c] * rho_[c];
      const double scalet = gamma_.direction[c] * rho_[c] + gamma_.value[c] * rho_tangent_[c];
      for (int64_t i = 0; i < m; i++) {
        const double xh = normalised(c, x[i]), xht = normalised_tangent(c, x[i], xt[i]);
        dxt[i] += scalet * (dy[i] - dbeta / m - xh * (dgamma / m)) +
                  scale * (dyt[i] - dbetat[c] / m - xht * (dgamma / m) - xh * (dgammat[c] / m));
      }
    });
    gamma_.add_kept(dgammat, gamma_.gradient_tangent);
    beta_.add_kept(dbetat, beta_.gradient_tangent);
  }

 private:
  template <class Body>
  void each_channel(const Pass& pass, const Body& body) {
    pass.team.parallel_range(y_.channels, [&](int64_t first, int64_t last, int) {
      for (int64_t c = first; c < last; c++) body(c);
    });
  }
  double normalised(int64_t c, double x) const { return (x - mean_[c]) * rho_[c]; }
  double normalised_tangent(int64_t c, double x, double xt) const {
    return (xt - mean_tangent_[c]) * rho_[c] + (x - mean_[c]) * rho_tangent_[c];
  }

  std::string name_;
  double epsilon_, momentum_;
  Activation &x_, &y_;
  Parameter &gamma_, &beta_;
  double *running_mean_, *running_var_;                      // (C)
  double *mean_, *rho_;                                      // (C), of the last forward
  double *mean_tangent_ = nullptr, *rho_tangent_ = nullptr;  // (C), of the last forward_tangent
};

}  // namespace

std::unique_ptr<Op> make_batch_norm(const OpSource& source) { return std::make_unique<BatchNorm>(source); }

}  // namespace rp::reference
