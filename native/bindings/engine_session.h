// One engine's session with the model and settings it was made from. Used by one thread at a time: once open,
// by its JobQueue's.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "bindings/batches.h"
#include "bindings/model.h"
#include "core/error.h"
#include "engine/engine_abi.h"

namespace rp {

// Calls an engine function with an RpError; failure becomes an rp::Error.
template <class Call>
void checked(const Call& call) {
  RpError error;
  error.message[0] = '\0';
  if (call(&error) != 0) {
    error.message[RP_ERROR_BYTES - 1] = '\0';
    throw Error(error.message);
  }
}

// RpOpEvent, with strings of its own: the session may be closed before JavaScript sees it.
struct OwnedOpEvent {
  std::string kind, layer;  // layer empty: the whole network
  int64_t step;
  double start, duration;
};

struct EngineSession {
  EngineSession(const RpEngineApi& engine, Napi::Object js_model, Napi::Object js_config)
      : api(engine), model(js_model), config(js_config) {}
  ~EngineSession() { close(); }
  EngineSession(const EngineSession&) = delete;
  EngineSession& operator=(const EngineSession&) = delete;

  RpMemory plan_memory() const;
  std::string open(const volatile int32_t* cancel);  // its plan
  std::vector<OwnedOpEvent> stop_profile();
  void close();

  const RpEngineApi& api;
  const OwnedModel model;
  const OwnedConfig config;
  RpSession* handle = nullptr;
};

struct EpochTotals {
  int64_t images = 0, correct = 0;
  double nll_sum = 0;  // over images
};

// Eval-mode forward over one epoch, until *cancel is set.
EpochTotals evaluate_epoch(EngineSession&, BatchesInUse&, const volatile int32_t* cancel);

}  // namespace rp
