#include "engine/cpu/graph.h"

#include "core/error.h"

namespace rp {
namespace cpu {
namespace {

class Fuser {
 public:
  explicit Fuser(const RpModel& model)
      : model_(model), uses_(model.node_count, 0), value_(model.node_count, -1) {}

  StepGraph run() {
    if (model_.node_count < 1 || model_.nodes[0].op != RP_OP_INPUT)
      fail("[cpu] expected node 0 to be the input.");
    for (int i = 0; i < model_.node_count; i++) count_uses(i);
    const RpNode& input = model_.nodes[0];
    graph_.values.push_back({input.channels, input.height, input.width});
    value_[0] = 0;
    for (int i = 1; i < model_.node_count; i++) {
      if (!absorbed(i)) emit(i);
    }
    const RpNode& last = model_.nodes[model_.node_count - 1];
    if (last.height != 1 || last.width != 1)
      fail("[%s] expected the last node to give logits (classes, 1, 1), got (%d, %d, %d).", last.name,
           last.channels, last.height, last.width);
    graph_.logits = value_[model_.node_count - 1];
    return std::move(graph_);
  }

 private:
  void count_uses(int i) {
    for (const int input : model_.nodes[i].inputs) {
      if (input < 0) continue;
      if (input >= i)
        fail("[%s] expected inputs from earlier nodes, got node %d.", model_.nodes[i].name, input);
      uses_[input]++;
      consumer_[input] = i;
    }
  }

  // Batch norm goes into the add or ReLU that alone reads it, add into such a ReLU.
  bool absorbed(int i) const {
    if (uses_[i] != 1) return false;
    const int op = model_.nodes[i].op, by = model_.nodes[consumer_[i]].op;
    if (op == RP_OP_BATCH_NORM) return by == RP_OP_RELU || by == RP_OP_ADD;
    return op == RP_OP_ADD && by == RP_OP_RELU;
  }

  Term term(int i) {
    const RpNode& node = model_.nodes[i];
    if (node.op != RP_OP_BATCH_NORM || value_[i] >= 0) return {value_[i], -1};
    graph_.batch_norms.push_back({node.name, node.channels, node.params[0], node.params[1], node.buffers[0],
                                  node.buffers[1], node.epsilon, node.momentum});
    return {value_[node.inputs[0]], static_cast<int>(graph_.batch_norms.size()) - 1};
  }

  void combine(Step& step, int i) {
    const RpNode* node = &model_.nodes[i];
    step.kind = StepKind::combine;
    if (node->op == RP_OP_RELU) {
      step.relu = true;
      const int input = node->inputs[0];
      if (value_[input] >= 0) {
        step.terms[0] = term(input);
        return;
      }
      i = input;
      node = &model_.nodes[i];
    }
    if (node->op == RP_OP_BATCH_NORM) {
      step.terms[0] = term(i);
    } else {
      step.term_count = 2;
      for (int t = 0; t < 2; t++) step.terms[t] = term(node->inputs[t]);
    }
    for (int t = 0; t < step.term_count; t++) {
      if (step.terms[t].batch_norm < 0) continue;
      step.name = graph_.batch_norms[step.terms[t].batch_norm].name;
      break;
    }
  }

  void conv(Step& step, const RpNode& node) {
    const RpNode& in = model_.nodes[node.inputs[0]];
    step.kind = StepKind::conv;
    ConvSpec spec;
    spec.weight = node.params[0];
    spec.name = model_.params[spec.weight].name;
    if (node.op == RP_OP_LINEAR) {
      spec.bias = node.params[1];
      spec.shape = {in.channels * in.height * in.width, node.channels, 1, 1, 1, 1, 1, 0};
      if (in.height * in.width > 1) step.terms[0].value = flatten(node, spec.shape.in_channels);
    } else {
      spec.shape = {in.channels,   node.channels, in.height,   in.width,
                    node.kernel_h, node.kernel_w, node.stride, node.padding};
    }
    const RpParam& weight = model_.params[spec.weight];
    const int64_t numel =
        int64_t{spec.shape.out_channels} * spec.shape.in_channels * spec.shape.kernel_h * spec.shape.kernel_w;
    if (weight.numel != numel)
      fail("[%s] expected a weight of %lld elements, got %lld.", node.name, static_cast<long long>(numel),
           static_cast<long long>(weight.numel));
    step.conv = static_cast<int>(graph_.convs.size());
    graph_.convs.push_back(spec);
  }

  int flatten(const RpNode& node, int channels) {
    Step step;
    step.kind = StepKind::flatten;
    step.name = node.name;
    step.terms[0].value = value_[node.inputs[0]];
    step.output = static_cast<int>(graph_.values.size());
    graph_.values.push_back({channels, 1, 1});
    graph_.steps.push_back(step);
    return step.output;
  }

  void emit(int i) {
    const RpNode& node = model_.nodes[i];
    Step step;
    step.name = node.name;
    if (node.inputs[0] < 0) fail("[%s] expected an input.", node.name);
    const RpNode& in = model_.nodes[node.inputs[0]];
    step.terms[0].value = value_[node.inputs[0]];
    switch (node.op) {
      case RP_OP_CONV2D:
      case RP_OP_LINEAR:
        conv(step, node);
        break;
      case RP_OP_BATCH_NORM:
      case RP_OP_RELU:
      case RP_OP_ADD:
        combine(step, i);
        break;
      case RP_OP_MAX_POOL:
        step.kind = StepKind::max_pool;
        step.window = {node.kernel_h, node.kernel_w, node.stride, node.padding};
        if (2 * node.padding > node.kernel_h || 2 * node.padding > node.kernel_w)
          fail("[%s] expected padding of at most half the %dx%d window, got %d.", node.name, node.kernel_h,
               node.kernel_w, node.padding);
        if (node.kernel_h * node.kernel_w > kMaxPoolPositions)
          fail("[%s] expected a window of at most %d positions, got %dx%d.", node.name, kMaxPoolPositions,
               node.kernel_h, node.kernel_w);
        break;
      case RP_OP_AVG_POOL:
        step.kind = StepKind::avg_pool;
        step.window = {node.kernel_h, node.kernel_w, node.stride, 0};
        break;
      case RP_OP_GLOBAL_AVG_POOL:
        step.kind = StepKind::avg_pool;
        step.window = {in.height, in.width, 1, 0};
        break;
      default:
        fail("[%s] unknown op %d.", node.name, node.op);
    }
    step.output = static_cast<int>(graph_.values.size());
    value_[i] = step.output;
    graph_.values.push_back({node.channels, node.height, node.width});
    graph_.steps.push_back(step);
  }

  const RpModel& model_;
  std::vector<int> uses_, consumer_ = std::vector<int>(uses_.size(), -1);
  std::vector<int> value_;  // of each node; -1: absorbed
  StepGraph graph_;
};

}  // namespace

StepGraph fuse(const RpModel& model) { return Fuser(model).run(); }

}  // namespace cpu
}  // namespace rp
