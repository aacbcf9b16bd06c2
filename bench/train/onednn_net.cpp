#include "onednn_net.h"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <unordered_map>

#include "cpu/huge_pages.h"

#if DNNL_VERSION_MAJOR != 2
#error "written for oneDNN 2 (Debian: libdnnl-dev)"
#endif

namespace rp_bench {

using dnnl::algorithm;
using dnnl::memory;
using dnnl::prop_kind;
using Tag = memory::format_tag;
using Desc = memory::desc;

namespace {
constexpr auto kFloat = memory::data_type::f32;
Desc plain(const memory::dims& dims, Tag tag) { return Desc(dims, kFloat, tag); }
}  // namespace

class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  // Best fit among the free ones, if it wastes at most a quarter.
  Buffer take(size_t bytes) {
    auto pages = std::make_shared<rp::HugePages>();
    const auto found = free_.lower_bound(bytes);
    if (found != free_.end() && found->first <= bytes + bytes / 4) {
      bytes = found->first;
      *pages = std::move(found->second);
      free_.erase(found);
    } else {
      *pages = rp::HugePages(std::max<int64_t>(1, (bytes + 3) / 4));
      pages->touch();
    }
    return Buffer(pages->data(), [self = shared_from_this(), bytes, pages](void*) {
      self->free_.emplace(bytes, std::move(*pages));
    });
  }

 private:
  std::multimap<size_t, rp::HugePages> free_;
};

OneDnnNet::OneDnnNet(const Network& network) : network_(network), pool_(std::make_shared<BufferPool>()) {
  const int n = static_cast<int>(network_.nodes.size());
  values_.resize(n);
  gradients_.resize(n);
  consumer_count_.assign(n, 0);
  consumer_.assign(n, -1);
  for (int id = 0; id < n; id++) {
    for (int input : network_.nodes[id].inputs) {
      consumer_count_[input]++;
      consumer_[input] = id;
    }
  }
  for (int id = 0; id < n; id++) plan_node(id);
  forward_.swap(steps_);
  gradients_[n - 1] = make(values_[n - 1].memory.get_desc());
  for (int i = static_cast<int>(plan_backward_.size()) - 1; i >= 0; i--) plan_backward_[i]();
  backward_.swap(steps_);
}

OneDnnNet::~OneDnnNet() = default;

OneDnnNet::Tensor OneDnnNet::make(const Desc& desc) {
  Buffer buffer = pool_->take(desc.get_size());
  return {memory(desc, engine_, buffer.get()), buffer};
}

void OneDnnNet::run(const dnnl::primitive& primitive, std::unordered_map<int, memory> arguments) {
  steps_.push_back([this, primitive, arguments] { primitive.execute(stream_, arguments); });
}

OneDnnNet::Tensor OneDnnNet::reordered(const Tensor& from, const Desc& desc) {
  if (from.memory.get_desc() == desc) return from;
  Tensor to = make(desc);
  run(dnnl::reorder(from.memory, to.memory), {{DNNL_ARG_FROM, from.memory}, {DNNL_ARG_TO, to.memory}});
  return to;
}

OneDnnNet::Parameter& OneDnnNet::add_parameter(const Desc& desc, std::vector<int64_t> dims, Tag tag) {
  auto p = std::make_unique<Parameter>();
  p->value = memory(desc, engine_);
  p->gradient = memory(desc, engine_);
  std::memset(p->value.get_data_handle(), 0, desc.get_size());
  std::memset(p->gradient.get_data_handle(), 0, desc.get_size());
  p->momentum.assign(desc.get_size() / sizeof(float), 0);
  p->dims = std::move(dims);
  p->plain = tag;
  parameters_.push_back(std::move(p));
  return *parameters_.back();
}

// Adds a consumer's gradient to a node's: the first one is taken as it is, in whatever buffer it lies.
void OneDnnNet::give(int node, Tensor incoming) {
  if (network_.nodes[node].op == "input") return;
  incoming = reordered(incoming, values_[node].memory.get_desc());
  Tensor& sum = gradients_[node];
  if (!sum.buffer) {
    sum = incoming;
    return;
  }
  // In place where nobody else holds the buffer (an addition hands one buffer to both of its inputs).
  Tensor out = sum.buffer.use_count() == 1 ? sum : make(sum.memory.get_desc());
  const auto desc = sum.memory.get_desc();
  const dnnl::binary::primitive_desc add({algorithm::binary_add, desc, desc, desc}, engine_);
  run(dnnl::binary(add),
      {{DNNL_ARG_SRC_0, sum.memory}, {DNNL_ARG_SRC_1, incoming.memory}, {DNNL_ARG_DST, out.memory}});
  sum = out;
}

