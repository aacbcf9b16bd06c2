#include "engine/host_run.h"

#include <chrono>
#include <cmath>
#include <cstdio>

#include "core/error.h"

namespace rp {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// One optimiser step's micro-batches, summed.
struct StepTotals {
  int64_t images = 0, correct = 0;
  double loss_sum = 0;  // over images
  double loss = 0;      // weighted: the mean over the step's images
  bool finite = true;
};

bool fetch(const RpRun& run, int64_t step, int32_t micro, RpBatch* batch, double* weight,
           double* wait_seconds) {
  const Clock::time_point start = Clock::now();
  RpError error;
  error.message[0] = '\0';
  *batch = RpBatch{};
  *weight = 1;
  const int status = run.source->fetch(run.source->context, step, micro, batch, weight, &error);
  *wait_seconds += seconds_since(start);
  if (status != 0) {
    error.message[RP_ERROR_BYTES - 1] = '\0';
    fail("%s", error.message);
  }
  return batch->n > 0;
}

StepTotals accumulate_step(StepEngine& engine, const RpRun& run, int64_t step, double* wait_seconds) {
  StepTotals totals;
  RpBatch batch;
  double weight;
  for (int32_t micro = 0; fetch(run, step, micro, &batch, &weight, wait_seconds); micro++) {
    const RpGradientOptions options{run.loss, weight, /*accumulate=*/micro > 0, /*update_running_stats=*/1};
    const RpBatchResult result = engine.gradient(batch, options);
    totals.images += batch.n;
    totals.correct += result.correct;
    totals.loss_sum += result.loss * batch.n;
    totals.loss += result.loss * weight;
    totals.finite = std::isfinite(result.loss);
    // The engine still holds this micro-batch's activations, from which it can name the layer.
    if (!totals.finite) return totals;
  }
  if (totals.images == 0)
    fail("[run] expected at least one image in step %lld, got none.", static_cast<long long>(step));
  totals.finite = engine.gradient_is_finite();
  return totals;
}

}  // namespace

RpRunResult host_run(StepEngine& engine, const RpRun& run) {
  const Clock::time_point start = Clock::now();
  RpRunResult result{};
  result.failed_step = -1;
  for (int64_t i = 0; i < run.steps; i++) {
    if (run.cancel && *run.cancel) break;
    const int64_t step = run.first_step + i;
    const StepTotals totals = accumulate_step(engine, run, step, &result.wait_seconds);
    if (!totals.finite) {
      result.failed_step = step;
      std::snprintf(result.failed_layer, sizeof result.failed_layer, "%s", engine.non_finite_layer().c_str());
      break;
    }
    engine.update({run.lr[i], run.momentum, run.nesterov});
    result.steps_done++;
    result.images += totals.images;
    result.correct += totals.correct;
    result.loss_sum += totals.loss_sum;
    if (run.step_losses) run.step_losses[i] = totals.loss;
  }
  result.seconds = seconds_since(start);
  return result;
}

}  // namespace rp
