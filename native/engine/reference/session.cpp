#include "engine/reference/session.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "engine/reference/loss.h"

namespace rp::reference {
namespace {

bool all_finite(const double* values, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (!std::isfinite(values[i])) return false;
  }
  return true;
}

// (n, C, H*W) of float or double to (C, n, H*W).
template <class T>
void transpose_images(const T* images, int n, const Activation& to) {
  const int64_t pixels = to.pixels();
  for (int i = 0; i < n; i++) {
    for (int64_t c = 0; c < to.channels; c++) {
      const T* from = images + (i * to.channels + c) * pixels;
      std::copy(from, from + pixels, to.value + (c * n + i) * pixels);
    }
  }
}

}  // namespace

// ---- passes

void Session::require(uint32_t program, const char* function) const {
  if (programs_ & program) return;
  fail("[reference] %s: the session was not made for it. Add its program when creating the session.",
       function);
}

Pass Session::pass(const RpBatch& batch, bool training) const {
  return {batch.n, training, false, training, false, scratch_, *team_};
}

void Session::load(const RpBatch& batch) {
  if (batch.n < 1 || batch.n > max_batch_)
    fail("[reference] expected a batch of 1 to %d images, got %d.", max_batch_, batch.n);
  if (batch.image_bytes != 4 && batch.image_bytes != 8)
    fail("[reference] expected images of 4 or 8 bytes a value, got %d.", batch.image_bytes);
  const int classes = activations_.back().channels;
  for (int i = 0; i < batch.n; i++) {
    if (batch.labels[i] < 0 || batch.labels[i] >= classes)
      fail("[reference] expected labels in [0, %d), got %d for image %d.", classes, batch.labels[i], i);
  }
  last_n_ = batch.n;
  if (batch.image_bytes == 4) {
    transpose_images(static_cast<const float*>(batch.images), batch.n, activations_[0]);
  } else {
    transpose_images(static_cast<const double*>(batch.images), batch.n, activations_[0]);
  }
}

void Session::forward(const Pass& pass) {
  for (size_t i = 1; i < ops_.size(); i++) ops_[i]->forward(pass);
}

void Session::backward(const Pass& pass) {
  for (size_t i = ops_.size() - 1; i > 0; i--) ops_[i]->backward(pass);
}

void Session::clear_activation_gradients(int n) {
  for (Activation& a : activations_) {
    std::fill(a.gradient, a.gradient + a.size(n), 0.0);
    if (a.gradient_tangent) std::fill(a.gradient_tangent, a.gradient_tangent + a.size(n), 0.0);
  }
}

RpBatchResult Session::gradient(const RpBatch& batch, const RpGradientOptions& options) {
  require(RP_PROGRAM_TRAIN | RP_PROGRAM_TANGENT, "gradient");
  load(batch);
  if (!options.accumulate) {
    std::fill(gradient_, gradient_ + total_nnz_, 0.0);
    std::copy(running_, running_ + running_size_, running_before_);
  }
  Pass train = pass(batch, true);
  train.update_running_stats = options.update_running_stats;
  Activation& logits = activations_.back();
  forward(train);
  clear_activation_gradients(batch.n);
  loss_backward(logits, batch, options.loss, options.weight);
  backward(train);
  return measure(logits, batch, options.loss);
}

// Every quantity of `gradient` with its derivative along v, side by side: the parameters move with v, the
// images stand still (their tangent stays the zeros it was allocated with).
RpBatchResult Session::tangent(const RpBatch& batch, const RpGradientOptions& options) {
  require(RP_PROGRAM_TANGENT, "tangent");
  const RpBatchResult result = gradient(batch, options);
  const Pass train = pass(batch, true);
  Activation& logits = activations_.back();
  if (!options.accumulate) std::fill(gradient_tangent_, gradient_tangent_ + total_nnz_, 0.0);
  for (size_t i = 1; i < ops_.size(); i++) ops_[i]->forward_tangent(train);
  loss_backward_tangent(logits, batch, options.loss, options.weight);
  for (size_t i = ops_.size() - 1; i > 0; i--) ops_[i]->backward_tangent(train);
  return result;
}

// PyTorch's SGD: coupled decay, no dampening. The first buffer is the gradient, since the buffers start at
// zero.
void Session::update(const RpSgd& sgd) {
  require(RP_PROGRAM_TRAIN, "update");
  for (Parameter& p : parameters_) {
    for (int64_t j = 0; j < p.nnz; j++) {
      double& w = p.value[p.position(j)];
      const double g = p.gradient[j] + p.weight_decay * w;
      p.momentum[j] = sgd.momentum * p.momentum[j] + g;
      w -= sgd.lr * (sgd.nesterov ? g + sgd.momentum * p.momentum[j] : p.momentum[j]);
    }
  }
}

