#include "engine/cpu/plan.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/error.h"
#include "cpu/threads.h"
#include "engine/cpu/layouts.h"
#include "engine/cpu/liveness.h"
#include "ops/combine/combine.h"
#include "ops/conv_images.h"

namespace rp {
namespace cpu {
namespace {

constexpr uint32_t kOtherBackward = RP_PROGRAM_INPUT_GRADIENT | RP_PROGRAM_TANGENT;

// ---- one program

class ProgramPlanner {
 public:
  ProgramPlanner(const Plan& plan, uint32_t program)
      : plan_(plan), graph_(plan.graph), steps_(static_cast<int>(graph_.steps.size())) {
    out_.program = program;
    const size_t values = graph_.values.size();
    out_.values.assign(values, -1);
    out_.gradients.assign(values, -1);
    out_.value_tangents.assign(values, -1);
    out_.gradient_tangents.assign(values, -1);
    out_.needs_gradient.assign(values, 0);
    out_.choices.assign(steps_, -1);
    out_.backward_steps.resize(steps_);
    out_.beside_next.assign(steps_, 0);
    out_.transient_values.assign(values, 0);
    out_.transient_gradients.assign(values, 0);
    out_.pooled_by.assign(values, -1);
    out_.in_place_of.assign(values, -1);
    value_buffer_.assign(values, -1);
    gradient_buffer_.assign(values, -1);
    choice_buffer_.assign(steps_, -1);
    readers_.assign(values, 0);
    readers_[graph_.logits]++;
    for (const Step& step : graph_.steps) {
      for (int t = 0; t < step.term_count; t++) readers_[step.terms[t].value]++;
    }
  }

  ProgramPlan run() {
    find_needs();
    plan_forward();
    if (out_.backward()) {
      plan_backward();
      keep_for_backward();
    }
    if (out_.program != RP_PROGRAM_TANGENT) find_transient_values();
    finish();
    return std::move(out_);
  }

 private:
  // Moments: 0 import, 1 + i forward of step i, then the loss, then backward in reverse, then the export.
  int forward_time(int step) const { return 1 + step; }
  int loss_time() const { return 1 + steps_; }
  int backward_time(int step) const { return 1 + 2 * steps_ - step; }
  int export_time() const { return 2 + 2 * steps_; }

  bool has_parameters(const Step& step) const {
    if (step.kind == StepKind::conv) return true;
    for (int t = 0; t < step.term_count; t++) {
      if (step.terms[t].batch_norm >= 0) return true;
    }
    return false;
  }

  void find_needs() {
    if (!out_.backward()) return;
    out_.needs_gradient[0] = out_.program == RP_PROGRAM_INPUT_GRADIENT;
    for (const Step& step : graph_.steps) {
      bool needs = out_.weight_gradients() && has_parameters(step);
      for (int t = 0; t < step.term_count; t++) needs |= out_.needs_gradient[step.terms[t].value] != 0;
      out_.needs_gradient[step.output] = needs;
    }
  }

  int new_buffer(int64_t floats, int birth) {
    buffers_.push_back({floats, birth, birth});
    return static_cast<int>(buffers_.size()) - 1;
  }
  void use_value(int value, int time) {
    Buffer& buffer = buffers_[value_buffer_[value]];
    buffer.death = std::max(buffer.death, time);
  }
  void use_choice(int pool, int time) {
    Buffer& buffer = buffers_[choice_buffer_[pool]];
    buffer.death = std::max(buffer.death, time);
  }
  void use_gradient(int value, int time) {
    Buffer& buffer = buffers_[gradient_buffer_[value]];
    buffer.death = std::max(buffer.death, time);
  }

  // Whether combine step i, a batch norm with ReLU, runs within the max pool after it, which alone reads it.
  bool pooled_next(int i) const {
    const Step& step = graph_.steps[i];
    return i + 1 < steps_ && graph_.steps[i + 1].kind == StepKind::max_pool &&
           graph_.steps[i + 1].input() == step.output && readers_[step.output] == 1 && step.relu &&
           step.is_batch_norm() && same_rows(plan_.values[step.terms[0].value], plan_.values[step.output]);
  }

