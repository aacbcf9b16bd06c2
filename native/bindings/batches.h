// Batches on their way from JavaScript to an engine: one that a caller passed, or a stream of native/data.
#pragma once
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

#include "bindings/bindings.h"
#include "data/batch_source.h"

namespace rp {

// A copy of (images: Float32Array | Float64Array, labels: Int32Array): JavaScript may reuse or transfer its
// arrays while the job waits.
class OwnedBatch {
 public:
  OwnedBatch(const Napi::Value& images, const Napi::Value& labels);
  const RpBatch& abi() const { return batch_; }

 private:
  std::vector<double> storage_;  // raw bytes; double for its alignment
  std::vector<int32_t> labels_;
  RpBatch batch_{};
};

// The source behind `BatchStream.native`. Throws a TypeError for anything else.
std::shared_ptr<BatchSource> batch_source(const Napi::Value&);

// A source, held for one job.
class BatchesInUse {
 public:
  // Waits until no other session fetches from it, or until *cancel is set: then held() is false.
  BatchesInUse(std::shared_ptr<BatchSource>, const volatile int32_t* cancel);
  BatchesInUse(const BatchesInUse&) = delete;
  BatchesInUse& operator=(const BatchesInUse&) = delete;

  bool held() const { return lock_.owns_lock(); }
  const RpBatchSource& abi() const { return abi_; }
  BatchSource& source() { return *source_; }
  // Throws what the last fetch through abi() threw, if it did: an engine passes on its text alone.
  void rethrow_failure() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  static int fetch(void* self, int64_t step, int32_t micro, RpBatch*, double* weight, RpError*);

  std::shared_ptr<BatchSource> source_;
  std::unique_lock<std::timed_mutex> lock_;
  std::exception_ptr failure_;
  RpBatchSource abi_;
};

}  // namespace rp
