// Option and result structs of engine_abi.h, from and to JavaScript. Names are those of
// src/engine/session.ts; every option is given (src/engine/create-session.ts fills in the defaults).
#pragma once
#include <cstdint>
#include <vector>

#include "bindings/bindings.h"
#include "bindings/engine_session.h"
#include "bindings/job_queue.h"
#include "engine/engine_abi.h"

namespace rp {

inline double number(Napi::Object object, const char* key) {
  return object.Get(key).As<Napi::Number>().DoubleValue();
}

inline RpLoss read_loss(Napi::Object options) {
  return {number(options, "labelSmoothing"), number(options, "logitScale")};
}

inline RpSgd read_sgd(Napi::Object options) {
  return {number(options, "lr"), number(options, "momentum"), options.Get("nesterov").ToBoolean()};
}

inline RpGradientOptions read_gradient_options(Napi::Object options) {
  return {read_loss(options), number(options, "weight"), options.Get("accumulate").ToBoolean(),
          options.Get("updateRunningStats").ToBoolean()};
}

inline Napi::Object batch_result(Napi::Env env, const RpBatchResult& result) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("loss", result.loss);
  out.Set("nll", result.nll);
  out.Set("correct", static_cast<double>(result.correct));
  return out;
}

inline Napi::Object run_result(Napi::Env env, const RpRunResult& result, Napi::Value step_losses) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("stepsDone", static_cast<double>(result.steps_done));
  out.Set("images", static_cast<double>(result.images));
  out.Set("correct", static_cast<double>(result.correct));
  out.Set("lossSum", result.loss_sum);
  out.Set("stepLosses", step_losses);
  out.Set("waitSeconds", result.wait_seconds);
  out.Set("seconds", result.seconds);
  out.Set("failedStep", static_cast<double>(result.failed_step));
  out.Set("failedLayer", Napi::String::New(env, result.failed_layer));
  return out;
}

inline Napi::Object memory_result(Napi::Env env, const RpMemory& memory) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("activations", static_cast<double>(memory.activations));
  out.Set("parameters", static_cast<double>(memory.parameters));
  out.Set("searches", memory.searches);
  return out;
}

inline Napi::Array op_events(Napi::Env env, const std::vector<OwnedOpEvent>& events) {
  Napi::Array out = Napi::Array::New(env, events.size());
  for (size_t i = 0; i < events.size(); i++) {
    const Napi::HandleScope scope(env);
    const OwnedOpEvent& event = events[i];
    Napi::Object one = Napi::Object::New(env);
    one.Set("kind", event.kind);
    one.Set("layer", event.layer.empty() ? env.Null() : Napi::String::New(env, event.layer));
    one.Set("step", static_cast<double>(event.step));
    one.Set("start", event.start);
    one.Set("duration", event.duration);
    out.Set(static_cast<uint32_t>(i), one);
  }
  return out;
}

inline Napi::Value nothing(Napi::Env env, const Job::Kept&) { return env.Undefined(); }

// A Float32Array or Float64Array of the engine's element type.
inline Napi::TypedArray make_values(Napi::Env env, size_t count, int32_t value_bytes) {
  if (value_bytes == 8) return Napi::Float64Array::New(env, count);
  return Napi::Float32Array::New(env, count);
}

inline void* data_of(const Napi::TypedArray& values) {
  return static_cast<uint8_t*>(values.ArrayBuffer().Data()) + values.ByteOffset();
}

// References that keep the values' memory, in the order given.
template <class... Values>
Job::Kept kept(const Values&... values) {
  Job::Kept references;
  (references.push_back(Napi::Persistent(static_cast<const Napi::Value&>(values))), ...);
  return references;
}

}  // namespace rp
