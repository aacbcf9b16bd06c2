// The training loop of `run`, the same for every engine that computes on the host: fetch micro-batches,
// accumulate their gradients, update. An engine on a device may schedule its own.
#pragma once
#include <string>

#include "engine/engine_abi.h"

namespace rp {

// What the loop needs of an engine. Functions throw rp::Error.
class StepEngine {
 public:
  virtual ~StepEngine() = default;

  virtual RpBatchResult gradient(const RpBatch&, const RpGradientOptions&) = 0;
  virtual void update(const RpSgd&) = 0;

  // Whether every value of the packed gradient buffer is finite.
  virtual bool gradient_is_finite() = 0;
  // Called once, when the loss of the last micro-batch or the gradient buffer is not finite: the layer where
  // it first shows (the first node in forward order with a non-finite output, else the last parameter in
  // backward order, by name). Must not be empty.
  virtual std::string non_finite_layer() = 0;
};

// Runs until done, until *run.cancel is set (looked at before each step), or until a loss or gradient is not
// finite: then failed_step and failed_layer are set and that step's update is left out. Throws rp::Error when
// a fetch or the engine fails.
RpRunResult host_run(StepEngine&, const RpRun& run);

}  // namespace rp
