// Building a session: parameters, activations and ops of a model. The same code plans memory, with arenas
// that only count.
#include <algorithm>

#include "core/error.h"
#include "engine/reference/session.h"

namespace rp::reference {
namespace {

const char* op_name(int32_t op) {
  static const char* const kNames[] = {"input",    "conv2d",   "batch_norm",      "relu",  "add",
                                       "max_pool", "avg_pool", "global_avg_pool", "linear"};
  return op >= RP_OP_INPUT && op <= RP_OP_LINEAR ? kNames[op] : "unknown";
}

std::unique_ptr<Op> make_op(const OpSource& source) {
  switch (source.node.op) {
    case RP_OP_CONV2D:
    case RP_OP_LINEAR:
      return make_conv2d(source);
    case RP_OP_BATCH_NORM:
      return make_batch_norm(source);
    case RP_OP_RELU:
      return make_relu(source);
    case RP_OP_ADD:
      return make_add(source);
    case RP_OP_MAX_POOL:
      return make_max_pool(source);
    case RP_OP_AVG_POOL:
    case RP_OP_GLOBAL_AVG_POOL:
      return make_avg_pool(source);
    default:
      fail("[reference] %s: unknown op %d.", source.node.name, source.node.op);
  }
}

bool kept(const RpParam& p, int64_t i) { return !p.mask || (p.mask[i >> 3] >> (i & 7) & 1); }

std::string json_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

}  // namespace

Session::Session(const RpModel& model, const RpSessionConfig& config, bool counting)
    : programs_(config.programs),
      needs_(config.programs),
      max_batch_(config.max_batch),
      activation_arena_(counting),
      parameter_arena_(counting) {
  if (max_batch_ < 1) fail("[reference] expected a batch size of at least 1, got %d.", max_batch_);
  if (!counting) team_ = std::make_unique<ThreadTeam>(config.threads, config.pin_threads != 0);
  make_parameters(model);
  make_nodes(model);
  make_plan();
}

void Session::make_parameters(const RpModel& model) {
  Arena& arena = parameter_arena_;
  for (int i = 0; i < model.param_count; i++) total_nnz_ += model.params[i].nnz;
  if (needs_.parameter_gradients) gradient_ = arena.take<double>(total_nnz_);
  if (needs_.momentum) momentum_ = arena.take<double>(total_nnz_);
  if (needs_.tangent) gradient_tangent_ = arena.take<double>(total_nnz_);

  int64_t offset = 0;
  for (int i = 0; i < model.param_count; i++) {
    const RpParam& from = model.params[i];
    Parameter p;
    p.name = from.name;
    p.numel = from.numel;
    p.nnz = from.nnz;
    p.weight_decay = from.weight_decay;
    p.value = arena.take<double>(p.numel);
    if (needs_.tangent) p.direction = arena.take<double>(p.numel);
    if (from.mask) p.kept = arena.take<int64_t>(p.nnz);
    int64_t count = 0;
    for (int64_t e = 0; e < p.numel; e++) {
      if (!kept(from, e)) continue;
      if (p.kept && count < p.nnz) p.kept[count] = e;
      count++;
    }
    if (count != p.nnz)
      fail("[reference] %s: expected nnz %lld as the mask keeps, got %lld.", from.name,
           static_cast<long long>(count), static_cast<long long>(p.nnz));
    if (gradient_) p.gradient = gradient_ + offset;
    if (momentum_) p.momentum = momentum_ + offset;
    if (gradient_tangent_) p.gradient_tangent = gradient_tangent_ + offset;
    offset += p.nnz;
    parameters_.push_back(std::move(p));
  }

  for (int i = 0; i < model.buffer_count; i++) running_size_ += model.buffers[i].numel;
  running_ = arena.take<double>(running_size_);
  running_before_ = arena.take<double>(running_size_);
  offset = 0;
  for (int i = 0; i < model.buffer_count; i++) {
    const RpBuffer& from = model.buffers[i];
    buffers_.push_back({from.name, from.numel, running_ ? running_ + offset : nullptr});
    offset += from.numel;
  }
}

// The graph was checked where it was built (src/graph); these guard the arithmetic here.
void Session::check_node(const RpModel& model, int index) const {
  const RpNode& node = model.nodes[index];
  const auto has = [](int32_t i, int32_t below) { return i >= 0 && i < below; };
  if (node.op == RP_OP_INPUT) {
    if (index != 0) fail("[reference] %s: expected the only input at node 0.", node.name);
    return;
  }
  const bool pair = node.op == RP_OP_ADD;
  if (!has(node.inputs[0], index) || (pair && !has(node.inputs[1], index)))
    fail("[reference] %s: expected its inputs before it.", node.name);
  const bool weighted = node.op == RP_OP_CONV2D || node.op == RP_OP_LINEAR;
  const bool norm = node.op == RP_OP_BATCH_NORM;
  if ((weighted || norm) && !has(node.params[0], model.param_count))
    fail("[reference] %s: expected a weight.", node.name);
  if (norm && (!has(node.params[1], model.param_count) || !has(node.buffers[0], model.buffer_count) ||
               !has(node.buffers[1], model.buffer_count)))
    fail("[reference] %s: expected gamma, beta and running statistics.", node.name);
  if (node.op == RP_OP_MAX_POOL && 2 * node.padding > node.kernel_h)
    fail("[reference] %s: expected a padding of at most half the kernel, got %d for %d.", node.name,
         node.padding, node.kernel_h);
  if (!weighted) return;
  const RpNode& x = model.nodes[node.inputs[0]];
  const int64_t taps = node.op == RP_OP_LINEAR ? int64_t{x.height} * x.width : node.kernel_h * node.kernel_w;
  const int64_t expected = int64_t{node.channels} * x.channels * taps;
  if (model.params[node.params[0]].numel != expected)
    fail("[reference] %s: expected a weight of %lld elements, got %lld.", node.name,
         static_cast<long long>(expected), static_cast<long long>(model.params[node.params[0]].numel));
}

void Session::make_nodes(const RpModel& model) {
  Arena& arena = activation_arena_;
  int64_t scratch = 0;
  // Ops keep pointers to activations: all of these first, never moved again.
  for (int i = 0; i < model.node_count; i++) {
    check_node(model, i);
    const RpNode& node = model.nodes[i];
    nodes_.push_back(node);
    node_names_.emplace_back(node.name);
    Activation a;
    a.channels = node.channels;
    a.height = node.height;
    a.width = node.width;
    a.value = arena.take<double>(a.size(max_batch_));
    if (needs_.backward) a.gradient = arena.take<double>(a.size(max_batch_));
    if (needs_.tangent) {
      a.tangent = arena.take<double>(a.size(max_batch_));
      a.gradient_tangent = arena.take<double>(a.size(max_batch_));
    }
    activations_.push_back(a);
    scratch = std::max(scratch, int64_t{2} * node.channels);  // gamma and beta
  }
  for (const Parameter& p : parameters_) scratch = std::max(scratch, p.numel);
  if (needs_.backward) scratch_ = arena.take<double>(scratch);

  for (const RpNode& node : nodes_) {
    if (node.op == RP_OP_INPUT) {
      ops_.push_back(nullptr);
      continue;
    }
    const auto parameter = [&](int32_t i) { return i < 0 ? nullptr : &parameters_[i]; };
    const auto activation = [&](int32_t i) { return i < 0 ? nullptr : &activations_[i]; };
    const auto running = [&](int32_t i) { return i < 0 ? nullptr : buffers_[i].value; };
    if (node.op == RP_OP_BATCH_NORM && !activation_arena_.counting()) {
      Buffer& variance = buffers_[node.buffers[1]];
      std::fill(variance.value, variance.value + variance.numel, 1.0);
    }
    ops_.push_back(make_op({node,
                            {activation(node.inputs[0]), activation(node.inputs[1])},
                            node.inputs[0] == 0,
                            &activations_[ops_.size()],
                            {parameter(node.params[0]), parameter(node.params[1])},
                            {running(node.buffers[0]), running(node.buffers[1])},
                            needs_,
                            max_batch_,
                            activation_arena_}));
  }
  for (size_t i = 0; i < nodes_.size(); i++) nodes_[i].name = node_names_[i].c_str();
}

// Nothing is chosen and nothing measured here, so any plan replays.
void Session::make_plan() {
  plan_ = "{\"engine\":\"reference\",\"isa\":\"portable\",\"layers\":[";
  for (size_t i = 1; i < nodes_.size(); i++) {
    plan_ += i > 1 ? "," : "";
    plan_ +=
        "{\"name\":" + json_string(node_names_[i]) + ",\"kernel\":\"" + op_name(nodes_[i].op) + "_ref\"}";
  }
  plan_ += "]}";
}

}  // namespace rp::reference
