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
        if (backward.write[0] != GradientWrite::none && program_->pooled_by[step.input()] < 0)
          pool_backward(step, backward, i, gradient_of(step.output), gradient_of(step.input()));
    }
  }
}

// ---- convolution

void Session::conv_backward(const Step& step, const BackwardStep& backward, bool accumulate) {
  const ConvSpec& spec = plan_.graph.convs[step.conv];
  const Conv& conv = convs_[step.conv];
  const int blocks = this->blocks(plan_.gradients[step.output]);
  float* dy = gradient_of(step.output);
  if (backward.zero_border) {
    OpTimer timer(profile_, OpKind::border_backward, spec.name);
    team_.parallel_range(blocks_, [&](int64_t begin, int64_t end, int) {
      zero_border(plan_.gradients[step.output], dy, begin, end);
    });
  }
  if (backward.write[0] != GradientWrite::none) {
    conv_gradients(step, backward, accumulate);
  } else if (program_->weight_gradients()) {
    OpTimer timer(profile_, OpKind::conv_wgrad, spec.name);
    conv.layer->wgrad(value(step.input()), dy, parameters_.gradient(spec.weight), blocks, accumulate, team_);
  }
  if (program_->weight_gradients() && spec.bias >= 0) {
    OpTimer timer(profile_, OpKind::bias_wgrad, spec.name);
    bias_gradient(spec, step.output, dy, parameters_.gradient(spec.bias), accumulate);
  }
}