bool OneDnnNet::only_relu_follows(int id) const {
  return consumer_count_[id] == 1 && network_.nodes[consumer_[id]].op == "relu";
}

void OneDnnNet::plan_node(int id) {
  const Node& node = network_.nodes[id];
  if (node.op == "input") {
    values_[id] = make(plain({network_.batch, node.shape[0], node.shape[1], node.shape[2]}, Tag::nchw));
  } else if (node.op == "conv2d") {
    plan_conv(id);
  } else if (node.op == "batch_norm") {
    plan_batch_norm(id);
  } else if (node.op == "relu") {
    plan_relu(id);
  } else if (node.op == "add") {
    plan_add(id);
  } else if (node.op == "linear") {
    plan_linear(id);
  } else {
    plan_pool(id);
  }
}

void OneDnnNet::plan_conv(int id) {
  const Node& node = network_.nodes[id];
  const int from = node.inputs[0];
  const auto& in = network_.nodes[from].shape;
  const int batch = network_.batch, out = node.attributes[0];
  const memory::dims kernel{out, in[0], node.attributes[1], node.attributes[2]};
  const memory::dims stride(2, node.attributes[3]), padding(2, node.attributes[4]);
  const Desc x = plain({batch, in[0], in[1], in[2]}, Tag::any), w = plain(kernel, Tag::any),
             y = plain({batch, out, node.shape[1], node.shape[2]}, Tag::any);
  const auto direct = algorithm::convolution_direct;
  const dnnl::convolution_forward::primitive_desc forward(
      {prop_kind::forward_training, direct, x, w, y, stride, padding, padding}, engine_);
  Parameter* weight = &add_parameter(forward.weights_desc(), kernel, Tag::oihw);
  const Tensor source = reordered(values_[from], forward.src_desc());
  values_[id] = make(forward.dst_desc());
  run(dnnl::convolution_forward(forward),
      {{DNNL_ARG_SRC, source.memory}, {DNNL_ARG_WEIGHTS, weight->value}, {DNNL_ARG_DST, values_[id].memory}});
  plan_backward_.push_back([=] {
    const Tensor dy = gradients_[id];
    {
      const dnnl::convolution_backward_weights::primitive_desc pass(
          {direct, x, w, y, stride, padding, padding}, engine_, forward);
      const Tensor sx = reordered(source, pass.src_desc()), sdy = reordered(dy, pass.diff_dst_desc());
      const bool same = pass.diff_weights_desc() == weight->value.get_desc();
      const memory dw = same ? weight->gradient : memory(pass.diff_weights_desc(), engine_);
      run(dnnl::convolution_backward_weights(pass),
          {{DNNL_ARG_SRC, sx.memory}, {DNNL_ARG_DIFF_DST, sdy.memory}, {DNNL_ARG_DIFF_WEIGHTS, dw}});
      if (!same) {
        run(dnnl::reorder(dw, weight->gradient), {{DNNL_ARG_FROM, dw}, {DNNL_ARG_TO, weight->gradient}});
      }
    }
    if (network_.nodes[from].op != "input") {
      const dnnl::convolution_backward_data::primitive_desc pass({direct, x, w, y, stride, padding, padding},
                                                                 engine_, forward);
      const Tensor sdy = reordered(dy, pass.diff_dst_desc());
      memory weights = weight->value;
      if (pass.weights_desc() != weights.get_desc()) {
        weights = memory(pass.weights_desc(), engine_);
        run(dnnl::reorder(weight->value, weights), {{DNNL_ARG_FROM, weight->value}, {DNNL_ARG_TO, weights}});
      }
      const Tensor dx = make(pass.diff_src_desc());
      run(dnnl::convolution_backward_data(pass),
          {{DNNL_ARG_DIFF_DST, sdy.memory}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DIFF_SRC, dx.memory}});
      give(from, dx);
    }
    gradients_[id] = {};
  });
}

