// Tangent: the exact derivative of forward and backward along a direction of the parameters (forward over
// reverse), which gives the Hessian-vector product that GraSP scores with (SPEC 2.6). A prime marks it.
//
//   convolution  y' = x'*w + x*w';  dx' = dgrad(dy', w) + dgrad(dy, w');  dw' = wgrad(x, dy') + wgrad(x', dy)
//   batch norm   with c = x - mean, s = 1 / std:
//     mean' = E[x'], s' = -s³·E[c·x'], c' = x' - mean', z' = γ·s·c' + (γ·s' + γ'·s)·c + β'
//     dx  = γ·s·(g - E[g] - c·s²·E[g·c])
//     dx' = (γ'·s + γ·s')·(g - E[g] - c·s²·E[g·c])
//           + γ·s·(g' - E[g'] - c'·s²·E[g·c] - c·(2·s·s'·E[g·c] + s²·E[g'·c + g·c']))
//     dγ' = s'·Σ g·c + s·Σ (g'·c + g·c');  dβ' = Σ g'
//   ReLU, max pool: the primal's choice; add, average, flatten: themselves.
//
// One product a network, not one a step: plain loops in double over the tensors, the convolutions' own
// kernels.
#include <algorithm>

#include "engine/cpu/session.h"
#include "ops/activation/activation.h"

namespace rp {
namespace cpu {
namespace {

int images_of(int n, int64_t block) {
  return static_cast<int>(std::min<int64_t>(kImagesPerBlock, n - block * kImagesPerBlock));
}

// body(b, position, images) over the positions of a channel, image block by image block.
template <class Body>
void each_position(const Layout& l, int n, const Body& body) {
  for (int64_t b = 0; b < image_blocks(n); b++) {
    for (int64_t position = 0; position < l.positions(); position++) body(b, position, images_of(n, b));
  }
}

}  // namespace

// ---- forward

void Session::tangent_forward_step(const Step& step, int index) {
  switch (step.kind) {
    case StepKind::conv:
      return tangent_conv_forward(step);
    case StepKind::combine:
      return tangent_combine_forward(step);
    case StepKind::flatten:
      return flatten(value_tangent(step.input()), plan_.values[step.input()], value_tangent(step.output),
                     plan_.values[step.output], 0, blocks_);
    default:
      return tangent_pool_forward(step, index);
  }
}

void Session::tangent_conv_forward(const Step& step) {
  const ConvSpec& spec = plan_.graph.convs[step.conv];
  const Conv& conv = convs_[step.conv];
  const Layout& layout = plan_.values[step.output];
  float* y = value_tangent(step.output);
  conv.layer->forward(value(step.input()), *conv.direction, y, blocks(layout), false, team_);
  if (program_->needs_gradient[step.input()])
    conv.layer->forward(value_tangent(step.input()), *conv.weights, y, blocks(layout), true, team_);
  if (spec.bias >= 0) {
    add_bias(spec, layout, y, parameters_.direction(spec.bias));
  } else {
    zero_border(layout, y, 0, blocks_);
  }
}

void Session::tangent_statistics(const Term& term) {
  const BatchNormSpec& spec = plan_.graph.batch_norms[term.batch_norm];
  const BatchNormState& state = batch_norms_[term.batch_norm];
  BatchNormTangent& tangent = batch_norm_tangents_[term.batch_norm];
  const Layout& l = plan_.values[term.value];
  const double count = static_cast<double>(n_) * l.positions();
  const float* x = value(term.value);
  const float* dx = program_->needs_gradient[term.value] ? value_tangent(term.value) : nullptr;
  team_.parallel_range(spec.channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t c = begin; c < end; c++) {
      double sum = 0, product = 0;
      if (dx) {
        each_position(l, n_, [&](int64_t b, int64_t position, int images) {
          const int64_t at = l.at_position(b, c, position);
          for (int i = 0; i < images; i++) {
            sum += dx[at + i];
            product += (x[at + i] - state.mean[c]) * dx[at + i];
          }
        });
      }
      const double s = state.inverse_std[c];
      const auto of = [&](int parameter, float* packed) {
        return Parameters::element(parameters_[parameter], packed, c);
      };
      const double gamma = of(spec.gamma, parameters_.values(spec.gamma));
      tangent.mean[c] = sum / count;
      tangent.inverse_std[c] = -s * s * s * product / count;
      tangent.dx_factor[c] = gamma * s;
      tangent.x_factor[c] =
          gamma * tangent.inverse_std[c] + of(spec.gamma, parameters_.direction(spec.gamma)) * s;
      tangent.shift[c] = of(spec.beta, parameters_.direction(spec.beta));
    }
  });
}