// Dx, and in programs that want it dw.
void Session::conv_gradients(const Step& step, const BackwardStep& backward, bool accumulate) {
  const ConvSpec& spec = plan_.graph.convs[step.conv];
  const Conv& conv = convs_[step.conv];
  const auto& steps = plan_.graph.steps;
  const Step* maker = backward.makes_dy >= 0 ? &steps[backward.makes_dy] : nullptr;
  const Step* reader = backward.reads_dx >= 0 ? &steps[backward.reads_dx] : nullptr;
  BatchNormApplyArgs writing;
  CombineBackwardArgs summing;
  if (maker)
    writing = write_args(*maker, program_->backward_steps[backward.makes_dy], maker->last_batch_norm());
  if (reader) summing = sums_args(*reader, program_->backward_steps[backward.reads_dx]);
  const Step* x_maker = backward.makes_x >= 0 ? &steps[backward.makes_x] : nullptr;
  const Layout &x_layout = plan_.values[step.input()], &dy_layout = plan_.gradients[step.output];
  const int blocks = this->blocks(dy_layout);
  float* const* const made_dy = backward.joint ? made(dy_layout, made_gradients_) : nullptr;
  float* const* const made_x = x_maker ? made(x_layout, made_values_) : nullptr;
  double write_time = 0, sum_time = 0, x_time = 0, wgrad_time = 0;
  const auto write = timed(
      [&](int64_t begin, int64_t end, const RowTurn& turn) {
        if (!made_dy) return apply_rows(writing, begin, end, turn.alone);
        BatchNormApplyArgs args = writing;
        args.dx = made_dy[turn.member];
        args.dx_layout = one_block(writing.dx_layout);
        batch_norm_.apply(args, begin, end);
      },
      &write_time);
  const auto sum = timed(
      [&](int64_t begin, int64_t end, const RowTurn&) { combine_.backward(summing, begin, end); }, &sum_time);
  CombineArgs making;
  if (x_maker) making = known_combine_args(*x_maker);
  const auto make_x =
      timed([&](int64_t begin, int64_t end,
                const RowTurn& turn) { combine_.forward(made_at(making, made_x[turn.member]), begin, end); },
            &x_time);
  RowWork before(writing.dx_layout, 1, write);
  // A pooled gradient has other positions.
  if (writing.pooled.choice == nullptr) before.reads(writing.g, writing.g_layout);
  before.reads(writing.term.x, writing.term.layout);
  RowWork after(summing.dz_layout, summing.rows_per_chunk, sum);
  if (summing.mask == ReluMask::output) after.reads(summing.z, summing.z_layout);
  if (summing.term_count > 0) after.reads(summing.terms[0].x, summing.terms[0].layout);
  RowWork makes_x(x_layout, 1, make_x);
  if (x_maker) makes_x.reads(making.terms[0].x, making.terms[0].layout);
  const ConvCompanions beside = {maker ? &before : nullptr, summing.dz ? &after : nullptr, made_dy};

  int64_t write_event = -1;
  if (maker) {
    const int batch_norm = maker->terms[maker->last_batch_norm()].batch_norm;
    write_event = profile_.begin(OpKind::batch_norm_dgrad, plan_.graph.batch_norms[batch_norm].name.c_str());
  }
  const int64_t event = profile_.begin(OpKind::conv_dgrad, spec.name.c_str());
  const int64_t sum_event = reader ? profile_.begin(OpKind::combine_sums, reader->name.c_str()) : -1;
  const int64_t x_event = x_maker ? profile_.begin(OpKind::combine_forward, x_maker->name.c_str()) : -1;
  const bool wgrad = program_->weight_gradients();
  const int64_t wgrad_event = wgrad ? profile_.begin(OpKind::conv_wgrad, spec.name.c_str()) : -1;
  if (wgrad) {
    ConvBackward run;
    run.x = x_maker ? nullptr : value(step.input());
    run.dy = backward.joint ? nullptr : gradient_of(step.output);
    run.makes_x = x_maker ? &makes_x : nullptr;
    run.made_x = made_x;
    run.dx = gradient_of(step.input());
    run.write_dx = backward.write_dx;
    run.dw = parameters_.gradient(spec.weight);
    run.add_dw = accumulate;
    run.beside = beside;
    run.wgrad_microseconds = wgrad_event >= 0 ? &wgrad_time : nullptr;
    const double start = profile_.clock();
    conv.layer->backward(run, *conv.weights, blocks, team_);
    // Of one kernel either gradient has half; else x is made in wgrad's time.
    if (conv.layer->one_backward_kernel()) {
      wgrad_time = (profile_.clock() - start - write_time - sum_time - x_time) / 2;
    } else {
      wgrad_time -= x_time;
    }
  } else {
    conv.layer->dgrad(gradient_of(step.output), *conv.weights, gradient_of(step.input()), blocks,
                      backward.write_dx, team_, beside);
  }
  if (reader) {
    const double start = profile_.clock();
    combine_factors(*reader, accumulate);
    sum_time += profile_.clock() - start;
  }
  profile_.end_shared({{write_event, write_time}}, event,
                      {{sum_event, sum_time}, {x_event, x_time}, {wgrad_event, wgrad_time}});
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
  // A tangent needs g itself.
  return step.is_batch_norm() && program_->program != RP_PROGRAM_TANGENT ? ReluMask::term : ReluMask::output;
}

void Session::combine_backward(const Step& step, const BackwardStep& backward, bool accumulate) {
  if (!backward.sums_beside) combine_sums(step, backward, accumulate);
  combine_writes(step, backward);
}

void Session::combine_sums(const Step& step, const BackwardStep& backward, bool accumulate) {
  OpTimer timer(profile_, OpKind::combine_sums, step.name);
  CombineBackwardArgs args = sums_args(step, backward);
  args.stream = args.g != nullptr && args.g != args.dz && streams(args.g_layout);
  if (args.dz) {
    team_.parallel_range(blocks(args.dz_layout) * chunks_per_block(args.dz_layout),
                         [&](int64_t begin, int64_t end, int) { combine_.backward(args, begin, end); });
  }
  combine_factors(step, accumulate);
}

PooledGradient Session::pooled_gradient(int v) const {
  const int pool = program_->pooled_by[v];
  if (pool < 0) return {};
  const int output = plan_.graph.steps[pool].output;
  return {gradient_of(output), plan_.gradients[output],
          reinterpret_cast<const uint8_t*>(arena_.data() + program_->choices[pool])};
}

