// Convolution and linear layers. A linear layer is the convolution whose kernel covers its whole input, with
// a bias.
//
//   forward  y[k,n,p,q]  = b[k] + Σ_{c,r,s} w[k,c,r,s] · x[c,n,p·st+r-pad,q·st+s-pad]
//   dgrad    dx[c,n,h,w] += Σ w[k,c,r,s] · dy[k,n,p,q]   over p·st+r-pad = h, q·st+s-pad = w
//   wgrad    dw[k,c,r,s] = Σ_{n,p,q} dy[k,n,p,q] · x[…]
//
// Each is bilinear, so its tangent is two more calls of the same function:
//   ẏ = forward(w, ẋ) + forward(v, x),  and likewise for dx and dw.
//
// All three are matrix products with the unfolded input, U[(c,r,s), j] = x[c,n,p·st+r-pad,q·st+s-pad] with
// j = (n,p,q), of which a tile of columns is held at a time. Every output element is summed by one thread in
// one order, so results do not depend on the number of threads.
#include <algorithm>

#include "engine/reference/op.h"

namespace rp::reference {
namespace {

constexpr int64_t kTileElements = 1 << 16;  // of U: half a megabyte, to stay in a second-level cache
constexpr int64_t kMinTileColumns = 32;

// Contiguous inner loops, written so that a compiler may vectorise them without reordering a sum.
// y += Σ_t a[t·a_stride] · x[t, :], t ascending: a row of a matrix product. Four terms at a time, since each
// pass over y costs a load and a store.
void add_products(const double* a, int64_t a_stride, const double* x, int64_t x_stride, int64_t terms,
                  double* y, int64_t count) {
  int64_t t = 0;
  for (; t + 4 <= terms; t += 4) {
    const double a0 = a[t * a_stride], a1 = a[(t + 1) * a_stride];
    const double a2 = a[(t + 2) * a_stride], a3 = a[(t + 3) * a_stride];
    if (a0 == 0 && a1 == 0 && a2 == 0 && a3 == 0) continue;  // pruned
    const double *x0 = x + t * x_stride, *x1 = x0 + x_stride, *x2 = x1 + x_stride, *x3 = x2 + x_stride;
    for (int64_t i = 0; i < count; i++) y[i] = (((y[i] + a0 * x0[i]) + a1 * x1[i]) + a2 * x2[i]) + a3 * x3[i];
  }
  for (; t < terms; t++) {
    for (int64_t i = 0; i < count; i++) y[i] += a[t * a_stride] * x[t * x_stride + i];
  }
}

double dot(const double* a, const double* b, int64_t count) {
  double sums[8] = {};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int lane = 0; lane < 8; lane++) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < count; i++) sums[0] += a[i] * b[i];
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

class Conv2d final : public Op {
 public:
  explicit Conv2d(const OpSource& s)
      : x_(*s.x[0]), y_(*s.y), weight_(*s.params[0]), bias_(s.params[1]), x_is_images_(s.x_is_images) {
    const bool linear = s.node.op == RP_OP_LINEAR;
    kernel_h_ = linear ? x_.height : s.node.kernel_h;
    kernel_w_ = linear ? x_.width : s.node.kernel_w;
    stride_ = linear ? 1 : s.node.stride;
    padding_ = linear ? 0 : s.node.padding;
    taps_ = kernel_h_ * kernel_w_;
    rows_ = int64_t{x_.channels} * taps_;
    tile_ = std::max(kMinTileColumns, kTileElements / rows_);
    unfolded_ = s.activations.take<double>(rows_ * std::min(tile_, y_.row(s.max_batch)));
  }

  void forward(const Pass& pass) override { forward(pass, weight_.value, x_.value, y_.value, Bias::kValue); }

  void backward(const Pass& pass) override {
    if (pass.parameter_gradients) {
      wgrad(pass, x_.value, y_.gradient, weight_.gradient);
      if (bias_) bias_grad(pass, y_.gradient, bias_->gradient);
    }
    if (wants_dx(pass)) dgrad(pass, weight_.value, y_.gradient, x_.gradient);
  }

  void forward_tangent(const Pass& pass) override {
    forward(pass, weight_.direction, x_.value, y_.tangent, Bias::kDirection);
    forward(pass, weight_.value, x_.tangent, y_.tangent, Bias::kAccumulate);
  }

  void backward_tangent(const Pass& pass) override {
    wgrad(pass, x_.value, y_.gradient_tangent, weight_.gradient_tangent);
    wgrad(pass, x_.tangent, y_.gradient, weight_.gradient_tangent);
    if (bias_) bias_grad(pass, y_.gradient_tangent, bias_->gradient_tangent);
    if (wants_dx(pass)) {
      dgrad(pass, weight_.value, y_.gradient_tangent, x_.gradient_tangent);
      dgrad(pass, weight_.direction, y_.gradient, x_.gradient_tangent);
    }
  }

 private:
  enum class Bias { kValue, kDirection, kAccumulate };  // what y starts from; kAccumulate: from itself

  bool wants_dx(const Pass& pass) const { return !x_is_images_ || pass.input_gradient; }

  // ---- the matrix U

