#include "bindings/engine_session.h"

#include <utility>

namespace rp {

RpMemory EngineSession::plan_memory() const {
  RpMemory memory{};
  checked([&](RpError* error) { return api.plan_memory(&model.abi(), &config.abi, &memory, error); });
  return memory;
}

std::string EngineSession::open(const volatile int32_t* cancel) {
  RpSessionConfig cancellable = config.abi;
  cancellable.cancel = cancel;
  checked([&](RpError* error) { return api.create(&model.abi(), &cancellable, &handle, error); });
  return api.plan(handle);
}

std::vector<OwnedOpEvent> EngineSession::stop_profile() {
  const RpOpEvent* events = nullptr;
  int64_t count = 0;
  checked([&](RpError* error) { return api.stop_profile(handle, &events, &count, error); });
  std::vector<OwnedOpEvent> owned;
  owned.reserve(count);
  for (const RpOpEvent* event = events; event != events + count; event++) {
    owned.push_back(
        {event->kind, event->layer ? event->layer : "", event->step, event->start, event->duration});
  }
  return owned;
}

void EngineSession::close() {
  if (handle) api.destroy(std::exchange(handle, nullptr));
}

EpochTotals evaluate_epoch(EngineSession& session, BatchesInUse& batches, const volatile int32_t* cancel) {
  const RpLoss plain{0, 1};
  EpochTotals totals;
  const int64_t steps = batches.source().steps_per_epoch();
  for (int64_t step = 0; step < steps; step++) {
    RpBatch batch{};
    double weight = 1;
    for (int32_t micro = 0;; micro++) {
      if (*cancel) return totals;
      batches.source().fetch(step, micro, &batch, &weight);
      if (batch.n == 0) break;
      RpBatchResult result{};
      checked([&](RpError* error) {
        return session.api.evaluate(session.handle, &batch, &plain, nullptr, &result, error);
      });
      totals.images += batch.n;
      totals.correct += result.correct;
      totals.nll_sum += result.nll * batch.n;
    }
  }
  return totals;
}

}  // namespace rp
