#include "bindings/model.h"

#include "core/error.h"

namespace rp {
namespace {

double number(Napi::Object object, const char* key) {
  return object.Get(key).As<Napi::Number>().DoubleValue();
}

int32_t integer(Napi::Object object, const char* key) {
  return object.Get(key).As<Napi::Number>().Int32Value();
}

int64_t large(Napi::Object object, const char* key) {
  return object.Get(key).As<Napi::Number>().Int64Value();
}

Napi::Array array(Napi::Object object, const char* key) { return object.Get(key).As<Napi::Array>(); }

int32_t element(Napi::Array list, uint32_t index) { return list.Get(index).As<Napi::Number>().Int32Value(); }

}  // namespace

OwnedModel::OwnedModel(Napi::Object model) {
  const Napi::Array nodes = array(model, "nodes"), params = array(model, "params"),
                    buffers = array(model, "buffers");
  for (uint32_t i = 0; i < nodes.Length(); i++) {
    Napi::HandleScope scope(model.Env());
    nodes_.push_back(read_node(nodes.Get(i).As<Napi::Object>()));
  }
  for (uint32_t i = 0; i < params.Length(); i++) {
    Napi::HandleScope scope(model.Env());
    params_.push_back(read_param(params.Get(i).As<Napi::Object>()));
  }
  for (uint32_t i = 0; i < buffers.Length(); i++) {
    const Napi::Object buffer = buffers.Get(i).As<Napi::Object>();
    buffers_.push_back({keep(buffer.Get("name")), large(buffer, "numel")});
  }
  model_ = {static_cast<int32_t>(nodes_.size()),
            static_cast<int32_t>(params_.size()),
            static_cast<int32_t>(buffers_.size()),
            nodes_.data(),
            params_.data(),
            buffers_.data()};
}

const char* OwnedModel::keep(const Napi::Value& text) {
  names_.push_back(text.As<Napi::String>().Utf8Value());
  return names_.back().c_str();
}

RpNode OwnedModel::read_node(Napi::Object node) {
  RpNode out{};
  out.name = keep(node.Get("name"));
  out.op = integer(node, "op");
  const Napi::Array inputs = array(node, "inputs"), shape = array(node, "shape"),
                    kernel = array(node, "kernel");
  const Napi::Array params = array(node, "params"), buffers = array(node, "buffers");
  for (uint32_t i = 0; i < 2; i++) {
    out.inputs[i] = element(inputs, i);
    out.params[i] = element(params, i);
    out.buffers[i] = element(buffers, i);
  }
  out.channels = element(shape, 0);
  out.height = element(shape, 1);
  out.width = element(shape, 2);
  out.kernel_h = element(kernel, 0);
  out.kernel_w = element(kernel, 1);
  out.stride = integer(node, "stride");
  out.padding = integer(node, "padding");
  out.epsilon = number(node, "epsilon");
  out.momentum = number(node, "momentum");
  return out;
}

RpParam OwnedModel::read_param(Napi::Object param) {
  RpParam out{};
  out.name = keep(param.Get("name"));
  const Napi::Array shape = array(param, "shape");
  if (shape.Length() > RP_MAX_RANK)
    fail("[%s] expected at most %d dimensions, got %u.", out.name, RP_MAX_RANK, shape.Length());
  out.rank = static_cast<int32_t>(shape.Length());
  for (uint32_t i = 0; i < shape.Length(); i++) out.shape[i] = element(shape, i);
  out.numel = large(param, "numel");
  out.nnz = large(param, "nnz");
  out.weight_decay = number(param, "weightDecay");
  const Napi::Value bits = param.Get("bits");
  if (!bits.IsNull()) {
    const Napi::Uint8Array bytes = bits.As<Napi::Uint8Array>();
    if (static_cast<int64_t>(bytes.ByteLength()) < (out.numel + 7) / 8) {
      fail("[%s] expected a bitmask of %lld bytes, got %zu.", out.name,
           static_cast<long long>((out.numel + 7) / 8), bytes.ByteLength());
    }
    bitmasks_.emplace_back(bytes.Data(), bytes.Data() + bytes.ByteLength());
    out.mask = bitmasks_.back().data();
  }
  return out;
}

int64_t OwnedModel::count(int32_t kind, int32_t index) const {
  const int32_t have = kind == RP_RUNNING ? model_.buffer_count : model_.param_count;
  if (kind < RP_VALUE || kind > RP_RUNNING || index < 0 || index >= have) {
    fail("[session] expected tensor kind 0..5 and an index below %d, got kind %d, index %d.", have, kind,
         index);
  }
  return kind == RP_RUNNING ? buffers_[index].numel : params_[index].nnz;
}

int64_t OwnedModel::image_values() const {
  const RpNode& input = nodes_.front();
  return int64_t{input.channels} * input.height * input.width;
}

int32_t OwnedModel::classes() const { return nodes_.back().channels; }

OwnedConfig::OwnedConfig(Napi::Object config) {
  abi.max_batch = integer(config, "maxBatch");
  abi.threads = integer(config, "threads");
  abi.pin_threads = config.Get("pin").ToBoolean();
  abi.programs = static_cast<uint32_t>(integer(config, "programs"));
  const Napi::Value text = config.Get("plan");
  if (text.IsString()) {
    plan = text.As<Napi::String>().Utf8Value();
    abi.plan = plan.c_str();
  }
  abi.measure = config.Get("measure").ToBoolean();
  tiles = config.Get("tiles").As<Napi::String>().Utf8Value();
  abi.tiles = tiles.c_str();
}

}  // namespace rp