  // Calls run(offset in an x row, offset in a U row, count) for each run of columns [begin, end) of U row
  // (., r, s) that meets one image row inside x; elements between runs are padding.
  template <class Run>
  void each_run(int r, int s, int64_t begin, int64_t end, const Run& run) const {
    const int64_t width = y_.width;
    for (int64_t first = begin; first < end;) {
      const int64_t line = first / width;  // (n, p)
      const int64_t last = std::min(end, (line + 1) * width);
      const int64_t n = line / y_.height, h = line % y_.height * stride_ + r - padding_;
      if (h >= 0 && h < x_.height) {
        // q with 0 <= q·st + s - pad < W
        const int64_t low = padding_ > s ? (padding_ - s + stride_ - 1) / stride_ : 0;
        const int64_t high =
            x_.width - 1 + padding_ - s < 0 ? 0 : (x_.width - 1 + padding_ - s) / stride_ + 1;
        const int64_t q0 = std::max(first - line * width, low), q1 = std::min(last - line * width, high);
        if (q0 < q1) {
          run((n * x_.height + h) * x_.width + q0 * stride_ + s - padding_, line * width + q0 - begin,
              q1 - q0);
        }
      }
      first = last;
    }
  }

  // U[:, begin..end) of x, by rows of end - begin.
  void unfold(const Pass& pass, const double* x, int64_t begin, int64_t end) {
    const int64_t columns = end - begin, x_row = x_.row(pass.n);
    pass.team.parallel_range(rows_, [&](int64_t first, int64_t last, int) {
      for (int64_t row = first; row < last; row++) {
        const double* from = x + row / taps_ * x_row;
        double* to = unfolded_ + row * columns;
        std::fill(to, to + columns, 0.0);
        each_run(tap_row(row), tap_column(row), begin, end, [&](int64_t in, int64_t out, int64_t count) {
          for (int64_t i = 0; i < count; i++) to[out + i] = from[in + i * stride_];
        });
      }
    });
  }
  int tap_row(int64_t row) const { return static_cast<int>(row % taps_) / kernel_w_; }
  int tap_column(int64_t row) const { return static_cast<int>(row % taps_) % kernel_w_; }

  template <class Tile>
  void each_tile(const Pass& pass, const Tile& tile) const {
    const int64_t columns = y_.row(pass.n);
    for (int64_t begin = 0; begin < columns; begin += tile_) tile(begin, std::min(columns, begin + tile_));
  }

  // ---- the three products

  void forward(const Pass& pass, const double* w, const double* x, double* y, Bias bias) {
    each_tile(pass, [&](int64_t begin, int64_t end) {
      unfold(pass, x, begin, end);
      const int64_t columns = end - begin;
      pass.team.parallel_range(y_.channels, [&](int64_t first, int64_t last, int) {
        for (int64_t k = first; k < last; k++) {
          double* out = y + k * y_.row(pass.n) + begin;
          if (bias != Bias::kAccumulate) std::fill(out, out + columns, start(bias, k));
          add_products(w + k * rows_, 1, unfolded_, columns, rows_, out, columns);
        }
      });
    });
  }
  double start(Bias bias, int64_t k) const {
    if (!bias_) return 0;
    return bias == Bias::kValue ? bias_->value[k] : bias_->direction[k];
  }

  // dU = wᵀ dy, folded back; channel c of dx needs the rows (c, ., .) alone.
  void dgrad(const Pass& pass, const double* w, const double* dy, double* dx) {
    each_tile(pass, [&](int64_t begin, int64_t end) {
      const int64_t columns = end - begin;
      pass.team.parallel_range(x_.channels, [&](int64_t first, int64_t last, int) {
        for (int64_t row = first * taps_; row < last * taps_; row++) {
          double* du = unfolded_ + row * columns;
          std::fill(du, du + columns, 0.0);
          add_products(w + row, rows_, dy + begin, y_.row(pass.n), y_.channels, du, columns);
          double* to = dx + row / taps_ * x_.row(pass.n);
          each_run(tap_row(row), tap_column(row), begin, end, [&](int64_t in, int64_t out, int64_t count) {
            for (int64_t i = 0; i < count; i++) to[in + i * stride_] += du[out + i];
          });
        }
      });
    });
  }

  // The whole dense gradient, of which the packed one takes the kept positions.
  void wgrad(const Pass& pass, const double* x, const double* dy, double* packed) {
    double* dw = pass.scratch;
    std::fill(dw, dw + weight_.numel, 0.0);
    each_tile(pass, [&](int64_t begin, int64_t end) {
      unfold(pass, x, begin, end);
      const int64_t columns = end - begin;
      pass.team.parallel_range(y_.channels, [&](int64_t first, int64_t last, int) {
        for (int64_t k = first; k < last; k++) {
          const double* g = dy + k * y_.row(pass.n) + begin;
          for (int64_t row = 0; row < rows_; row++) {
            dw[k * rows_ + row] += dot(g, unfolded_ + row * columns, columns);
          }
        }
      });
    });
    weight_.add_kept(dw, packed);
  }

  void bias_grad(const Pass& pass, const double* dy, double* packed) {
    const int64_t columns = y_.row(pass.n);
    for (int64_t k = 0; k < y_.channels; k++) {
      double sum = 0;
      for (int64_t j = 0; j < columns; j++) sum += dy[k * columns + j];
      pass.scratch[k] = sum;
    }
    bias_->add_kept(pass.scratch, packed);
  }

  Activation &x_, &y_;
  Parameter& weight_;
  Parameter* bias_;
  bool x_is_images_;
  int kernel_h_, kernel_w_, stride_, padding_, taps_;
  int64_t rows_, tile_;  // rows of U: C·R·S; columns held at a time
  double* unfolded_;
};

}  // namespace

std::unique_ptr<Op> make_conv2d(const OpSource& source) { return std::make_unique<Conv2d>(source); }

}  // namespace rp::reference