  void plan_forward() {
    value_buffer_[0] = new_buffer(plan_.values[0].floats(plan_.max_batch), 0);
    for (int i = 0; i < steps_; i++) {
      const Step& step = graph_.steps[i];
      const bool convolved = i + 1 < steps_ && graph_.steps[i + 1].kind == StepKind::conv &&
                             graph_.steps[i + 1].input() == step.output;
      // A tangent runs step by step.
      const bool beside = out_.program != RP_PROGRAM_TANGENT && step.kind == StepKind::combine &&
                          (convolved || pooled_next(i));
      out_.beside_next[i] = beside;
      for (int t = 0; t < step.term_count; t++)
        use_value(step.terms[t].value, forward_time(beside ? i + 1 : i));
      value_buffer_[step.output] =
          new_buffer(plan_.values[step.output].floats(plan_.max_batch), forward_time(i));
      if (step.kind == StepKind::max_pool && out_.needs_gradient[step.input()]) {
        const Value& y = graph_.values[step.output];
        const int64_t bytes = int64_t{plan_.blocks()} * y.height * y.channels * y.width * kImagesPerBlock;
        choice_buffer_[i] = new_buffer((bytes + 3) / 4, forward_time(i));
      }
    }
    use_value(graph_.logits, loss_time());
  }

  // Decides the write of term t of combine step i; `alias` says whether it may take over the output gradient.
  void plan_term(int i, int t, bool alias) {
    const Step& step = graph_.steps[i];
    const int value = step.terms[t].value;
    GradientWrite& write = out_.backward_steps[i].write[t];
    const int time = backward_time(i);
    if (!out_.needs_gradient[value]) {
      write = GradientWrite::none;
    } else if (gradient_buffer_[value] >= 0) {
      write = GradientWrite::add;
      use_gradient(value, time);
    } else if (alias) {
      write = GradientWrite::alias;
      gradient_buffer_[value] = gradient_buffer_[step.output];
    } else {
      write = GradientWrite::write;
      gradient_buffer_[value] = new_buffer(plan_.gradients[value].floats(plan_.max_batch), time);
    }
  }

  // Phases that no tap of the first convolution reaches are left to the next writer of the gradient, where
  // that is a convolution with the same phases: they would be written as zeros, and those read and added to.
  void plan_dx(int i) {
    const Step& step = graph_.steps[i];
    BackwardStep& backward = out_.backward_steps[i];
    const ConvShape& shape = plan_.conv_shapes[step.conv];
    if (backward.write[0] == GradientWrite::add) {
      backward.write_dx = kAddToAll;
      const auto left = left_phases_.find(step.input());
      if (left == left_phases_.end()) return;
      backward.write_dx.add = ~left->second;
      left_phases_.erase(left);
    } else if (backward.write[0] == GradientWrite::write && out_.program != RP_PROGRAM_TANGENT) {
      const Step* next = next_writer(i);
      if (next == nullptr || next->kind != StepKind::conv ||
          plan_.conv_shapes[next->conv].stride != shape.stride)
        return;
      backward.write_dx.leave = ~reached_phases(shape, plan_.conv_layouts(step.conv));
      if (backward.write_dx.leave != 0) left_phases_[step.input()] = backward.write_dx.leave;
    }
  }

  // Of the gradient that step i writes; null: none.
  const Step* next_writer(int i) const {
    for (int j = i - 1; j >= 0; j--) {
      const Step& step = graph_.steps[j];
      if (!leads_to_loss_[step.output]) continue;
      for (int t = 0; t < step.term_count; t++) {
        if (step.terms[t].value == graph_.steps[i].input()) return &step;
      }
    }
    return nullptr;
  }

  // Whether the gradient of a term could take over that of the output.
  bool shares_layout(const Step& step, int t) const {
    return same_rows(plan_.gradients[step.terms[t].value], plan_.gradients[step.output]);
  }
  // Whether the output's sign masks its gradient (Session::relu_mask): the first pass then writes g.
  bool masks_by_output(const Step& step) const {
    return step.relu && (!step.is_batch_norm() || out_.program == RP_PROGRAM_TANGENT);
  }
  bool unwritten(int value) const { return out_.needs_gradient[value] && gradient_buffer_[value] < 0; }

