// Engines and sessions in JavaScript (src/engine/create-session.ts is the one caller, and has validated the
// arguments). A session owns a JobQueue; each method copies what it is given, queues a job and returns a
// promise. Outputs are JavaScript arrays made up front, which the job fills: nothing is held twice.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bindings/batches.h"
#include "bindings/engine_info.h"
#include "bindings/engine_session.h"
#include "bindings/job_queue.h"
#include "bindings/session_values.h"
#include "engine/registry.h"

namespace rp {
namespace {

class NativeSession : public Napi::ObjectWrap<NativeSession> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "NativeSession",
        {InstanceMethod<&NativeSession::open>("open"), InstanceMethod<&NativeSession::gradient>("gradient"),
         InstanceMethod<&NativeSession::update>("update"), InstanceMethod<&NativeSession::step>("step"),
         InstanceMethod<&NativeSession::run>("run"), InstanceMethod<&NativeSession::evaluate>("evaluate"),
         InstanceMethod<&NativeSession::evaluate_stream>("evaluateStream"),
         InstanceMethod<&NativeSession::input_gradient>("inputGradient"),
         InstanceMethod<&NativeSession::tangent>("tangent"), InstanceMethod<&NativeSession::read>("read"),
         InstanceMethod<&NativeSession::write>("write"),
         InstanceMethod<&NativeSession::start_profile>("startProfile"),
         InstanceMethod<&NativeSession::stop_profile>("stopProfile"),
         InstanceMethod<&NativeSession::dispose>("dispose")});
  }

  // (engine name, model, config): reads the arguments; `open` creates.
  explicit NativeSession(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NativeSession>(info) {
    session_ = std::make_shared<EngineSession>(find_engine(info[0].As<Napi::String>()),
                                               info[1].As<Napi::Object>(), info[2].As<Napi::Object>());
    queue_ = std::make_unique<JobQueue>(
        info.Env(), [this](bool busy) { busy ? Ref() : Unref(); }, [this] { session_->close(); });
  }

  // An abandoned session: no job is left, since jobs hold this object.
  void Finalize(Napi::BasicEnv env) override {
    queue_.reset();
    session_.reset();
    report_memory(env, 0);
  }

 private:
  // (cancel: Int32Array): creates the engine's session: {plan, activations, parameters, searches, profiles:
  // whether it can record one}.
  Napi::Value open(const Napi::CallbackInfo& info) {
    Napi::Int32Array cancel = info[0].As<Napi::Int32Array>();
    auto memory = std::make_shared<RpMemory>();
    auto plan = std::make_shared<std::string>();
    Job job;
    job.cancel = cancel.Data();
    job.keep = kept(cancel);
    job.work = [session = session_, memory, plan, cancel = cancel.Data()] {
      *memory = session->plan_memory();
      *plan = session->open(cancel);
    };
    job.result = [this, memory, plan](Napi::Env env, const Job::Kept&) -> Napi::Value {
      report_memory(env, memory->activations + memory->parameters);
      Napi::Object out = memory_result(env, *memory);
      out.Set("plan", *plan);
      out.Set("profiles", session_->api.start_profile != nullptr);
      return out;
    };
    return push(std::move(job));
  }

  // (images, labels, gradient options)
  Napi::Value gradient(const Napi::CallbackInfo& info) {
    return queue_gradient(info, session_->api.gradient);
  }
  Napi::Value tangent(const Napi::CallbackInfo& info) { return queue_gradient(info, session_->api.tangent); }

  using GradientFunction = decltype(RpEngineApi::gradient);
  Napi::Value queue_gradient(const Napi::CallbackInfo& info, GradientFunction function) {
    auto batch = std::make_shared<OwnedBatch>(info[0], info[1]);
    auto result = std::make_shared<RpBatchResult>();
    Job job;
    job.work = [session = session_, function, batch, result,
                options = read_gradient_options(info[2].As<Napi::Object>())] {
      checked([&](RpError* error) {
        return function(session->handle, &batch->abi(), &options, result.get(), error);
      });
    };
    job.result = [result](Napi::Env env, const Job::Kept&) -> Napi::Value {
      return batch_result(env, *result);
    };
    return push(std::move(job));
  }

  // (sgd)
  Napi::Value update(const Napi::CallbackInfo& info) {
    Job job;
    job.work = [session = session_, sgd = read_sgd(info[0].As<Napi::Object>())] {
      checked([&](RpError* error) { return session->api.update(session->handle, &sgd, error); });
    };
    job.result = nothing;
    return push(std::move(job));
  }

  // (images, labels, loss and sgd options)
  Napi::Value step(const Napi::CallbackInfo& info) {
    auto batch = std::make_shared<OwnedBatch>(info[0], info[1]);
    auto result = std::make_shared<RpBatchResult>();
    const Napi::Object options = info[2].As<Napi::Object>();
    const RpGradientOptions gradient{read_loss(options), 1, /*accumulate=*/0, /*update_running_stats=*/1};
    Job job;
    job.work = [session = session_, batch, result, gradient, sgd = read_sgd(options)] {
      checked([&](RpError* error) {
        return session->api.gradient(session->handle, &batch->abi(), &gradient, result.get(), error);
      });
      checked([&](RpError* error) { return session->api.update(session->handle, &sgd, error); });
    };
    job.result = [result](Napi::Env env, const Job::Kept&) -> Napi::Value {
      return batch_result(env, *result);
    };
    return push(std::move(job));
  }

  // (stream, {firstStep, momentum, nesterov, labelSmoothing, logitScale}, lr: Float64Array, cancel:
  // Int32Array)
  Napi::Value run(const Napi::CallbackInfo& info) {
    auto source = fitting_source(info[0]);
    const Napi::Object options = info[1].As<Napi::Object>();
    const Napi::Float64Array lr = info[2].As<Napi::Float64Array>();
    Napi::Int32Array cancel = info[3].As<Napi::Int32Array>();
    Napi::Float64Array losses = Napi::Float64Array::New(info.Env(), lr.ElementLength());

    RpRun run{};
    run.first_step = static_cast<int64_t>(number(options, "firstStep"));
    run.steps = static_cast<int64_t>(lr.ElementLength());
    run.lr = lr.Data();
    run.momentum = number(options, "momentum");
    run.nesterov = options.Get("nesterov").ToBoolean();
    run.loss = read_loss(options);
    run.cancel = cancel.Data();
    run.step_losses = losses.Data();
    auto result = std::make_shared<RpRunResult>();
    result->failed_step = -1;

    Job job;
    job.cancel = cancel.Data();
    job.keep = kept(losses, lr, cancel);
    job.work = [session = session_, source, run, result]() mutable {
      BatchesInUse batches(source, run.cancel);
      if (!batches.held()) return;
      run.source = &batches.abi();
      try {
        checked([&](RpError* error) { return session->api.run(session->handle, &run, result.get(), error); });
      } catch (...) {
        batches.rethrow_failure();
        throw;
      }
    };
    job.result = [result](Napi::Env env, const Job::Kept& kept) -> Napi::Value {
      return run_result(env, *result, kept[0].Value());
    };
    return push(std::move(job));
  }

  // (images, labels, loss)
  Napi::Value evaluate(const Napi::CallbackInfo& info) {
    auto batch = std::make_shared<OwnedBatch>(info[0], info[1]);
    auto result = std::make_shared<RpBatchResult>();
    const size_t count = static_cast<size_t>(batch->abi().n) * session_->model.classes();
    const Napi::TypedArray logits = make_values(info.Env(), count, session_->api.value_bytes);
    Job job;
    job.keep = kept(logits);
    job.work = [session = session_, batch, result, out = data_of(logits),
                loss = read_loss(info[2].As<Napi::Object>())] {
      checked([&](RpError* error) {
        return session->api.evaluate(session->handle, &batch->abi(), &loss, out, result.get(), error);
      });
    };
    job.result = [result](Napi::Env env, const Job::Kept& kept) -> Napi::Value {
      Napi::Object out = batch_result(env, *result);
      out.Set("logits", kept[0].Value());
      return out;
    };
    return push(std::move(job));
  }

  // (stream, cancel: Int32Array): one epoch; {images, correct, nllSum}, of what was seen before a cancel.
  Napi::Value evaluate_stream(const Napi::CallbackInfo& info) {
    auto source = fitting_source(info[0]);
    Napi::Int32Array cancel = info[1].As<Napi::Int32Array>();
    auto totals = std::make_shared<EpochTotals>();
    Job job;
    job.cancel = cancel.Data();
    job.keep = kept(cancel);
    job.work = [session = session_, source, totals, cancel = cancel.Data()] {
      BatchesInUse batches(source, cancel);
      if (batches.held()) *totals = evaluate_epoch(*session, batches, cancel);
    };
    job.result = [totals](Napi::Env env, const Job::Kept&) -> Napi::Value {
      Napi::Object out = Napi::Object::New(env);
      out.Set("images", static_cast<double>(totals->images));
      out.Set("correct", static_cast<double>(totals->correct));
      out.Set("nllSum", totals->nll_sum);
      return out;
    };
    return push(std::move(job));
  }

  // (images, labels, loss, inputScale: Float64Array of C values)
  Napi::Value input_gradient(const Napi::CallbackInfo& info) {
    auto batch = std::make_shared<OwnedBatch>(info[0], info[1]);
    auto result = std::make_shared<RpBatchResult>();
    const Napi::Float64Array scale = info[3].As<Napi::Float64Array>();
    const size_t count = static_cast<size_t>(batch->abi().n) * session_->model.image_values();
    const Napi::TypedArray dx = make_values(info.Env(), count, session_->api.value_bytes);
    Job job;
    job.keep = kept(dx);
    job.work = [session = session_, batch, result, out = data_of(dx),
                loss = read_loss(info[2].As<Napi::Object>()),
                scale = std::vector<double>(scale.Data(), scale.Data() + scale.ElementLength())] {
      checked([&](RpError* error) {
        return session->api.input_gradient(session->handle, &batch->abi(), &loss, scale.data(), out,
                                           result.get(), error);
      });
    };
    job.result = [result](Napi::Env env, const Job::Kept& kept) -> Napi::Value {
      Napi::Object out = batch_result(env, *result);
      out.Set("gradient", kept[0].Value());
      return out;
    };
    return push(std::move(job));
  }

  // (tensor kind, index)
  Napi::Value read(const Napi::CallbackInfo& info) {
    const int32_t kind = info[0].As<Napi::Number>(), index = info[1].As<Napi::Number>();
    const int64_t count = session_->model.count(kind, index);
    const Napi::TypedArray values =
        make_values(info.Env(), static_cast<size_t>(count), session_->api.value_bytes);
    Job job;
    job.keep = kept(values);
    job.work = [session = session_, kind, index, count, out = data_of(values)] {
      checked(
          [&](RpError* error) { return session->api.read(session->handle, kind, index, out, count, error); });
    };
    job.result = [](Napi::Env, const Job::Kept& kept) { return kept[0].Value(); };
    return push(std::move(job));
  }

  // (tensor kind, index, values of the engine's element type)
  Napi::Value write(const Napi::CallbackInfo& info) {
    const int32_t kind = info[0].As<Napi::Number>(), index = info[1].As<Napi::Number>();
    const Napi::TypedArray values = info[2].As<Napi::TypedArray>();
    const int64_t count = static_cast<int64_t>(values.ElementLength());
    const auto* bytes = static_cast<const uint8_t*>(data_of(values));
    Job job;
    job.work = [session = session_, kind, index, count,
                copy = std::vector<uint8_t>(bytes, bytes + values.ByteLength())] {
      checked([&](RpError* error) {
        return session->api.write(session->handle, kind, index, copy.data(), count, error);
      });
    };
    job.result = nothing;
    return push(std::move(job));
  }

  // Only where the engine `profiles`.
  Napi::Value start_profile(const Napi::CallbackInfo&) {
    Job job;
    job.work = [session = session_] {
      checked([&](RpError* error) { return session->api.start_profile(session->handle, error); });
    };
    job.result = nothing;
    return push(std::move(job));
  }

  // [{kind, layer, step, start, duration}]
  Napi::Value stop_profile(const Napi::CallbackInfo&) {
    auto events = std::make_shared<std::vector<OwnedOpEvent>>();
    Job job;
    job.work = [session = session_, events] { *events = session->stop_profile(); };
    job.result = [events](Napi::Env env, const Job::Kept&) -> Napi::Value { return op_events(env, *events); };
    return push(std::move(job));
  }

  Napi::Value dispose(const Napi::CallbackInfo&) {
    Job job;
    job.work = [session = session_] { session->close(); };
    job.result = [this](Napi::Env env, const Job::Kept&) -> Napi::Value {
      report_memory(env, 0);
      return env.Undefined();
    };
    const Napi::Value done = push(std::move(job));
    queue_->finish();
    return done;
  }

  // The stream's source, whose batches this session must be able to hold.
  std::shared_ptr<BatchSource> fitting_source(const Napi::Value& stream) const {
    auto source = batch_source(stream);
    const int32_t planned = session_->config.abi.max_batch;
    if (source->max_batch() > planned) {
      fail("[session] expected a stream with batches of at most %d images (the planned batch), got %d.",
           planned, source->max_batch());
    }
    if (source->image_values() != session_->model.image_values()) {
      fail("[session] expected a stream of images with %lld values (C·H·W), got %lld.",
           static_cast<long long>(session_->model.image_values()),
           static_cast<long long>(source->image_values()));
    }
    return source;
  }

  Napi::Value push(Job job) { return queue_->push(std::move(job)); }

  // Tells V8 how much the session holds, so that its collector weighs the small object rightly.
  void report_memory(Napi::BasicEnv env, int64_t bytes) {
    Napi::MemoryManagement::AdjustExternalMemory(env, bytes - reported_bytes_);
    reported_bytes_ = bytes;
  }

  std::shared_ptr<EngineSession> session_;
  std::unique_ptr<JobQueue> queue_;
  int64_t reported_bytes_ = 0;
};

}  // namespace

void register_session(Napi::Env env, Napi::Object exports) {
  Napi::Object session = Napi::Object::New(env);
  session.Set("NativeSession", NativeSession::define(env));
  add_engine_info(env, session);
  exports.Set("session", session);
}

}  // namespace rp
