// The CPU engine behind the C ABI (engine_abi.h).
#include "engine/cpu/session.h"
#include "engine/engines.h"
#include "engine/guard.h"

struct RpSession {
  rp::cpu::Session session;
  RpSession(const RpModel& model, const RpSessionConfig& config) : session(model, config) {}
};

namespace {

int plan_memory(const RpModel* model, const RpSessionConfig* config, RpMemory* memory, RpError* error) {
  return rp::guarded(error, [&] { *memory = rp::cpu::Session::memory(*model, *config); });
}

int create(const RpModel* model, const RpSessionConfig* config, RpSession** session, RpError* error) {
  return rp::guarded(error, [&] { *session = new RpSession(*model, *config); });
}

void destroy(RpSession* session) { delete session; }

const char* plan(RpSession* session) { return session->session.plan_text().c_str(); }

int read(RpSession* session, int32_t kind, int32_t index, void* out, int64_t count, RpError* error) {
  return rp::guarded(error, [&] { session->session.read(kind, index, static_cast<float*>(out), count); });
}

int write(RpSession* session, int32_t kind, int32_t index, const void* values, int64_t count,
          RpError* error) {
  return rp::guarded(error,
                     [&] { session->session.write(kind, index, static_cast<const float*>(values), count); });
}

int gradient(RpSession* session, const RpBatch* batch, const RpGradientOptions* options,
             RpBatchResult* result, RpError* error) {
  return rp::guarded(error, [&] { *result = session->session.gradient(*batch, *options); });
}

int update(RpSession* session, const RpSgd* sgd, RpError* error) {
  return rp::guarded(error, [&] { session->session.update(*sgd); });
}

int run(RpSession* session, const RpRun* run, RpRunResult* result, RpError* error) {
  return rp::guarded(error, [&] { *result = rp::host_run(session->session, *run); });
}

int evaluate(RpSession* session, const RpBatch* batch, const RpLoss* loss, void* logits,
             RpBatchResult* result, RpError* error) {
  return rp::guarded(
      error, [&] { *result = session->session.evaluate(*batch, *loss, static_cast<float*>(logits)); });
}

int input_gradient(RpSession* session, const RpBatch* batch, const RpLoss* loss, const double* input_scale,
                   void* dx, RpBatchResult* result, RpError* error) {
  return rp::guarded(error, [&] {
    *result = session->session.input_gradient(*batch, *loss, input_scale, static_cast<float*>(dx));
  });
}

int tangent(RpSession* session, const RpBatch* batch, const RpGradientOptions* options, RpBatchResult* result,
            RpError* error) {
  return rp::guarded(error, [&] { *result = session->session.tangent(*batch, *options); });
}

int start_profile(RpSession* session, RpError* error) {
  return rp::guarded(error, [&] { session->session.profile().start(); });
}

int stop_profile(RpSession* session, const RpOpEvent** events, int64_t* count, RpError* error) {
  return rp::guarded(error, [&] {
    const std::vector<RpOpEvent>& recorded = session->session.profile().stop();
    *events = recorded.data();
    *count = static_cast<int64_t>(recorded.size());
  });
}

const RpEngineApi kApi = {RP_ENGINE_ABI_VERSION,
                          "cpu",
                          4,
                          plan_memory,
                          create,
                          destroy,
                          plan,
                          read,
                          write,
                          gradient,
                          update,
                          run,
                          evaluate,
                          input_gradient,
                          tangent,
                          start_profile,
                          stop_profile};

}  // namespace

extern "C" const RpEngineApi* rp_cpu_engine(uint32_t abi_version) {
  return abi_version == RP_ENGINE_ABI_VERSION ? &kApi : nullptr;
}