  // Plain terms first: one may take over the buffer with nothing written. A batch norm takes it over only as
  // the last reader of g.
  void plan_combine(int i) {
    const Step& step = graph_.steps[i];
    BackwardStep& backward = out_.backward_steps[i];
    bool taken = false;
    backward.g = step.output;
    for (int t = 0; t < step.term_count; t++) {
      if (step.terms[t].batch_norm >= 0) continue;
      const int value = step.terms[t].value;
      const bool placed = taken || backward.g != step.output;
      const bool alias = !placed && unwritten(value) && shares_layout(step, t);
      plan_term(i, t, alias);
      taken |= alias;
      if (!placed && backward.write[t] == GradientWrite::write && masks_by_output(step) &&
          plan_.gradients[value].border == 0 && out_.program != RP_PROGRAM_TANGENT)
        backward.g = value;
    }
    for (int t = 0; t < step.term_count; t++) {
      if (step.terms[t].batch_norm < 0) continue;
      const bool last = t + 1 == step.term_count || step.terms[t + 1].batch_norm < 0;
      plan_term(i, t, !taken && last && shares_layout(step, t));
    }
  }

  void plan_backward() {
    if (!out_.needs_gradient[graph_.logits]) return;
    gradient_buffer_[graph_.logits] =
        new_buffer(plan_.gradients[graph_.logits].floats(plan_.max_batch), loss_time());
    leads_to_loss_.assign(graph_.values.size(), 0);
    leads_to_loss_[graph_.logits] = 1;
    for (int i = steps_ - 1; i >= 0; i--) {
      const Step& step = graph_.steps[i];
      for (int t = 0; t < step.term_count; t++)
        leads_to_loss_[step.terms[t].value] |= leads_to_loss_[step.output];
    }
    // Whether the last writer of a gradient left its border zero.
    std::vector<char> clean(graph_.values.size(), 0);
    for (int i = steps_ - 1; i >= 0; i--) {
      const Step& step = graph_.steps[i];
      BackwardStep& backward = out_.backward_steps[i];
      backward.reached = gradient_buffer_[step.output] >= 0;
      if (!backward.reached) continue;
      use_gradient(step.output, backward_time(i));
      if (step.kind == StepKind::combine) {
        plan_combine(i);
      } else {
        plan_term(i, 0, false);
        if (step.kind == StepKind::conv) plan_dx(i);
      }
      if (step.kind == StepKind::conv) {
        backward.zero_border = !clean[step.output] && conv_dy_border(plan_.conv_shapes[step.conv]) > 0;
      }
      for (int t = 0; t < step.term_count; t++) {
        const int value = step.terms[t].value;
        if (backward.write[t] == GradientWrite::write) clean[value] = step.kind != StepKind::conv;
        if (backward.write[t] == GradientWrite::add && step.kind != StepKind::conv) clean[value] = 1;
        if (backward.write[t] == GradientWrite::alias)
          clean[value] = step.terms[t].batch_norm >= 0 || clean[step.output];
      }
    }
    if (out_.program == RP_PROGRAM_INPUT_GRADIENT && gradient_buffer_[0] >= 0) use_gradient(0, export_time());
    if (out_.program == RP_PROGRAM_TANGENT) return;
    plan_beside();
    for (int i = 0; i + 1 < steps_; i++) {
      if (pooled_next(i) && gradient_stays_pooled(graph_.steps[i + 1].window)) plan_pooled(i);
    }
    for (int i = 0; i < steps_; i++) plan_in_place(i);
  }

  // Of convolution step i: its dx in place of its output, which is then in the caches. Another program with a
  // backward would want the gradient's own layout.
  void plan_in_place(int i) {
    const Step& step = graph_.steps[i];
    const BackwardStep& backward = out_.backward_steps[i];
    const int x = step.input(), y = step.output;
    if (!backward.joint || backward.write[0] != GradientWrite::write || plan_.programs & kOtherBackward ||
        readers_[y] != 1 || plan_.gradients[x].channels != plan_.values[y].channels ||
        !same_rows(plan_.gradients[x], plan_.values[y]))
      return;
    const int gradient = gradient_buffer_[x];
    for (const Step& other : graph_.steps) {
      const bool keeps_border = other.kind == StepKind::conv && other.output == x;
      const bool shares = other.output != x && gradient_buffer_[other.output] == gradient &&
                          !out_.transient_gradients[other.output];
      if (keeps_border || shares) return;
    }
    out_.in_place_of[x] = y;
    Buffer& buffer = buffers_[value_buffer_[y]];
    buffer.death = std::max(buffer.death, buffers_[gradient].death);
    buffers_[gradient].floats = 0;
  }