void OneDnnNet::plan_batch_norm(int id) {
  const Node& node = network_.nodes[id];
  const int from = node.inputs[0], channels = node.shape[0];
  const Tensor source = values_[from];
  const Desc desc = source.memory.get_desc();
  using Flags = dnnl::normalization_flags;
  Flags flags = Flags::use_scale | Flags::use_shift;
  const bool fused = only_relu_follows(id);
  if (fused) flags = flags | Flags::fuse_norm_relu;
  const float epsilon = static_cast<float>(node.epsilon);
  const dnnl::batch_normalization_forward::primitive_desc forward(
      {prop_kind::forward_training, desc, epsilon, flags}, engine_);
  const Desc vector = plain({channels}, Tag::x);
  Parameter* gamma = &add_parameter(vector, {channels}, Tag::x);
  Parameter* beta = &add_parameter(vector, {channels}, Tag::x);
  const memory mean(forward.mean_desc(), engine_), variance(forward.variance_desc(), engine_);
  values_[id] = make(desc);
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, source.memory},  {DNNL_ARG_DST, values_[id].memory},
      {DNNL_ARG_SCALE, gamma->value}, {DNNL_ARG_SHIFT, beta->value},
      {DNNL_ARG_MEAN, mean},          {DNNL_ARG_VARIANCE, variance}};
  memory workspace;
  if (fused) {
    workspace = memory(forward.workspace_desc(), engine_);
    arguments[DNNL_ARG_WORKSPACE] = workspace;
  }
  run(dnnl::batch_normalization_forward(forward), arguments);
  plan_backward_.push_back([=] {
    const dnnl::batch_normalization_backward::primitive_desc pass(
        {prop_kind::backward, desc, desc, epsilon, flags}, engine_, forward);
    const Tensor dy = gradients_[id], dx = make(desc);
    std::unordered_map<int, memory> backward = {
        {DNNL_ARG_SRC, source.memory},        {DNNL_ARG_MEAN, mean},
        {DNNL_ARG_VARIANCE, variance},        {DNNL_ARG_DIFF_DST, dy.memory},
        {DNNL_ARG_SCALE, gamma->value},       {DNNL_ARG_SHIFT, beta->value},
        {DNNL_ARG_DIFF_SRC, dx.memory},       {DNNL_ARG_DIFF_SCALE, gamma->gradient},
        {DNNL_ARG_DIFF_SHIFT, beta->gradient}};
    if (fused) backward[DNNL_ARG_WORKSPACE] = workspace;
    run(dnnl::batch_normalization_backward(pass), backward);
    gradients_[id] = {};
    give(from, dx);
  });
}

void OneDnnNet::plan_relu(int id) {
  const int from = network_.nodes[id].inputs[0];
  const std::string& producer = network_.nodes[from].op;
  const Tensor source = values_[from];
  const Desc desc = source.memory.get_desc();
  const bool fused = (producer == "batch_norm" || producer == "add") && only_relu_follows(from);
  const dnnl::eltwise_forward::primitive_desc forward(
      {prop_kind::forward_training, algorithm::eltwise_relu_use_dst_for_bwd, desc, 0.f, 0.f}, engine_);
  if (fused) {
    values_[id] = source;  // computed by the producer
  } else {
    values_[id] = make(desc);
    run(dnnl::eltwise_forward(forward), {{DNNL_ARG_SRC, source.memory}, {DNNL_ARG_DST, values_[id].memory}});
  }
  plan_backward_.push_back([=] {
    Tensor dy = gradients_[id];
    gradients_[id] = {};
    if (fused && producer == "batch_norm") return give(from, dy);  // masked by the batch norm's backward
    const dnnl::eltwise_backward::primitive_desc pass(
        {algorithm::eltwise_relu_use_dst_for_bwd, desc, desc, 0.f, 0.f}, engine_, forward);
    const Tensor dx = dy.buffer.use_count() == 1 ? dy : make(desc);
    run(dnnl::eltwise_backward(pass),
        {{DNNL_ARG_DST, values_[id].memory}, {DNNL_ARG_DIFF_DST, dy.memory}, {DNNL_ARG_DIFF_SRC, dx.memory}});
    dy = {};
    give(from, dx);
  });
}

