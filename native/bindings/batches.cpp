#include "bindings/batches.h"

#include <chrono>
#include <cstring>
#include <utility>

#include "engine/guard.h"

namespace rp {

OwnedBatch::OwnedBatch(const Napi::Value& images, const Napi::Value& labels) {
  const Napi::TypedArray values = images.As<Napi::TypedArray>();
  const Napi::Int32Array classes = labels.As<Napi::Int32Array>();
  storage_.resize((values.ByteLength() + sizeof(double) - 1) / sizeof(double));
  std::memcpy(storage_.data(), static_cast<uint8_t*>(values.ArrayBuffer().Data()) + values.ByteOffset(),
              values.ByteLength());
  labels_.assign(classes.Data(), classes.Data() + classes.ElementLength());
  batch_ = {storage_.data(), static_cast<int32_t>(values.ElementSize()), labels_.data(),
            static_cast<int32_t>(labels_.size())};
}

std::shared_ptr<BatchSource> batch_source(const Napi::Value& value) {
  if (value.IsExternal()) {
    const BatchSourceHandle* handle = value.As<Napi::External<BatchSourceHandle>>().Data();
    if (handle && handle->tag == kBatchSourceTag && handle->source) return handle->source;
  }
  throw Napi::TypeError::New(value.Env(),
                             "[session] expected an open batch stream of this library's data loader.");
}

BatchesInUse::BatchesInUse(std::shared_ptr<BatchSource> source, const volatile int32_t* cancel)
    : source_(std::move(source)), lock_(source_->in_use(), std::defer_lock), abi_{this, fetch} {
  while (!*cancel && !lock_.try_lock_for(std::chrono::milliseconds(20))) {
  }
}

int BatchesInUse::fetch(void* self, int64_t step, int32_t micro, RpBatch* batch, double* weight,
                        RpError* error) {
  auto* in_use = static_cast<BatchesInUse*>(self);
  return guarded(error, [&] {
    try {
      in_use->source_->fetch(step, micro, batch, weight);
    } catch (...) {
      in_use->failure_ = std::current_exception();
      throw;
    }
  });
}

}  // namespace rp
