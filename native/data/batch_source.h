// BatchSource: what an engine trains on and evaluates over. fetch gives micro-batch `micro` of optimiser step
// `step`; any order of calls is allowed and gives the same bytes (resume, retries), ascending order is fast.
// This is the C++ side of RpBatchSource (engine/engine_abi.h), through which it reaches an engine.
//
// In JavaScript a source is the External `BatchStream.native`, whose data is a BatchSourceHandle: copy the
// shared_ptr out, so that the source outlives its stream's dispose() for as long as a run still uses it.
#pragma once
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>

#include "engine/engine_abi.h"

namespace rp {

class BatchSource {
 public:
  virtual ~BatchSource() = default;

  // Optimiser steps of one epoch; step / steps_per_epoch() is the epoch, the rest the position in it.
  virtual int64_t steps_per_epoch() const = 0;
  // Micro-batches that a full step has (the last step of an epoch may have fewer).
  virtual int32_t micros_per_step() const = 0;
  // Largest n of any batch.
  virtual int32_t max_batch() const = 0;
  // C·H·W of an image.
  virtual int64_t image_values() const = 0;

  // Fills `batch` and `weight` (n / images of the step); n = 0 when the step has no such micro-batch. The
  // pointers stay valid until the next fetch. Throws rp::Error. One thread at a time.
  virtual void fetch(int64_t step, int32_t micro, RpBatch* batch, double* weight) = 0;

  // Held by a session for as long as it fetches, since a fetch ends the life of the last one's pointers: two
  // sessions may then share a stream.
  std::timed_mutex& in_use() { return in_use_; }

  // The C side; valid while this object lives.
  RpBatchSource abi() {
    return {this,
            [](void* context, int64_t step, int32_t micro, RpBatch* batch, double* weight, RpError* error) {
              try {
                static_cast<BatchSource*>(context)->fetch(step, micro, batch, weight);
                return 0;
              } catch (const std::exception& failure) {
                std::snprintf(error->message, sizeof error->message, "%s", failure.what());
                return 1;
              }
            }};
  }

 private:
  std::timed_mutex in_use_;
};

constexpr uint64_t kBatchSourceTag = 0x7270626174636831;  // "rpbatch1"

struct BatchSourceHandle {
  uint64_t tag = kBatchSourceTag;  // an External has no type of its own: check before use
  std::shared_ptr<BatchSource> source;
};

}  // namespace rp