void OneDnnNet::plan_add(int id) {
  const int a = network_.nodes[id].inputs[0], b = network_.nodes[id].inputs[1];
  const Desc desc = values_[a].memory.get_desc();
  const Tensor other = reordered(values_[b], desc);
  dnnl::primitive_attr attributes;
  if (only_relu_follows(id)) {
    dnnl::post_ops relu;
    relu.append_eltwise(1.f, algorithm::eltwise_relu, 0.f, 0.f);
    attributes.set_post_ops(relu);
  }
  values_[id] = make(desc);
  const dnnl::binary::primitive_desc add({algorithm::binary_add, desc, desc, desc}, attributes, engine_);
  run(dnnl::binary(add), {{DNNL_ARG_SRC_0, values_[a].memory},
                          {DNNL_ARG_SRC_1, other.memory},
                          {DNNL_ARG_DST, values_[id].memory}});
  plan_backward_.push_back([=] {
    const Tensor dy = gradients_[id];
    gradients_[id] = {};
    give(a, dy);
    give(b, dy);
  });
}

void OneDnnNet::plan_pool(int id) {
  const Node& node = network_.nodes[id];
  const int from = node.inputs[0];
  const auto& in = network_.nodes[from].shape;
  const bool global = node.op == "global_avg_pool", max = node.op == "max_pool";
  const memory::dims kernel = global ? memory::dims{in[1], in[2]} : memory::dims(2, node.attributes[0]);
  const memory::dims stride(2, global ? 1 : node.attributes[1]), padding(2, max ? node.attributes[2] : 0);
  const algorithm kind = max ? algorithm::pooling_max : algorithm::pooling_avg_exclude_padding;
  const Tensor source = values_[from];
  const Desc y = plain({network_.batch, node.shape[0], node.shape[1], node.shape[2]}, Tag::any);
  // Rows and columns that no window reaches: the right padding is negative then, so reckon it.
  memory::dims right(2);
  for (int axis = 0; axis < 2; axis++) {
    right[axis] = (node.shape[1 + axis] - 1) * stride[axis] + kernel[axis] - in[1 + axis] - padding[axis];
  }
  const dnnl::pooling_forward::primitive_desc forward(
      {prop_kind::forward_training, kind, source.memory.get_desc(), y, stride, kernel, padding, right},
      engine_);
  values_[id] = make(forward.dst_desc());
  std::unordered_map<int, memory> arguments = {{DNNL_ARG_SRC, source.memory},
                                               {DNNL_ARG_DST, values_[id].memory}};
  memory workspace;
  if (max) {
    workspace = memory(forward.workspace_desc(), engine_);
    arguments[DNNL_ARG_WORKSPACE] = workspace;
  }
  run(dnnl::pooling_forward(forward), arguments);
  plan_backward_.push_back([=] {
    const dnnl::pooling_backward::primitive_desc pass(
        {kind, source.memory.get_desc(), forward.dst_desc(), stride, kernel, padding, right}, engine_,
        forward);
    const Tensor dx = make(source.memory.get_desc());
    std::unordered_map<int, memory> backward = {{DNNL_ARG_DIFF_DST, gradients_[id].memory},
                                                {DNNL_ARG_DIFF_SRC, dx.memory}};
    if (max) backward[DNNL_ARG_WORKSPACE] = workspace;
    run(dnnl::pooling_backward(pass), backward);
    gradients_[id] = {};
    give(from, dx);
  });
}

