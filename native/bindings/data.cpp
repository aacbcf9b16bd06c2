// Image sets and loaders for src/data/native.ts. Reading, rendering and batch() run on libuv's pool; a
// loader's prefetching threads are its own.
#include <chrono>
#include <functional>
#include <mutex>

#include "bindings/bindings.h"
#include "bindings/errors.h"
#include "data/loader.h"
#include "data/procedural.h"
#include "data/readers.h"

namespace rp {
namespace {

constexpr uint64_t kImageSetTag = 0x7270696d67736574;  // "rpimgset"

struct ImageSetHandle {
  uint64_t tag = kImageSetTag;
  std::shared_ptr<const ImageSet> set;
};

// Runs `work` off the JavaScript thread and settles its promise with what `result` makes there of it.
class Task final : public Napi::AsyncWorker {
 public:
  using Result = std::function<Napi::Value(Napi::Env)>;

  Task(Napi::Env env, std::function<void()> work, Result result)
      : AsyncWorker(env),
        promise_(Napi::Promise::Deferred::New(env)),
        work_(std::move(work)),
        result_(std::move(result)) {}

  Napi::Promise start() {
    Napi::Promise promise = promise_.Promise();
    Queue();
    return promise;
  }

  void Execute() override {
    try {
      work_();
    } catch (...) {
      failure_ = std::current_exception();
    }
  }
  void OnOK() override {
    try {
      if (failure_) std::rethrow_exception(failure_);
      promise_.Resolve(result_(Env()));
    } catch (...) {
      promise_.Reject(to_js_error(Env(), std::current_exception()).Value());
    }
  }

 private:
  Napi::Promise::Deferred promise_;
  std::function<void()> work_;
  Result result_;
  std::exception_ptr failure_;
};

// Every exported function: C++ exceptions become JavaScript ones.
using Function = Napi::Value (*)(const Napi::CallbackInfo&);
template <Function function>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return function(info);
  } catch (...) {
    throw to_js_error(info.Env(), std::current_exception());
  }
}

Napi::Value wrap_set(Napi::Env env, std::shared_ptr<const ImageSet> set) {
  const int64_t bytes = set->resident_bytes();
  Napi::MemoryManagement::AdjustExternalMemory(env, bytes);
  return Napi::External<ImageSetHandle>::New(env, new ImageSetHandle{kImageSetTag, std::move(set)},
                                             [bytes](Napi::Env env, ImageSetHandle* handle) {
                                               Napi::MemoryManagement::AdjustExternalMemory(env, -bytes);
                                               delete handle;
                                             });
}

const std::shared_ptr<const ImageSet>& unwrap_set(const Napi::Value& value) {
  const ImageSetHandle* handle =
      value.IsExternal() ? value.As<Napi::External<ImageSetHandle>>().Data() : nullptr;
  if (!handle || handle->tag != kImageSetTag) fail("[image set] expected an image set of this addon.");
  return handle->set;
}

std::shared_ptr<Loader> unwrap_loader(const Napi::Value& value) {
  const BatchSourceHandle* handle =
      value.IsExternal() ? value.As<Napi::External<BatchSourceHandle>>().Data() : nullptr;
  if (!handle || handle->tag != kBatchSourceTag) fail("[loader] expected a loader of this addon.");
  auto loader = std::dynamic_pointer_cast<Loader>(handle->source);
  if (!loader) fail("[loader] this loader was disposed.");
  return loader;
}

double number(const Napi::Object& object, const char* name) {
  return object.Get(name).ToNumber().DoubleValue();
}
int64_t integer(const Napi::Object& object, const char* name) {
  return object.Get(name).ToNumber().Int64Value();
}
bool flag(const Napi::Object& object, const char* name) { return object.Get(name).ToBoolean().Value(); }

// (paths, cifar100) -> Promise<set>
Napi::Value read_cifar_async(const Napi::CallbackInfo& info) {
  const Napi::Array list = info[0].As<Napi::Array>();
  auto paths = std::make_shared<std::vector<std::string>>();
  for (uint32_t i = 0; i < list.Length(); i++) paths->push_back(list.Get(i).ToString().Utf8Value());
  const bool cifar100 = info[1].ToBoolean().Value();
  auto set = std::make_shared<std::shared_ptr<const ImageSet>>();
  auto* task = new Task(
      info.Env(), [=] { *set = read_cifar(*paths, cifar100); },
      [=](Napi::Env env) { return wrap_set(env, *set); });
  return task->start();
}

// (imagesName, images, labelsName, labels, classes, side) -> set
Napi::Value read_idx_bytes(const Napi::CallbackInfo& info) {
  const auto images = info[1].As<Napi::Uint8Array>(), labels = info[3].As<Napi::Uint8Array>();
  return wrap_set(
      info.Env(),
      read_idx({info[0].ToString().Utf8Value(), images.Data(), static_cast<int64_t>(images.ByteLength())},
               {info[2].ToString().Utf8Value(), labels.Data(), static_cast<int64_t>(labels.ByteLength())},
               info[4].ToNumber().Int32Value(), info[5].ToNumber().Int32Value()));
}