  // Of combine step i and the max pool after it. What the pool's gradient is taken from lives as long as that
  // would.
  void plan_pooled(int i) {
    const Step &step = graph_.steps[i], &pool = graph_.steps[i + 1];
    const BackwardStep& backward = out_.backward_steps[i];
    const int z = step.terms[0].value, x = step.output;
    if (!backward.reached || backward.write[0] == GradientWrite::none ||
        !same_rows(plan_.gradients[z], plan_.gradients[x]) || !same_rows(plan_.values[z], plan_.gradients[x]))
      return;
    out_.pooled_by[x] = i + 1;
    Buffer& buffer = buffers_[gradient_buffer_[x]];
    use_gradient(pool.output, buffer.death);
    use_choice(i + 1, buffer.death);
    if (backward.write[0] != GradientWrite::alias || out_.transient_gradients[z]) buffer.floats = 0;
  }

  // Combine steps that make the dy or read the dx of the convolution next to them in turn.
  void plan_beside() {
    int next = -1;  // the step whose turn in backward comes after this one's
    for (int i = 0; i < steps_; i++) {
      BackwardStep& backward = out_.backward_steps[i];
      if (!backward.reached) continue;
      if (next >= 0) plan_pair(i, next);
      next = i;
    }
  }

  void plan_pair(int i, int next) {
    const Step &step = graph_.steps[i], &after = graph_.steps[next];
    BackwardStep &backward = out_.backward_steps[i], &backward_after = out_.backward_steps[next];
    if (step.kind == StepKind::conv && after.kind == StepKind::combine && after.output == step.input() &&
        backward.write[0] != GradientWrite::none) {
      backward.reads_dx = next;
      backward_after.sums_beside = true;
      Buffer& g = buffers_[gradient_buffer_[backward_after.g]];
      g.birth = std::min(g.birth, backward_time(i));
    }
    if (step.kind != StepKind::combine || after.kind != StepKind::conv ||
        backward_after.write[0] == GradientWrite::none)
      return;
    // Only the last to read g may wait, and only where dgrad does not write to g itself.
    const int term = step.last_batch_norm();
    if (term < 0 || step.terms[term].value != after.output || backward.write[term] == GradientWrite::none ||
        gradient_buffer_[after.input()] == gradient_buffer_[backward.g])
      return;
    const bool joint = out_.weight_gradients() && plan_.shares_blocks(after.conv) &&
                       plan_.conv_joint[after.conv] && graph_.convs[after.conv].bias < 0 &&
                       backward.write[term] != GradientWrite::add;
    backward_after.joint = joint;
    if (joint) {
      out_.transient_gradients[after.output] = 1;
      if (backward.write[term] == GradientWrite::write) buffers_[gradient_buffer_[after.output]].floats = 0;
    }
    backward.write_beside = true;
    backward_after.makes_dy = i;
    use_gradient(backward.g, backward_time(next));
    use_value(after.output, backward_time(next));
  }

  // Values that backward reads again.
  void keep_for_backward() {
    for (int i = 0; i < steps_; i++) {
      const Step& step = graph_.steps[i];
      if (!out_.backward_steps[i].reached) continue;
      const int time = backward_time(i);
      if (step.kind == StepKind::conv && out_.weight_gradients()) use_value(step.input(), time);
      if (choice_buffer_[i] >= 0) use_choice(i, time);
      if (step.kind != StepKind::combine) continue;
      for (int t = 0; t < step.term_count; t++) {
        if (step.terms[t].batch_norm >= 0) use_value(step.terms[t].value, time);
      }
      if (masks_by_output(step)) use_value(step.output, time);
    }
  }

