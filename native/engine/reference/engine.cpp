// The reference engine's table of functions (engine_abi.h): float64, plain loops, any graph. The golden
// numbers run on it to 1e-10 (SPEC 9), and the other engines are tested against it.
#include "engine/engines.h"
#include "engine/guard.h"
#include "engine/reference/session.h"

namespace rp::reference {
namespace {

Session& of(RpSession* session) { return *reinterpret_cast<Session*>(session); }

int plan_memory(const RpModel* model, const RpSessionConfig* config, RpMemory* memory, RpError* error) {
  return guarded(error, [&] { *memory = Session(*model, *config, /*counting=*/true).memory(); });
}

int create(const RpModel* model, const RpSessionConfig* config, RpSession** session, RpError* error) {
  return guarded(error, [&] {
    *session = reinterpret_cast<RpSession*>(new Session(*model, *config, /*counting=*/false));
  });
}

void destroy(RpSession* session) { delete reinterpret_cast<Session*>(session); }

const char* plan(RpSession* session) { return of(session).plan(); }

int read(RpSession* session, int32_t kind, int32_t index, void* out, int64_t count, RpError* error) {
  return guarded(error, [&] { of(session).read(kind, index, static_cast<double*>(out), count); });
}

int write(RpSession* session, int32_t kind, int32_t index, const void* values, int64_t count,
          RpError* error) {
  return guarded(error, [&] { of(session).write(kind, index, static_cast<const double*>(values), count); });
}

int gradient(RpSession* session, const RpBatch* batch, const RpGradientOptions* options,
             RpBatchResult* result, RpError* error) {
  return guarded(error, [&] { *result = of(session).gradient(*batch, *options); });
}

int update(RpSession* session, const RpSgd* sgd, RpError* error) {
  return guarded(error, [&] { of(session).update(*sgd); });
}

int run(RpSession* session, const RpRun* run, RpRunResult* result, RpError* error) {
  return guarded(error, [&] { *result = of(session).run(*run); });
}

int evaluate(RpSession* session, const RpBatch* batch, const RpLoss* loss, void* logits,
             RpBatchResult* result, RpError* error) {
  return guarded(error, [&] { *result = of(session).evaluate(*batch, *loss, static_cast<double*>(logits)); });
}

int input_gradient(RpSession* session, const RpBatch* batch, const RpLoss* loss, const double* input_scale,
                   void* dx, RpBatchResult* result, RpError* error) {
  return guarded(error, [&] {
    *result = of(session).input_gradient(*batch, *loss, input_scale, static_cast<double*>(dx));
  });
}

int tangent(RpSession* session, const RpBatch* batch, const RpGradientOptions* options, RpBatchResult* result,
            RpError* error) {
  return guarded(error, [&] { *result = of(session).tangent(*batch, *options); });
}

constexpr RpEngineApi kApi = {RP_ENGINE_ABI_VERSION,
                              "reference",
                              /*value_bytes=*/8,
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
                              /*start_profile=*/nullptr,
                              /*stop_profile=*/nullptr};

}  // namespace
}  // namespace rp::reference

extern "C" const RpEngineApi* rp_reference_engine(uint32_t abi_version) {
  return abi_version == RP_ENGINE_ABI_VERSION ? &rp::reference::kApi : nullptr;
}
