// Forward: import, the steps in order, the loss.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "engine/cpu/session.h"
#include "ops/activation/activation.h"

namespace rp {
namespace cpu {
namespace {

// Of a block, of n images; looks at existing ones alone.
bool is_finite(const Layout& l, const float* x, int64_t block, int n) {
  const int64_t images = std::min<int64_t>(kImagesPerBlock, n - block / l.parts * kImagesPerBlock);
  for (int64_t h = 0; h < l.height; h++) {
    for (int64_t c = 0; c < l.channels; c++) {
      for (int64_t w = 0; w < l.width; w++) {
        const float* p = x + l.at(block, c, h, w);
        for (int64_t i = 0; i < images; i++) {
          if (!std::isfinite(p[i])) return false;
        }
      }
    }
  }
  return true;
}

// Sums of the rows, each as long as `out`.
void add_rows(const double* rows, int64_t count, std::vector<double>& out) {
  std::fill(out.begin(), out.end(), 0.0);
  for (int64_t row = 0; row < count; row++, rows += out.size()) {
    for (size_t c = 0; c < out.size(); c++) out[c] += rows[c];
  }
}

}  // namespace

void Session::import(const RpBatch& batch) {
  OpTimer timer(profile_, OpKind::import);
  const Layout& layout = plan_.values[0];
  team_.parallel_range(blocks_, [&](int64_t begin, int64_t end, int) {
    import_images(batch.images, batch.image_bytes, batch.n, layout, value(0), begin, end);
  });
}

void Session::forward(bool update_running_stats) {
  const bool tangent = program_->program == RP_PROGRAM_TANGENT;
  for (size_t i = 0; i < plan_.graph.steps.size(); i++) {
    const Step& step = plan_.graph.steps[i];
    if (program_->beside_next[i]) {
      i++;
      forward_with(step, static_cast<int>(i), update_running_stats);
      continue;
    }
    forward_step(step, static_cast<int>(i), update_running_stats);
    if (tangent && program_->needs_gradient[step.output]) tangent_forward_step(step, static_cast<int>(i));
  }
}

void Session::forward_with(const Step& maker, int index, bool update_running_stats) {
  const Step& step = plan_.graph.steps[index];
  const CombineArgs making = combine_args(maker, update_running_stats);
  if (step.kind == StepKind::conv) return conv_forward(step, &maker, making);
  pool_forward(step, index, &making.terms[0]);
}

std::string Session::first_non_finite_step() {
  import(batch_);
  for (int b = 0; b < blocks_; b++) {
    if (!is_finite(plan_.values[0], value(0), b, n_)) return "input";
  }
  for (size_t i = 0; i < plan_.graph.steps.size(); i++) {
    const Step& step = plan_.graph.steps[i];
    const int output = step.output;
    if (program_->transient_values[output]) {
      const bool pooled = plan_.graph.steps[i + 1].kind != StepKind::conv;
      if (!pooled && !transient_is_finite(step)) return step.name;
      continue;
    }
    const Step* maker = i > 0 ? &plan_.graph.steps[i - 1] : nullptr;
    if (maker && !program_->transient_values[maker->output]) maker = nullptr;
    if (maker) {
      forward_with(*maker, static_cast<int>(i), false);
    } else {
      forward_step(step, static_cast<int>(i), false);
    }
    // What is not finite in its output was so in the batch norm within it.
    const bool pools = maker && step.kind != StepKind::conv;
    for (int b = 0; b < blocks(plan_.values[output]); b++) {
      if (!is_finite(plan_.values[output], value(output), b, n_)) return pools ? maker->name : step.name;
    }
  }
  return "";
}

bool Session::transient_is_finite(const Step& step) {
  const CombineArgs wanted = combine_args(step, false);
  const CombineArgs args = made_at(wanted, made(wanted.z_layout, made_values_)[0]);
  const int64_t height = args.z_layout.height;
  for (int b = 0; b < blocks(args.z_layout); b++) {
    combine_.forward(args, b * height, (b + 1) * height);
    if (!is_finite(args.z_layout, args.z, b, n_)) return false;
  }
  return true;
}

void Session::forward_step(const Step& step, int index, bool update_running_stats) {
  switch (step.kind) {
    case StepKind::conv:
      return conv_forward(step);
    case StepKind::combine: {
      const CombineArgs args = combine_args(step, update_running_stats);
      OpTimer timer(profile_, OpKind::combine_forward, step.name);
      return run_combine(args);
    }
    case StepKind::max_pool:
    case StepKind::avg_pool:
      return pool_forward(step, index);
    case StepKind::flatten: {
      OpTimer timer(profile_, OpKind::flatten_forward, step.name);
      team_.parallel_range(blocks_, [&](int64_t begin, int64_t end, int) {
        flatten(value(step.input()), plan_.values[step.input()], value(step.output),
                plan_.values[step.output], begin, end);
      });
    }
  }
}

// ---- convolution

void Session::conv_forward(const Step& step, const Step* maker, const CombineArgs& making) {
  const ConvSpec& spec = plan_.graph.convs[step.conv];
  const Conv& conv = convs_[step.conv];
  const Layout& layout = plan_.values[step.output];
  float* y = value(step.output);
  {
    double spent = 0;
    const bool transient = maker && program_->transient_values[maker->output];
    float* const* const input = transient ? made(making.z_layout, made_values_) : nullptr;
    const auto make = timed(
        [&](int64_t begin, int64_t end, const RowTurn& turn) {
          combine_rows(input ? made_at(making, input[turn.member]) : making, begin, end, turn.alone);
        },
        &spent);
    RowWork work(making.z_layout, 1, make);
    for (int t = 0; maker && t < making.term_count; t++)
      work.reads(making.terms[t].x, making.terms[t].layout);
    const int64_t before = maker ? profile_.begin(OpKind::combine_forward, maker->name.c_str()) : -1;
    const int64_t event = profile_.begin(OpKind::conv_forward, spec.name.c_str());
    std::vector<double>& moments = moments_[step.output];
    const int64_t rows = conv.layer->sum_rows(blocks(layout)), width = static_cast<int64_t>(moments.size());
    // Where a bias is still to be added, or tiles are so small that their sums would not fit, the statistics
    // have a pass of their own.
    summed_[step.output] =
        program_->batch_statistics() && spec.bias < 0 && width > 0 && rows * width <= plan_.sum_doubles;
    const ConvSums sums{sums_.data(), n_};
    conv.layer->forward(input ? nullptr : value(step.input()), *conv.weights, y, blocks(layout), false, team_,
                        summed_[step.output] ? &sums : nullptr, {maker ? &work : nullptr, nullptr, input});
    if (summed_[step.output]) add_rows(sums_.data(), rows, moments);
    profile_.end_shared({{before, spent}}, event, {});
  }
  if (spec.bias >= 0) {
    OpTimer timer(profile_, OpKind::bias_forward, spec.name);
    add_bias(spec, layout, y, parameters_.values(spec.bias));
  } else if (layout.border > 0) {
    OpTimer timer(profile_, OpKind::border_forward, spec.name);
    team_.parallel_range(blocks_,
                         [&](int64_t begin, int64_t end, int) { zero_border(layout, y, begin, end); });
  }
}

// y += bias, as a batch norm of mean 0 and scale 1.
void Session::add_bias(const ConvSpec& spec, const Layout& layout, float* y, const float* bias) {
  const Parameter& parameter = parameters_[spec.bias];
  for (int c = 0; c < layout.channels; c++) bias_[c] = Parameters::element(parameter, bias, c);
  CombineArgs args;
  args.terms[0] = {y, layout, bias_zero_.data(), bias_one_.data(), bias_.data()};
  args.z = y;
  args.z_layout = layout;
  run_combine(args);
}

// ---- batch norm, ReLU, add

// With the statistics of this batch or the running ones.
CombineArgs Session::combine_args(const Step& step, bool update_running_stats) {
  for (int t = 0; t < step.term_count; t++) {
    const Term& term = step.terms[t];
    if (term.batch_norm < 0) continue;
    const BatchNormSpec& spec = plan_.graph.batch_norms[term.batch_norm];
    BatchNormState& state = batch_norms_[term.batch_norm];
    OpTimer timer(profile_, OpKind::statistics, spec.name);
    if (program_->batch_statistics()) {
      batch_statistics(spec, state, term.value, update_running_stats);
    } else {
      running_statistics(spec, state);
    }
    const Parameter& gamma = parameters_[spec.gamma];
    const Parameter& beta = parameters_[spec.beta];
    for (int c = 0; c < spec.channels; c++) {
      const double scale =
          state.inverse_std[c] * Parameters::element(gamma, parameters_.values(spec.gamma), c);
      state.mean_float[c] = static_cast<float>(state.mean[c]);
      state.scale[c] = static_cast<float>(scale);
      // The shift takes back what rounding the mean to float moved.
      const double moved = (state.mean_float[c] - state.mean[c]) * scale;
      state.shift[c] =
          static_cast<float>(Parameters::element(beta, parameters_.values(spec.beta), c) + moved);
    }
  }
  return known_combine_args(step);
}

// With what combine_args left of its batch norms.
CombineArgs Session::known_combine_args(const Step& step) const {
  CombineArgs args;
  args.n = n_;
  args.term_count = step.term_count;
  args.relu = step.relu;
  args.z = program_->transient_values[step.output] ? nullptr : value(step.output);
  args.z_layout = plan_.values[step.output];
  for (int t = 0; t < step.term_count; t++) args.terms[t] = term_of(step.terms[t]);
  return args;
}

CombineTerm Session::term_of(const Term& term) const {
  CombineTerm out;
  out.x = value(term.value);
  out.layout = plan_.values[term.value];
  if (term.batch_norm < 0) return out;
  const BatchNormState& state = batch_norms_[term.batch_norm];
  out.mean = state.mean_float.data();
  out.scale = state.scale.data();
  out.shift = state.shift.data();
  return out;
}

CombineArgs Session::made_at(const CombineArgs& making, float* to) {
  CombineArgs args = making;
  args.z = to;
  args.z_layout = one_block(making.z_layout);
  return args;
}

void Session::run_combine(const CombineArgs& wanted) {
  CombineArgs args = wanted;
  args.n = n_;
  team_.parallel_range(rows(args.z_layout),
                       [&](int64_t begin, int64_t end, int) { combine_rows(args, begin, end, true); });
}

void Session::combine_rows(const CombineArgs& args, int64_t begin, int64_t end, bool alone) const {
  const bool in_place = args.z == args.terms[0].x || (args.term_count > 1 && args.z == args.terms[1].x);
  if (!alone || in_place || !streams(args.z_layout)) return combine_.forward(args, begin, end);
  CombineArgs streamed = args;
  streamed.stream = true;
  combine_.forward(streamed, begin, end);
}

// Biased variance normalises, the unbiased one runs (SPEC 1.6).
void Session::batch_statistics(const BatchNormSpec& spec, BatchNormState& state, int input,
                               bool update_running_stats) {
  const Layout& layout = plan_.values[input];
  const double count = static_cast<double>(n_) * layout.positions();
  if (count < 2)
    fail("[%s] expected more than one value a channel for batch statistics, got one.", spec.name.c_str());
  std::vector<double>& moments = moments_[input];
  if (!summed_[input]) {
    StatisticsArgs args;
    args.x = value(input);
    args.layout = layout;
    args.n = n_;
    args.rows_per_chunk = chunk_rows(layout);
    args.sums = sums_.data();
    const int64_t chunks = blocks(layout) * chunks_per_block(layout);
    team_.parallel_range(chunks,
                         [&](int64_t begin, int64_t end, int) { batch_norm_.statistics(args, begin, end); });
    add_rows(sums_.data(), chunks, moments);
  }
  float* running_mean = parameters_.running(spec.running_mean);
  float* running_var = parameters_.running(spec.running_var);
  for (int c = 0; c < spec.channels; c++) {
    const double mean = moments[c] / count;
    const double difference = moments[spec.channels + c] / count - mean * mean;
    const double variance = difference < 0 ? 0 : difference;  // rounding; NaN stays
    state.mean[c] = mean;
    state.inverse_std[c] = 1 / std::sqrt(variance + spec.epsilon);
    if (!update_running_stats) continue;
    const double m = spec.momentum;
    running_mean[c] = static_cast<float>((1 - m) * running_mean[c] + m * mean);
    running_var[c] = static_cast<float>((1 - m) * running_var[c] + m * variance * count / (count - 1));
  }
}

void Session::running_statistics(const BatchNormSpec& spec, BatchNormState& state) {
  const float* mean = parameters_.running(spec.running_mean);
  const float* variance = parameters_.running(spec.running_var);
  for (int c = 0; c < spec.channels; c++) {
    state.mean[c] = mean[c];
    state.inverse_std[c] = 1 / std::sqrt(variance[c] + spec.epsilon);
  }
}

// ---- pools

void Session::pool_forward(const Step& step, int index, const CombineTerm* term) {
  OpTimer timer(profile_, OpKind::pool_forward, step.name);
  PoolArgs args;
  args.window = step.window;
  args.in = term ? term->x : value(step.input());
  args.in_layout = term ? term->layout : plan_.values[step.input()];
  args.term = term;
  args.out = value(step.output);
  args.out_layout = plan_.values[step.output];
  args.n = n_;
  const int64_t choice = program_->choices[index];
  if (choice >= 0) args.choice = reinterpret_cast<uint8_t*>(arena_.data() + choice);
  const auto kernel = step.kind == StepKind::max_pool ? pool_.max_forward : pool_.avg_forward;
  team_.parallel_range(rows(args.out_layout),
                       [&](int64_t begin, int64_t end, int) { kernel(args, begin, end); });
}

// ---- loss

RpBatchResult Session::loss(const RpBatch& batch, const RpLoss& options, double weight) {
  OpTimer timer(profile_, OpKind::loss);
  const int logits = plan_.graph.logits;
  CrossEntropyArgs args;
  args.logits = value(logits);
  args.layout = plan_.values[logits];
  args.labels = batch.labels;
  args.n = n_;
  args.loss = options;
  args.weight = weight;
  if (program_->gradients[logits] >= 0) {
    args.gradient = gradient_of(logits);
    args.gradient_layout = plan_.gradients[logits];
    if (program_->program == RP_PROGRAM_TANGENT) {
      args.logits_tangent = value_tangent(logits);
      args.gradient_tangent = gradient_tangent_of(logits);
    }
  }
  team_.parallel_range(blocks_, [&](int64_t begin, int64_t end, int) {
    for (int64_t b = begin; b < end; b++) loss_sums_[b] = cross_entropy(args, b);
  });
  RpBatchResult result{};
  for (int b = 0; b < blocks_; b++) {
    result.loss += loss_sums_[b].loss;
    result.nll += loss_sums_[b].nll;
    result.correct += loss_sums_[b].correct;
  }
  result.loss /= n_;
  result.nll /= n_;
  return result;
}

}  // namespace cpu
}  // namespace rp