RpRunResult Session::run(const RpRun& run) {
  require(RP_PROGRAM_TRAIN, "run");
  const RpRunResult result = host_run(*this, run);
  // A failed step is not applied, to the running statistics neither.
  if (result.failed_step >= 0) std::copy(running_before_, running_before_ + running_size_, running_);
  return result;
}

RpBatchResult Session::evaluate(const RpBatch& batch, const RpLoss& loss, double* logits) {
  require(RP_PROGRAM_EVAL, "evaluate");
  load(batch);
  forward(pass(batch, false));
  const Activation& z = activations_.back();
  for (int i = 0; logits && i < batch.n; i++) {
    for (int c = 0; c < z.channels; c++) logits[i * z.channels + c] = z.value[c * batch.n + i];
  }
  return measure(z, batch, loss);
}

RpBatchResult Session::input_gradient(const RpBatch& batch, const RpLoss& loss, const double* input_scale,
                                      double* dx) {
  require(RP_PROGRAM_INPUT_GRADIENT, "input_gradient");
  load(batch);
  Pass to_images = pass(batch, false);
  to_images.input_gradient = true;
  Activation& logits = activations_.back();
  forward(to_images);
  clear_activation_gradients(batch.n);
  loss_backward(logits, batch, loss, 1);
  backward(to_images);
  const Activation& x = activations_[0];
  const int64_t pixels = x.pixels();
  for (int i = 0; i < batch.n; i++) {
    for (int64_t c = 0; c < x.channels; c++) {
      const double* from = x.gradient + (c * batch.n + i) * pixels;
      double* to = dx + (i * x.channels + c) * pixels;
      for (int64_t j = 0; j < pixels; j++) to[j] = input_scale[c] * from[j];
    }
  }
  return measure(logits, batch, loss);
}

// ---- failures

bool Session::gradient_is_finite() { return all_finite(gradient_, total_nnz_); }

std::string Session::non_finite_layer() {
  for (size_t i = 0; i < nodes_.size(); i++) {
    if (!all_finite(activations_[i].value, activations_[i].size(last_n_))) return node_names_[i];
  }
  for (size_t i = parameters_.size(); i-- > 0;) {
    if (!all_finite(parameters_[i].gradient, parameters_[i].nnz)) return parameters_[i].name;
  }
  return "loss";
}

// ---- values

Session::Tensor Session::tensor(int32_t kind, int32_t index) const {
  if (kind == RP_RUNNING) {
    if (index < 0 || index >= static_cast<int32_t>(buffers_.size()))
      fail("[reference] expected a buffer index below %zu, got %d.", buffers_.size(), index);
    return {buffers_[index].value, buffers_[index].numel, nullptr};
  }
  if (index < 0 || index >= static_cast<int32_t>(parameters_.size()))
    fail("[reference] expected a parameter index below %zu, got %d.", parameters_.size(), index);
  const Parameter& p = parameters_[index];
  Tensor found{nullptr, p.nnz, nullptr};
  switch (kind) {
    case RP_VALUE:
      found = {p.value, p.nnz, &p};
      break;
    case RP_DIRECTION:
      found = {p.direction, p.nnz, &p};
      break;
    case RP_GRADIENT:
      found.values = p.gradient;
      break;
    case RP_MOMENTUM:
      found.values = p.momentum;
      break;
    case RP_GRADIENT_TANGENT:
      found.values = p.gradient_tangent;
      break;
    default:
      fail("[reference] expected a tensor kind of engine_abi.h, got %d.", kind);
  }
  if (!found.values)
    fail("[reference] %s: no program of this session has tensor kind %d.", p.name.c_str(), kind);
  return found;
}

void Session::read(int32_t kind, int32_t index, double* out, int64_t count) const {
  const Tensor t = tensor(kind, index);
  if (count != t.count)
    fail("[reference] read: expected room for %lld values, got %lld.", static_cast<long long>(t.count),
         static_cast<long long>(count));
  for (int64_t j = 0; j < count; j++) out[j] = t.values[t.dense ? t.dense->position(j) : j];
}

void Session::write(int32_t kind, int32_t index, const double* values, int64_t count) {
  const Tensor t = tensor(kind, index);
  if (count != t.count)
    fail("[reference] write: expected %lld values, got %lld.", static_cast<long long>(t.count),
         static_cast<long long>(count));
  for (int64_t j = 0; j < count; j++) t.values[t.dense ? t.dense->position(j) : j] = values[j];
}

}  // namespace rp::reference
