// Backward: the steps in reverse, into the packed gradient buffer.
#include <algorithm>

#include "engine/cpu/session.h"
#include "ops/activation/activation.h"

namespace rp {
namespace cpu {

void Session::clear_unreached_gradients(float* (Parameters::*array)(int) const) {
  for (size_t i = 0; i < reached_.size(); i++) {
    const int index = static_cast<int>(i);
    if (!reached_[i]) std::fill_n((parameters_.*array)(index), parameters_[index].nnz, 0.0f);
  }
}

void Session::backward(bool accumulate) {
  const bool tangent = program_->program == RP_PROGRAM_TANGENT;
  for (int i = static_cast<int>(plan_.graph.steps.size()) - 1; i >= 0; i--) {
    const Step& step = plan_.graph.steps[i];
    const BackwardStep& backward = program_->backward_steps[i];
    if (!backward.reached) continue;
    if (tangent) {
      tangent_backward_step(step, i, accumulate);
      continue;
    }
    switch (step.kind) {
      case StepKind::conv:
        conv_backward(step, backward, accumulate);
        break;
      case StepKind::combine:
        combine_backward(step, backward, accumulate);
        break;
      default:
        if (backward.write[0] != GradientWrite::none)
          pool_backward(step, backward, i, gradient_of(step.output), gradient_of(step.input()));
    }
  }
}

// ---- convolution

void Session::conv_backward(const Step& step, const BackwardStep& backward, bool accumulate) {
  const ConvSpec& spec = plan_.graph.convs[step.conv];
  const Conv& conv = convs_[step.conv];
  float* dy = gradient_of(step.output);
  if (backward.zero_border) {
    OpTimer timer(profile_, OpKind::border_backward, spec.name);
    team_.parallel_range(blocks_, [&](int64_t begin, int64_t end, int) {
      zero_border(plan_.gradients[step.output], dy, begin, end);
    });
  }
  if (program_->weight_gradients()) {
    OpTimer timer(profile_, OpKind::conv_wgrad, spec.name);
    conv.layer->wgrad(value(step.input()), dy, parameters_.gradient(spec.weight), blocks_, accumulate, team_);
  }
  if (program_->weight_gradients() && spec.bias >= 0) {
    OpTimer timer(profile_, OpKind::bias_wgrad, spec.name);
    bias_gradient(spec, step.output, dy, parameters_.gradient(spec.bias), accumulate);
  }
  if (backward.write[0] == GradientWrite::none) return;
  OpTimer timer(profile_, OpKind::conv_dgrad, spec.name);
  conv.layer->dgrad(dy, *conv.weights, gradient_of(step.input()), blocks_,
                    backward.write[0] == GradientWrite::add, team_);
}

void Session::bias_gradient(const ConvSpec& spec, int output, const float* dy, float* out, bool accumulate) {
  const Layout& layout = plan_.gradients[output];
  for (int c = 0; c < layout.channels; c++) {
    double sum = 0;
    for (int i = 0; i < n_; i++) sum += dy[layout.at(i / kImagesPerBlock, c, 0, 0) + i % kImagesPerBlock];
    Parameters::put(parameters_[spec.bias], out, c, sum, accumulate);
  }
}

// ---- batch norm, ReLU, add

ReluMask Session::relu_mask(const Step& step) const {
  if (!step.relu) return ReluMask::none;
  const bool from_term = step.term_count == 1 && step.terms[0].batch_norm >= 0;
  // A tangent needs g itself.
  return from_term && program_->program != RP_PROGRAM_TANGENT ? ReluMask::term : ReluMask::output;
}

void Session::combine_backward(const Step& step, const BackwardStep& backward, bool accumulate) {
  combine_sums(step, accumulate);
  combine_writes(step, backward);
}

// First pass: g in place of dz (ReluMask), the gradients of gamma and beta, and what the second pass
// multiplies by.
void Session::combine_sums(const Step& step, bool accumulate) {
  OpTimer timer(profile_, OpKind::combine_sums, step.name);
  const bool sums = program_->batch_statistics();
  CombineBackwardArgs args;
  args.mask = relu_mask(step);
  int terms[2];
  for (int t = 0; t < step.term_count; t++) {
    if (step.terms[t].batch_norm < 0 || (!sums && args.mask != ReluMask::term)) continue;
    terms[args.term_count] = t;
    args.terms[args.term_count++] = term_of(step.terms[t]);
  }
  const bool wanted = sums && args.term_count > 0;
  if (wanted || args.mask == ReluMask::output) {
    args.z = value(step.output);
    args.z_layout = plan_.values[step.output];
    args.dz = gradient_of(step.output);
    args.dz_layout = plan_.gradients[step.output];
    args.n = n_;
    args.rows_per_chunk = chunk_rows(args.dz_layout);
    args.sums = wanted ? sums_.data() : nullptr;
    team_.parallel_range(blocks_ * chunks_per_block(args.dz_layout),
                         [&](int64_t begin, int64_t end, int) { combine_.backward(args, begin, end); });
  }
  if (sums) {
    for (int slot = 0; slot < args.term_count; slot++)
      batch_norm_gradients(step, terms[slot], slot, args.term_count, accumulate);
    return;
  }
  // Running statistics are constants: dx = gamma / std · g.
  for (int t = 0; t < step.term_count; t++) {
    if (step.terms[t].batch_norm < 0) continue;
    BatchNormState& state = batch_norms_[step.terms[t].batch_norm];
    state.k1 = state.scale;
    std::fill(state.k2.begin(), state.k2.end(), 0.0f);
    std::fill(state.k3.begin(), state.k3.end(), 0.0f);
  }
}

void Session::batch_norm_gradients(const Step& step, int term, int slot, int slots, bool accumulate) {
  const int index = step.terms[term].batch_norm;
  const BatchNormSpec& spec = plan_.graph.batch_norms[index];
  BatchNormState& state = batch_norms_[index];
  const Layout& layout = plan_.gradients[step.output];
  const int64_t chunks = blocks_ * chunks_per_block(layout), channels = spec.channels;
  const double count = static_cast<double>(n_) * layout.height * layout.width;
  const Parameter& gamma = parameters_[spec.gamma];
  const Parameter& beta = parameters_[spec.beta];
  for (int64_t c = 0; c < channels; c++) {
    double g = 0, gc = 0;
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
      const double* sums = sums_.data() + chunk * (1 + slots) * channels;
      g += sums[c];
      gc += sums[(1 + slot) * channels + c];
    }
    // The kernel subtracted the mean rounded to float.
    const double rounding = state.mean_float[c] - state.mean[c];
    gc += rounding * g;
    const double s = state.inverse_std[c];
    const double k1 = s * Parameters::element(gamma, parameters_.values(spec.gamma), c);
    const double k2 = -k1 * s * s * gc / count;
    state.k1[c] = static_cast<float>(k1);
    state.k2[c] = static_cast<float>(k2);
    state.k3[c] = static_cast<float>(-k1 * g / count + k2 * rounding);
    state.g_mean[c] = g / count;
    state.gc_mean[c] = gc / count;
    Parameters::put(gamma, parameters_.gradient(spec.gamma), c, s * gc, accumulate);
    Parameters::put(beta, parameters_.gradient(spec.beta), c, g, accumulate);
  }
}

// Second pass, in the order that the plan relies on: plain terms, then batch norms.
void Session::combine_writes(const Step& step, const BackwardStep& backward) {
  const float* g = gradient_of(step.output);
  const Layout& g_layout = plan_.gradients[step.output];
  for (int t = 0; t < step.term_count; t++) {
    const GradientWrite write = backward.write[t];
    if (step.terms[t].batch_norm >= 0 || write == GradientWrite::none || write == GradientWrite::alias)
      continue;
    const int input = step.terms[t].value;
    OpTimer timer(profile_, OpKind::gradient_copy, step.name);
    copy_gradient(g, g_layout, gradient_of(input), plan_.gradients[input], write == GradientWrite::add);
  }
  for (int t = 0; t < step.term_count; t++) {
    const Term& term = step.terms[t];
    if (term.batch_norm < 0 || backward.write[t] == GradientWrite::none) continue;
    const BatchNormState& state = batch_norms_[term.batch_norm];
    OpTimer timer(profile_, OpKind::batch_norm_dgrad, plan_.graph.batch_norms[term.batch_norm].name);
    BatchNormApplyArgs args;
    args.g = g;
    args.g_layout = g_layout;
    args.term = term_of(term);
    args.relu_mask = relu_mask(step) == ReluMask::term;
    args.k1 = state.k1.data();
    args.k2 = state.k2.data();
    args.k3 = state.k3.data();
    args.add = backward.write[t] == GradientWrite::add;
    args.dx = gradient_of(term.value);
    args.dx_layout = plan_.gradients[term.value];
    args.n = n_;
    team_.parallel_range(rows(args.dx_layout),
                         [&](int64_t begin, int64_t end, int) { batch_norm_.apply(args, begin, end); });
  }
}

void Session::copy_gradient(const float* g, const Layout& from, float* to, const Layout& to_layout,
                            bool add) {
  CombineArgs args;
  args.terms[0].x = g;
  args.terms[0].layout = from;
  if (add) {
    args.term_count = 2;
    args.terms[1].x = to;
    args.terms[1].layout = to_layout;
  }
  args.z = to;
  args.z_layout = to_layout;
  run_combine(args);
}

// ---- pools, flatten

void Session::pool_backward(const Step& step, const BackwardStep& backward, int index, const float* dy,
                            float* dx) {
  const bool flat = step.kind == StepKind::flatten;
  OpTimer timer(profile_, flat ? OpKind::flatten_backward : OpKind::pool_backward, step.name);
  const bool add = backward.write[0] == GradientWrite::add;
  const Layout& dy_layout = plan_.gradients[step.output];
  const Layout& dx_layout = plan_.gradients[step.input()];
  if (flat) {
    team_.parallel_range(blocks_, [&](int64_t begin, int64_t end, int) {
      unflatten(dy, dy_layout, dx, dx_layout, add, begin, end);
    });
    return;
  }
  PoolArgs args;
  args.window = step.window;
  args.in = dy;
  args.in_layout = dy_layout;
  args.out = dx;
  args.out_layout = dx_layout;
  args.add = add;
  args.n = n_;
  const int64_t choice = program_->choices[index];
  if (choice >= 0) args.choice = reinterpret_cast<uint8_t*>(arena_.data() + choice);
  const auto kernel = step.kind == StepKind::max_pool ? pool_.max_backward : pool_.avg_backward;
  team_.parallel_range(rows(dx_layout), [&](int64_t begin, int64_t end, int) { kernel(args, begin, end); });
}

}  // namespace cpu
}  // namespace rp