  // Of batch norms that one convolution alone reads, which backward can make once more; or one max pool,
  // whose backward does not.
  void find_transient_values() {
    for (int i = 0; i < steps_; i++) {
      const Step& step = graph_.steps[i];
      if (!out_.beside_next[i] || !step.is_batch_norm() || readers_[step.output] > 1) continue;
      if (graph_.steps[i + 1].kind == StepKind::max_pool) {
        out_.transient_values[step.output] = 1;
        buffers_[value_buffer_[step.output]].floats = 0;
        continue;
      }
      const Step& conv = graph_.steps[i + 1];
      BackwardStep& backward = out_.backward_steps[i + 1];
      const bool read_again = out_.weight_gradients() && backward.reached;
      if (!plan_.shares_blocks(conv.conv)) continue;
      if (read_again && !backward.joint) continue;
      if (!forward_takes_turns(plan_.conv_shapes[conv.conv], plan_.conv_layouts(conv.conv))) continue;
      out_.transient_values[step.output] = 1;
      buffers_[value_buffer_[step.output]].floats = 0;
      if (!read_again) continue;
      backward.makes_x = i;
      use_value(step.terms[0].value, backward_time(i + 1));
    }
  }

  // Offsets; a tangent has its primal's life.
  void finish() {
    const bool tangent = out_.program == RP_PROGRAM_TANGENT;
    const std::vector<Buffer> primal = buffers_;
    std::vector<int> twin(primal.size(), -1);
    if (tangent) {
      for (size_t v = 0; v < graph_.values.size(); v++) {
        if (!out_.needs_gradient[v]) continue;
        for (const int buffer : {value_buffer_[v], gradient_buffer_[v]}) {
          if (buffer < 0 || twin[buffer] >= 0) continue;
          twin[buffer] = static_cast<int>(buffers_.size());
          buffers_.push_back(primal[buffer]);
        }
      }
    }
    out_.arena_floats = place(buffers_);
    for (size_t v = 0; v < graph_.values.size(); v++) {
      const auto at = [&](int buffer, int64_t margin) {
        return buffer < 0 ? int64_t{-1} : buffers_[buffer].offset + margin;
      };
      const int value = value_buffer_[v], gradient = gradient_buffer_[v];
      out_.values[v] = at(value, plan_.values[v].margin);
      out_.gradients[v] = at(gradient, plan_.gradients[v].margin);
      if (!tangent) continue;
      out_.value_tangents[v] = at(value < 0 ? -1 : twin[value], plan_.values[v].margin);
      out_.gradient_tangents[v] = at(gradient < 0 ? -1 : twin[gradient], plan_.gradients[v].margin);
    }
    for (size_t v = 0; v < graph_.values.size(); v++) {
      if (out_.in_place_of[v] >= 0) out_.gradients[v] = out_.values[out_.in_place_of[v]];
    }
    for (int i = 0; i < steps_; i++) {
      if (choice_buffer_[i] >= 0) out_.choices[i] = buffers_[choice_buffer_[i]].offset;
    }
  }