// Of the first pass, which writes g (ReluMask), and sums over it; dz is null where neither is needed.
CombineBackwardArgs Session::sums_args(const Step& step, const BackwardStep& backward) {
  const bool sums = program_->batch_statistics();
  CombineBackwardArgs args;
  args.mask = relu_mask(step);
  for (int t = 0; t < step.term_count; t++) {
    if (step.terms[t].batch_norm < 0 || (!sums && args.mask != ReluMask::term)) continue;
    args.terms[args.term_count++] = term_of(step.terms[t]);
  }
  const bool wanted = sums && args.term_count > 0;
  if (!wanted && args.mask != ReluMask::output) return args;
  args.z = value(step.output);
  args.z_layout = plan_.values[step.output];
  args.dz = gradient_of(step.output);
  args.pooled = pooled_gradient(step.output);
  args.dz_layout = plan_.gradients[step.output];
  if (args.mask == ReluMask::output) {
    args.g = gradient_of(backward.g);
    args.g_layout = plan_.gradients[backward.g];
  }
  args.n = n_;
  args.rows_per_chunk = chunk_rows(args.dz_layout);
  args.sums = wanted ? sums_.data() : nullptr;
  return args;
}

// Once the first pass is done: the gradients of gamma and beta, and what the second pass multiplies by.
void Session::combine_factors(const Step& step, bool accumulate) {
  if (program_->batch_statistics()) {
    int slots = 0, slot = 0;
    for (int t = 0; t < step.term_count; t++) slots += step.terms[t].batch_norm >= 0;
    for (int t = 0; t < step.term_count; t++) {
      if (step.terms[t].batch_norm >= 0) batch_norm_gradients(step, t, slot++, slots, accumulate);
    }
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
  const int64_t chunks = blocks(layout) * chunks_per_block(layout), channels = spec.channels;
  const double count = static_cast<double>(n_) * layout.positions();
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

// Of the second pass, for a term that is a batch norm.
BatchNormApplyArgs Session::write_args(const Step& step, const BackwardStep& backward, int t) {
  const Term& term = step.terms[t];
  const BatchNormState& state = batch_norms_[term.batch_norm];
  BatchNormApplyArgs args;
  args.g = gradient_of(backward.g);
  args.pooled = pooled_gradient(step.output);
  args.g_layout = plan_.gradients[backward.g];
  args.term = term_of(term);
  args.relu_mask = relu_mask(step) == ReluMask::term;
  args.k1 = state.k1.data();
  args.k2 = state.k2.data();
  args.k3 = state.k3.data();
  args.add = backward.write[t] == GradientWrite::add;
  args.dx = gradient_of(term.value);
  args.dx_layout = plan_.gradients[term.value];
  args.n = n_;
  return args;
}

// Second pass, in the order that the plan relies on: plain terms, then batch norms.
void Session::combine_writes(const Step& step, const BackwardStep& backward) {
  for (int t = 0; t < step.term_count; t++) {
    const GradientWrite write = backward.write[t];
    const int input = step.terms[t].value;
    if (step.terms[t].batch_norm >= 0 || write == GradientWrite::none || write == GradientWrite::alias ||
        (write == GradientWrite::write && input == backward.g))
      continue;
    OpTimer timer(profile_, OpKind::gradient_copy, step.name);
    copy_gradient(gradient_of(backward.g), plan_.gradients[backward.g], gradient_of(input),
                  plan_.gradients[input], write == GradientWrite::add);
  }
  for (int t = 0; t < step.term_count; t++) {
    const Term& term = step.terms[t];
    if (term.batch_norm < 0 || backward.write[t] == GradientWrite::none) continue;
    if (backward.write_beside && t == step.last_batch_norm()) continue;
    OpTimer timer(profile_, OpKind::batch_norm_dgrad, plan_.graph.batch_norms[term.batch_norm].name);
    const BatchNormApplyArgs args = write_args(step, backward, t);
    team_.parallel_range(rows(args.dx_layout),
                         [&](int64_t begin, int64_t end, int) { apply_rows(args, begin, end, true); });
  }
}

void Session::apply_rows(const BatchNormApplyArgs& args, int64_t begin, int64_t end, bool alone) const {
  if (!alone || args.add || args.dx == args.g || !streams(args.dx_layout))
    return batch_norm_.apply(args, begin, end);
  BatchNormApplyArgs streamed = args;
  streamed.stream = true;
  batch_norm_.apply(streamed, begin, end);
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