void Session::tangent_combine_forward(const Step& step) {
  struct Operand {
    const float* x;
    const float* dx;  // null: constant
    Layout layout;
    const BatchNormState* state;  // null: a plain term
    const BatchNormTangent* tangent;
  };
  Operand operands[2] = {};
  for (int t = 0; t < step.term_count; t++) {
    const Term& term = step.terms[t];
    if (term.batch_norm >= 0) tangent_statistics(term);
    operands[t].x = value(term.value);
    operands[t].dx = program_->needs_gradient[term.value] ? value_tangent(term.value) : nullptr;
    operands[t].layout = plan_.values[term.value];
    operands[t].state = term.batch_norm < 0 ? nullptr : &batch_norms_[term.batch_norm];
    operands[t].tangent = term.batch_norm < 0 ? nullptr : &batch_norm_tangents_[term.batch_norm];
  }
  const Layout& l = plan_.values[step.output];
  const float* z = value(step.output);
  float* dz = value_tangent(step.output);
  team_.parallel_range(l.channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t c = begin; c < end; c++) {
      each_position(l, n_, [&](int64_t b, int64_t position, int images) {
        const int64_t at = l.at_position(b, c, position);
        for (int i = 0; i < kImagesPerBlock; i++) {
          double sum = 0;
          for (int t = 0; t < step.term_count && i < images; t++) {
            const Operand& o = operands[t];
            const int64_t from = o.layout.at_position(b, c, position) + i;
            const double dx = o.dx ? o.dx[from] : 0;
            sum += !o.state ? dx
                            : o.tangent->x_factor[c] * (o.x[from] - o.state->mean[c]) +
                                  o.tangent->dx_factor[c] * (dx - o.tangent->mean[c]) + o.tangent->shift[c];
          }
          dz[at + i] = step.relu && !(z[at + i] > 0) ? 0.0f : static_cast<float>(sum);
        }
      });
    }
  });
  zero_border(l, dz, 0, blocks_);
}

void Session::tangent_pool_forward(const Step& step, int index) {
  const Layout& x = plan_.values[step.input()];
  const Layout& y = plan_.values[step.output];
  const float* dx = value_tangent(step.input());
  float* dy = value_tangent(step.output);
  if (step.kind == StepKind::avg_pool) {
    PoolArgs args;
    args.window = step.window;
    args.in = dx;
    args.in_layout = x;
    args.out = dy;
    args.out_layout = y;
    args.n = n_;
    pool_.avg_forward(args, 0, rows(y));
    return;
  }
  const uint8_t* choice = reinterpret_cast<const uint8_t*>(arena_.data() + program_->choices[index]);
  const PoolWindow& window = step.window;
  for (int64_t c = 0; c < y.channels; c++) {
    each_position(y, n_, [&](int64_t b, int64_t position, int images) {
      const int64_t p = position / y.width, q = position % y.width;
      const uint8_t* chosen =
          choice + (((b * y.height + p) * y.channels + c) * y.width + q) * kImagesPerBlock;
      for (int i = 0; i < kImagesPerBlock; i++) {
        const int64_t h = p * window.stride - window.padding + chosen[i] / window.width;
        const int64_t w = q * window.stride - window.padding + chosen[i] % window.width;
        dy[y.at(b, c, p, q) + i] = i < images ? dx[x.at(b, c, h, w) + i] : 0.0f;
      }
    });
  }
  zero_border(y, dy, 0, blocks_);
}

// ---- backward

// The tangent's part of each step comes before the primal's, which may overwrite g.
void Session::tangent_backward_step(const Step& step, int index, bool accumulate) {
  const BackwardStep& backward = program_->backward_steps[index];
  if (step.kind == StepKind::conv) return tangent_conv_backward(step, backward, accumulate);
  if (step.kind == StepKind::combine) return tangent_combine_backward(step, backward, accumulate);
  if (backward.write[0] == GradientWrite::none) return;
  pool_backward(step, backward, index, gradient_tangent_of(step.output), gradient_tangent_of(step.input()));
  pool_backward(step, backward, index, gradient_of(step.output), gradient_of(step.input()));
}

void Session::tangent_conv_backward(const Step& step, const BackwardStep& backward, bool accumulate) {
  const ConvSpec& spec = plan_.graph.convs[step.conv];
  const Conv& conv = convs_[step.conv];
  const float* dy = gradient_of(step.output);
  float* dy_tangent = gradient_tangent_of(step.output);
  conv_backward(step, backward, accumulate);
  if (backward.zero_border) zero_border(plan_.gradients[step.output], dy_tangent, 0, blocks_);
  float* dw = parameters_.gradient_tangent(spec.weight);
  const int blocks = this->blocks(plan_.gradients[step.output]);
  conv.layer->wgrad(value(step.input()), dy_tangent, dw, blocks, accumulate, team_);
  if (program_->needs_gradient[step.input()])
    conv.layer->wgrad(value_tangent(step.input()), dy, dw, blocks, true, team_);
  if (spec.bias >= 0)
    bias_gradient(spec, step.output, dy_tangent, parameters_.gradient_tangent(spec.bias), accumulate);
  if (backward.write[0] == GradientWrite::none) return;
  float* dx = gradient_tangent_of(step.input());
  conv.layer->dgrad(dy_tangent, *conv.weights, dx, blocks, backward.write_dx, team_);
  conv.layer->dgrad(dy, *conv.direction, dx, blocks, kAddToAll, team_);
}