void OneDnnNet::plan_linear(int id) {
  const Node& node = network_.nodes[id];
  const int from = node.inputs[0], out = node.attributes[0];
  const auto& in = network_.nodes[from].shape;
  const memory::dims kernel{out, in[0], in[1], in[2]};
  const Desc x = plain({network_.batch, in[0], in[1], in[2]}, Tag::any), w = plain(kernel, Tag::any),
             bias = plain({out}, Tag::x), y = plain({network_.batch, out}, Tag::nc);
  const bool biased = node.attributes[1] != 0;
  using Forward = dnnl::inner_product_forward;
  const auto training = prop_kind::forward_training;
  const Forward::primitive_desc forward(
      biased ? Forward::desc(training, x, w, bias, y) : Forward::desc(training, x, w, y), engine_);
  Parameter* weight = &add_parameter(forward.weights_desc(), kernel, Tag::oihw);
  Parameter* shift = biased ? &add_parameter(bias, {out}, Tag::x) : nullptr;
  const Tensor source = reordered(values_[from], forward.src_desc());
  values_[id] = make(y);
  std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, source.memory}, {DNNL_ARG_WEIGHTS, weight->value}, {DNNL_ARG_DST, values_[id].memory}};
  if (biased) arguments[DNNL_ARG_BIAS] = shift->value;
  run(dnnl::inner_product_forward(forward), arguments);
  plan_backward_.push_back([=] {
    using Weights = dnnl::inner_product_backward_weights;
    const Weights::primitive_desc wgrad(biased ? Weights::desc(x, w, bias, y) : Weights::desc(x, w, y),
                                        engine_, forward);
    const Tensor sx = reordered(source, wgrad.src_desc()), dy = gradients_[id];
    const bool same = wgrad.diff_weights_desc() == weight->value.get_desc();
    const memory dw = same ? weight->gradient : memory(wgrad.diff_weights_desc(), engine_);
    std::unordered_map<int, memory> backward = {
        {DNNL_ARG_SRC, sx.memory}, {DNNL_ARG_DIFF_DST, dy.memory}, {DNNL_ARG_DIFF_WEIGHTS, dw}};
    if (biased) backward[DNNL_ARG_DIFF_BIAS] = shift->gradient;
    run(Weights(wgrad), backward);
    if (!same)
      run(dnnl::reorder(dw, weight->gradient), {{DNNL_ARG_FROM, dw}, {DNNL_ARG_TO, weight->gradient}});
    const dnnl::inner_product_backward_data::primitive_desc dgrad({x, w, y}, engine_, forward);
    memory weights = weight->value;
    if (dgrad.weights_desc() != weights.get_desc()) {
      weights = memory(dgrad.weights_desc(), engine_);
      run(dnnl::reorder(weight->value, weights), {{DNNL_ARG_FROM, weight->value}, {DNNL_ARG_TO, weights}});
    }
    const Tensor dx = make(dgrad.diff_src_desc());
    run(dnnl::inner_product_backward_data(dgrad),
        {{DNNL_ARG_DIFF_DST, dy.memory}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DIFF_SRC, dx.memory}});
    give(from, dx);
  });
}

void OneDnnNet::load(const std::vector<float>& weights) {
  size_t at = 0;
  for (auto& p : parameters_) {
    const Desc desc = plain(p->dims, p->plain);
    if (at + desc.get_size() / 4 > weights.size()) throw std::runtime_error("the weights file is too short");
    memory from(desc, engine_, const_cast<float*>(weights.data() + at));
    dnnl::reorder(from, p->value).execute(stream_, from, p->value);
    stream_.wait();
    std::fill(p->momentum.begin(), p->momentum.end(), 0.f);
    at += desc.get_size() / 4;
  }
  if (at != weights.size()) throw std::runtime_error("the weights file is too long");
}

// Mean softmax cross-entropy; its gradient goes into that of the logits.
double OneDnnNet::loss(const int* labels) {
  const int last = static_cast<int>(network_.nodes.size()) - 1, classes = network_.nodes[last].shape[0];
  const float* y = static_cast<const float*>(values_[last].memory.get_data_handle());
  float* dy = static_cast<float*>(gradients_[last].memory.get_data_handle());
  double total = 0;
  for (int n = 0; n < network_.batch; n++, y += classes, dy += classes) {
    const float highest = *std::max_element(y, y + classes);
    float sum = 0;
    for (int k = 0; k < classes; k++) sum += dy[k] = std::exp(y[k] - highest);
    for (int k = 0; k < classes; k++) dy[k] /= sum * network_.batch;
    dy[labels[n]] -= 1.f / network_.batch;
    total += std::log(sum) + highest - y[labels[n]];
  }
  return total / network_.batch;
}

double OneDnnNet::step(const float* images, const int* labels, const Sgd& sgd) {
  const memory& input = values_[0].memory;
  std::memcpy(input.get_data_handle(), images, input.get_desc().get_size());
  for (const auto& run : forward_) run();
  stream_.wait();
  const double mean = loss(labels);
  for (const auto& run : backward_) run();
  stream_.wait();
  for (auto& p : parameters_) {
    float* w = static_cast<float*>(p->value.get_data_handle());
    const float* dw = static_cast<const float*>(p->gradient.get_data_handle());
    float* v = p->momentum.data();
    const int64_t count = static_cast<int64_t>(p->momentum.size());
#pragma omp parallel for simd if (count > 20000)
    for (int64_t i = 0; i < count; i++) {
      v[i] = sgd.momentum * v[i] + dw[i] + sgd.decay * w[i];
      w[i] -= sgd.lr * v[i];
    }
  }
  return mean;
}

}  // namespace rp_bench