// (shape, classes, pixels, labels) -> set; copies both arrays
Napi::Value make_image_set(const Napi::CallbackInfo& info) {
  const Napi::Array sides = info[0].As<Napi::Array>();
  int lengths[3];
  for (uint32_t i = 0; i < 3; i++) {
    lengths[i] = sides.Get(i).ToNumber().Int32Value();
    if (lengths[i] < 1 || lengths[i] > 1 << 14)
      fail("[image set] expected sides from 1 to 16384, got %d.", lengths[i]);
  }
  const auto pixels = info[2].As<Napi::Uint8Array>();
  const auto labels = info[3].As<Napi::Int32Array>();
  return wrap_set(info.Env(),
                  std::make_shared<ResidentImageSet>(
                      ImageShape{lengths[0], lengths[1], lengths[2]}, info[1].ToNumber().Int32Value(),
                      std::vector<uint8_t>(pixels.Data(), pixels.Data() + pixels.ElementLength()),
                      std::vector<int32_t>(labels.Data(), labels.Data() + labels.ElementLength())));
}

// ({seed, test, count, classes, side, lazy}) -> Promise<set>
Napi::Value procedural_async(const Napi::CallbackInfo& info) {
  const Napi::Object options = info[0].As<Napi::Object>();
  ProceduralSpec spec;
  spec.seed = static_cast<uint64_t>(integer(options, "seed"));
  spec.test = flag(options, "test");
  spec.count = integer(options, "count");
  spec.classes = static_cast<int>(integer(options, "classes"));
  spec.side = static_cast<int>(integer(options, "side"));
  spec.lazy = flag(options, "lazy");
  auto set = std::make_shared<std::shared_ptr<const ImageSet>>();
  auto* task = new Task(
      info.Env(), [=] { *set = procedural_images(spec); },
      [=](Napi::Env env) { return wrap_set(env, *set); });
  return task->start();
}

// (set) -> {count, classes, shape}
Napi::Value image_set_info(const Napi::CallbackInfo& info) {
  const auto& set = unwrap_set(info[0]);
  Napi::Array shape = Napi::Array::New(info.Env(), 3);
  shape.Set(0u, set->shape().channels);
  shape.Set(1u, set->shape().height);
  shape.Set(2u, set->shape().width);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("count", static_cast<double>(set->count()));
  result.Set("classes", set->classes());
  result.Set("shape", shape);
  return result;
}

// (set) -> Int32Array
Napi::Value image_set_labels(const Napi::CallbackInfo& info) {
  const auto& set = unwrap_set(info[0]);
  Napi::Int32Array labels = Napi::Int32Array::New(info.Env(), static_cast<size_t>(set->count()));
  for (int64_t i = 0; i < set->count(); i++) labels.Data()[i] = set->label(i);
  return labels;
}

// (set, index) -> Uint8Array (C, H, W)
Napi::Value image_set_image(const Napi::CallbackInfo& info) {
  const auto& set = unwrap_set(info[0]);
  const int64_t index = info[1].ToNumber().Int64Value();
  if (index < 0 || index >= set->count())
    fail("[image set] expected an index below %lld, got %lld.", static_cast<long long>(set->count()),
         static_cast<long long>(index));
  Napi::Uint8Array out = Napi::Uint8Array::New(info.Env(), static_cast<size_t>(set->shape().bytes()));
  const uint8_t* pixels = set->image(index, out.Data());
  if (pixels != out.Data()) std::copy(pixels, pixels + set->shape().bytes(), out.Data());
  return out;
}

std::vector<double> doubles(const Napi::Value& value) {
  const Napi::Array list = value.As<Napi::Array>();
  std::vector<double> out;
  for (uint32_t i = 0; i < list.Length(); i++) out.push_back(list.Get(i).ToNumber().DoubleValue());
  return out;
}

