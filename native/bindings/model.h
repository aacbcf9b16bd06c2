// The model and the plan's settings as JavaScript hands them over (src/engine/native-model.ts), copied into
// the plain structs of engine_abi.h together with the strings and bitmasks that those point to.
#pragma once
#include <deque>
#include <string>
#include <vector>

#include "bindings/bindings.h"
#include "engine/engine_abi.h"

namespace rp {

class OwnedModel {
 public:
  explicit OwnedModel(Napi::Object);
  OwnedModel(const OwnedModel&) = delete;
  OwnedModel& operator=(const OwnedModel&) = delete;

  const RpModel& abi() const { return model_; }
  // Elements of a packed tensor: nnz of a parameter, numel of a buffer. Throws rp::Error when there is no
  // such one.
  int64_t count(int32_t kind, int32_t index) const;
  int64_t image_values() const;  // C·H·W of the input
  int32_t classes() const;

 private:
  const char* keep(const Napi::Value&);
  RpNode read_node(Napi::Object);
  RpParam read_param(Napi::Object);

  std::vector<RpNode> nodes_;
  std::vector<RpParam> params_;
  std::vector<RpBuffer> buffers_;
  std::deque<std::string> names_;  // stable addresses
  std::deque<std::vector<uint8_t>> bitmasks_;
  RpModel model_{};
};

// RpSessionConfig and the text it points to.
struct OwnedConfig {
  explicit OwnedConfig(Napi::Object);
  OwnedConfig(const OwnedConfig&) = delete;
  OwnedConfig& operator=(const OwnedConfig&) = delete;

  RpSessionConfig abi{};
  std::string plan, tiles;
};

}  // namespace rp