  const Plan& plan_;
  const StepGraph& graph_;
  const int steps_;
  ProgramPlan out_;
  std::vector<Buffer> buffers_;
  std::vector<int> value_buffer_, gradient_buffer_;  // per value
  std::vector<int> choice_buffer_;                   // per step
  std::vector<int> readers_;                         // per value
  std::vector<char> leads_to_loss_;                  // per value
  std::map<int, uint64_t> left_phases_;              // per gradient that is written in part
};

// Partial sums of the widest batch norm step: per chunk and channel, at most three; of the widest
// convolution's epilogue: two per tile and channel, a tile of four positions at the least.
int64_t sum_doubles(const Plan& plan) {
  int64_t most = 0;
  for (const Layout& l : plan.values) {
    most = std::max(most, chunks_per_block(l) * l.parts * plan.blocks() * 3 * l.channels);
    most = std::max(most, (l.positions() * plan.blocks() + 3) / 4 * 2 * l.channels);
  }
  return most;
}

// Of all programs.
void place_transients(Plan& plan) {
  const auto room = [&](const Layout& layout) {
    plan.transient_floats = std::max(plan.transient_floats, layout.floats_of_blocks(1));
  };
  for (const ProgramPlan& program : plan.program_plans) {
    for (const Step& step : plan.graph.steps) {
      const bool value = program.transient_values[step.input()] != 0;
      const bool gradient = program.transient_gradients[step.output] != 0;
      if (step.conv < 0 || (!value && !gradient)) continue;
      plan.conv_makes_x[step.conv] |= value;
      plan.conv_makes_dy[step.conv] |= gradient;
      if (value) room(plan.values[step.input()]);
      if (gradient) room(plan.gradients[step.output]);
    }
  }
  constexpr int64_t kPage = 1024;
  plan.transient_floats = (plan.transient_floats + kPage - 1) / kPage * kPage;
  plan.transient_begin = (plan.arena_floats + kPage - 1) / kPage * kPage;
  if (plan.transient_floats > 0)
    plan.arena_floats = plan.transient_begin + 2 * plan.threads * plan.transient_floats;
}

}  // namespace

const ProgramPlan& Plan::program(uint32_t which) const {
  for (const ProgramPlan& p : program_plans) {
    if (p.program == which) return p;
  }
  const char* name = which == RP_PROGRAM_TRAIN            ? "train"
                     : which == RP_PROGRAM_EVAL           ? "eval"
                     : which == RP_PROGRAM_INPUT_GRADIENT ? "inputGradient"
                                                          : "tangent";
  fail("[cpu] this session was not planned for the program '%s'. Name it in `programs`.", name);
}

int Plan::blocks_of(int conv) const { return blocks() * conv_layouts(conv).x.parts; }

bool Plan::shares_blocks(int conv) const {
  const int count = blocks_of(conv);
  return count % threads == 0 && image_parts(count) % threads == 0;
}

ConvLayouts Plan::conv_layouts(int conv) const {
  ConvLayouts layouts;
  for (const Step& step : graph.steps) {
    if (step.conv != conv) continue;
    layouts.x = values[step.input()];
    layouts.y = values[step.output];
    layouts.dy = gradients[step.output];
    layouts.dx = gradients[step.input()];
  }
  layouts.has_dgrad = conv_dgrad[conv] != 0;
  layouts.makes_x = conv_makes_x[conv] != 0;
  layouts.makes_dy = conv_makes_dy[conv] != 0;
  layouts.has_wgrad = conv_wgrad;
  return layouts;
}

Plan make_plan(const RpModel& model, const RpSessionConfig& config) {
  if (config.max_batch < 1) fail("[cpu] expected a batch size of at least 1, got %d.", config.max_batch);
  Plan plan;
  plan.graph = fuse(model);
  plan.max_batch = config.max_batch;
  plan.threads = config.threads > 0 ? config.threads : available_cores();
  plan.programs = config.programs;
  Layouts layouts = choose_layouts(plan.graph, model);
  plan.values = std::move(layouts.values);
  plan.gradients = std::move(layouts.gradients);
  plan.conv_shapes = std::move(layouts.conv_shapes);
  for (std::vector<char>* of_convs : {&plan.conv_dgrad, &plan.conv_makes_x, &plan.conv_makes_dy})
    of_convs->assign(plan.graph.convs.size(), 0);
  plan.conv_joint.assign(plan.graph.convs.size(), 0);
  for (const Step& step : plan.graph.steps) {
    if (step.conv < 0) continue;
    const ConvSpec& spec = plan.graph.convs[step.conv];
    const RpParam& weight = model.params[spec.weight];
    plan.conv_joint[step.conv] = has_joint_backward(plan.conv_shapes[step.conv], {weight.mask, weight.nnz},
                                                    plan.conv_layouts(step.conv));
  }
  for (const uint32_t program :
       {RP_PROGRAM_TRAIN, RP_PROGRAM_EVAL, RP_PROGRAM_INPUT_GRADIENT, RP_PROGRAM_TANGENT}) {
    if (!(config.programs & program)) continue;
    plan.program_plans.push_back(ProgramPlanner(plan, program).run());
    const ProgramPlan& planned = plan.program_plans.back();
    plan.arena_floats = std::max(plan.arena_floats, planned.arena_floats);
    plan.conv_wgrad |= planned.weight_gradients();
    for (size_t i = 0; i < plan.graph.steps.size(); i++) {
      const Step& step = plan.graph.steps[i];
      if (step.conv < 0 || planned.backward_steps[i].write[0] == GradientWrite::none) continue;
      plan.conv_dgrad[step.conv] = 1;
    }
  }
  if (plan.program_plans.empty()) fail("[cpu] expected at least one program, got none.");
  for (const ProgramPlan& planned : plan.program_plans) {
    for (size_t v = 0; v < planned.in_place_of.size(); v++) {
      if (planned.in_place_of[v] >= 0) plan.gradients[v] = plan.values[planned.in_place_of[v]];
    }
  }
  plan.sum_doubles = sum_doubles(plan);
  place_transients(plan);
  return plan;
}

}  // namespace cpu
}  // namespace rp