// (set, {from, to, batchSize, accumulate, shuffle, augment, dropLast, seed, workers, kind, pad, reflect,
// size, mean, std}) -> {native, stepsPerEpoch, shape}
Napi::Value create_loader(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object options = info[1].As<Napi::Object>();
  LoaderSpec spec;
  spec.from = integer(options, "from");
  spec.to = integer(options, "to");
  spec.batch_size = static_cast<int32_t>(integer(options, "batchSize"));
  spec.accumulate = static_cast<int32_t>(integer(options, "accumulate"));
  spec.shuffle = flag(options, "shuffle");
  spec.augment = flag(options, "augment");
  spec.drop_last = flag(options, "dropLast");
  spec.seed = static_cast<uint64_t>(integer(options, "seed"));
  spec.workers = static_cast<int>(integer(options, "workers"));
  TransformSpec& transform = spec.transform;
  const bool resized = options.Get("kind").ToString().Utf8Value() == "resized-crop";
  transform.kind = resized ? TransformSpec::Kind::kResizedCrop : TransformSpec::Kind::kCrop;
  if (resized) {
    transform.size = static_cast<int>(number(options, "size"));
  } else {
    transform.pad = static_cast<int>(number(options, "pad"));
    transform.reflect = flag(options, "reflect");
  }
  transform.mean = doubles(options.Get("mean"));
  transform.std = doubles(options.Get("std"));

  auto loader = std::make_shared<Loader>(unwrap_set(info[0]), spec);
  Napi::Array shape = Napi::Array::New(env, 3);
  shape.Set(0u, loader->output().channels);
  shape.Set(1u, loader->output().height);
  shape.Set(2u, loader->output().width);
  Napi::Object result = Napi::Object::New(env);
  result.Set("stepsPerEpoch", static_cast<double>(loader->steps_per_epoch()));
  result.Set("shape", shape);
  result.Set("native", Napi::External<BatchSourceHandle>::New(
                           env, new BatchSourceHandle{kBatchSourceTag, std::move(loader)},
                           [](Napi::Env, BatchSourceHandle* handle) { delete handle; }));
  return result;
}

// (loader, step, micro) -> Promise<{images, labels, weight}>, prepared apart from the prefetched batches
Napi::Value loader_batch(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto loader = unwrap_loader(info[0]);
  const int64_t step = info[1].ToNumber().Int64Value();
  const int32_t micro = info[2].ToNumber().Int32Value();
  const MicroBatch size = loader->size(step, micro);
  Napi::Float32Array images =
      Napi::Float32Array::New(env, static_cast<size_t>(size.n * loader->output().bytes()));
  Napi::Int32Array labels = Napi::Int32Array::New(env, static_cast<size_t>(size.n));
  Napi::Object result = Napi::Object::New(env);
  result.Set("images", images);
  result.Set("labels", labels);
  result.Set("weight", size.weight);
  auto reference = std::make_shared<Napi::ObjectReference>(Napi::Persistent(result));
  float* image_data = images.Data();
  int32_t* label_data = labels.Data();
  auto* task = new Task(
      env, [=] { loader->prepare(step, micro, image_data, label_data); },
      [=](Napi::Env) { return reference->Value(); });
  return task->start();
}

// (loader, step, micro) -> {images, labels, weight} as an engine fetches it: through the prefetched batches,
// blocking
Napi::Value loader_fetch(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto loader = unwrap_loader(info[0]);
  RpBatch batch;
  double weight = 0;
  std::unique_lock<std::timed_mutex> held(loader->in_use(), std::chrono::seconds(10));
  if (!held) fail("[loader] a session is reading it.");
  loader->fetch(info[1].ToNumber().Int64Value(), info[2].ToNumber().Int32Value(), &batch, &weight);
  const size_t floats = static_cast<size_t>(batch.n * loader->output().bytes());
  Napi::Float32Array images = Napi::Float32Array::New(env, floats);
  Napi::Int32Array labels = Napi::Int32Array::New(env, static_cast<size_t>(batch.n));
  const float* source = static_cast<const float*>(batch.images);
  std::copy(source, source + floats, images.Data());
  std::copy(batch.labels, batch.labels + batch.n, labels.Data());
  Napi::Object result = Napi::Object::New(env);
  result.Set("images", images);
  result.Set("labels", labels);
  result.Set("weight", weight);
  return result;
}

// (loader): frees it once no session uses it
Napi::Value dispose_loader(const Napi::CallbackInfo& info) {
  unwrap_loader(info[0]);
  info[0].As<Napi::External<BatchSourceHandle>>().Data()->source.reset();
  return info.Env().Undefined();
}

}  // namespace

void register_data(Napi::Env env, Napi::Object exports) {
  Napi::Object data = Napi::Object::New(env);
  const auto add = [&](const char* name, auto callback) {
    data.Set(name, Napi::Function::New(env, callback, name));
  };
  add("readCifar", guarded<read_cifar_async>);
  add("readIdx", guarded<read_idx_bytes>);
  add("makeImageSet", guarded<make_image_set>);
  add("proceduralImages", guarded<procedural_async>);
  add("imageSetInfo", guarded<image_set_info>);
  add("imageSetLabels", guarded<image_set_labels>);
  add("imageSetImage", guarded<image_set_image>);
  add("createLoader", guarded<create_loader>);
  add("loaderBatch", guarded<loader_batch>);
  add("loaderFetch", guarded<loader_fetch>);
  add("disposeLoader", guarded<dispose_loader>);
  exports.Set("data", data);
}

}  // namespace rp