void Session::tangent_combine_backward(const Step& step, const BackwardStep& backward, bool accumulate) {
  combine_sums(step, backward, accumulate);
  const Layout& l = plan_.gradients[step.output];
  float* g = gradient_tangent_of(step.output);
  if (step.relu) {
    const Layout& zl = plan_.values[step.output];
    const float* z = value(step.output);
    team_.parallel_range(l.channels, [&](int64_t begin, int64_t end, int) {
      for (int64_t c = begin; c < end; c++) {
        each_position(l, n_, [&](int64_t b, int64_t position, int) {
          const int64_t at = l.at_position(b, c, position), from = zl.at_position(b, c, position);
          for (int i = 0; i < kImagesPerBlock; i++) {
            if (!(z[from + i] > 0)) g[at + i] = 0;
          }
        });
      }
    });
  }
  for (int t = 0; t < step.term_count; t++) {
    const GradientWrite write = backward.write[t];
    if (step.terms[t].batch_norm >= 0 || write == GradientWrite::none || write == GradientWrite::alias)
      continue;
    const int input = step.terms[t].value;
    copy_gradient(g, l, gradient_tangent_of(input), plan_.gradients[input], write == GradientWrite::add);
  }
  for (int t = 0; t < step.term_count; t++) {
    if (step.terms[t].batch_norm >= 0) tangent_batch_norm(step, t, backward.write[t], accumulate);
  }
  combine_writes(step, backward);
}

void Session::tangent_batch_norm(const Step& step, int t, GradientWrite write, bool accumulate) {
  const Term& term = step.terms[t];
  const BatchNormSpec& spec = plan_.graph.batch_norms[term.batch_norm];
  const BatchNormState& state = batch_norms_[term.batch_norm];
  const BatchNormTangent& tangent = batch_norm_tangents_[term.batch_norm];
  const Layout& xl = plan_.values[term.value];
  const Layout& gl = plan_.gradients[step.output];
  const Layout& dl = plan_.gradients[term.value];
  const double count = static_cast<double>(n_) * xl.positions();
  const float* x = value(term.value);
  const float* x_tangent = program_->needs_gradient[term.value] ? value_tangent(term.value) : nullptr;
  const float* g = gradient_of(step.output);
  const float* g_tangent = gradient_tangent_of(step.output);
  float* out = write == GradientWrite::none ? nullptr : gradient_tangent_of(term.value);
  const bool add = write == GradientWrite::add;
  team_.parallel_range(spec.channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t c = begin; c < end; c++) {
      const auto centred = [&](int64_t at) { return x[at] - state.mean[c]; };
      const auto centred_tangent = [&](int64_t at) {
        return (x_tangent ? x_tangent[at] : 0) - tangent.mean[c];
      };
      double sum = 0, product = 0;  // Σ g', Σ (g'·c + g·c')
      each_position(xl, n_, [&](int64_t b, int64_t position, int images) {
        const int64_t xa = xl.at_position(b, c, position), ga = gl.at_position(b, c, position);
        for (int i = 0; i < images; i++) {
          sum += g_tangent[ga + i];
          product += g_tangent[ga + i] * centred(xa + i) + g[ga + i] * centred_tangent(xa + i);
        }
      });
      const double s = state.inverse_std[c], ds = tangent.inverse_std[c];
      const double gc = state.gc_mean[c];
      Parameters::put(parameters_[spec.gamma], parameters_.gradient_tangent(spec.gamma), c,
                      ds * gc * count + s * product, accumulate);
      Parameters::put(parameters_[spec.beta], parameters_.gradient_tangent(spec.beta), c, sum, accumulate);
      if (!out) continue;
      // Factors of the two brackets of dx'.
      const double outer = tangent.x_factor[c], inner = tangent.dx_factor[c];
      const double g_tangent_mean = sum / count, slope = 2 * s * ds * gc + s * s * product / count;
      each_position(xl, n_, [&](int64_t b, int64_t position, int images) {
        const int64_t xa = xl.at_position(b, c, position), ga = gl.at_position(b, c, position),
                      at = dl.at_position(b, c, position);
        for (int i = 0; i < kImagesPerBlock; i++) {
          double d = 0;
          if (i < images) {
            const double cx = centred(xa + i);
            d = outer * (g[ga + i] - state.g_mean[c] - cx * s * s * gc) +
                inner *
                    (g_tangent[ga + i] - g_tangent_mean - centred_tangent(xa + i) * s * s * gc - cx * slope);
          }
          out[at + i] = static_cast<float>(add ? out[at + i] + d : d);
        }
      });
    }
  });
  if (out) zero_border(dl, out, 0, blocks_);
}

}  // namespace cpu
}  // namespace rp
