// A session's profile: which ops ran, when and for how long (engine_abi.h: start_profile). An op is timed
// where the session calls its kernel, on the session's thread, so that the wait for the team's slowest member
// is part of it. Timers do not nest: durations add up to no more than the time that passed.
#pragma once
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "engine/engine_abi.h"

namespace rp {
namespace cpu {

// What is timed. The names of profile.cpp, in this order, are those of ProfileKind in src/engine/session.ts.
enum class OpKind {
  import,           // images into the engine's layout
  conv_forward,     // convolutions, and linear layers as 1x1 ones
  conv_dgrad,       //
  conv_wgrad,       //
  bias_forward,     // y += bias
  bias_wgrad,       //
  border_forward,   // zeros around what a convolution wrote
  border_backward,  // zeros around the gradient that it reads
  statistics,       // batch norm's mean and variance, and the factors that normalise
  combine_forward,  // normalise, add, ReLU: one pass
  combine_sums,     // ReLU's gradient, and batch norm's sums over it
  batch_norm_dgrad,
  gradient_copy,  // of an add, to a plain term
  pool_forward,
  pool_backward,
  flatten_forward,
  flatten_backward,
  loss,
  finite_check,  // of the gradient, before an update
  update,
  pack,  // values into the order in which a convolution's kernels read them
  count
};

class Profile {
 public:
  // Throws when one is under way.
  void start();
  // The ops since start, in the order in which they began; valid until the next start. Throws when none is.
  const std::vector<RpOpEvent>& stop();

  void end_step() { step_++; }

  // For OpTimer: index of the event, or -1 while off.
  int64_t begin(OpKind kind, const char* layer) { return on_ ? record(kind, layer) : -1; }
  void end(int64_t event) {
    if (event >= 0) events_[event].duration = now() - events_[event].start;
  }

  // Work beside an op: its event begins before the op's, or after it, and gets what this thread spent on it,
  // as though it had been a pass of its own. Microseconds; clock() is 0 while off.
  double clock() const { return on_ ? now() : 0; }
  struct Beside {
    int64_t event;  // -1: none
    double spent;
  };
  void end_shared(std::initializer_list<Beside> before, int64_t op, std::initializer_list<Beside> after);

 private:
  int64_t record(OpKind, const char* layer);
  double now() const;

  bool on_ = false;
  int64_t step_ = 0;
  std::chrono::steady_clock::time_point origin_;
  std::vector<RpOpEvent> events_;
};

// Times an op from here to the end of the scope.
class OpTimer {
 public:
  OpTimer(Profile& profile, OpKind kind) : profile_(profile), event_(profile.begin(kind, nullptr)) {}
  // `layer` must live as long as the session.
  OpTimer(Profile& profile, OpKind kind, const std::string& layer)
      : profile_(profile), event_(profile.begin(kind, layer.c_str())) {}
  ~OpTimer() { profile_.end(event_); }
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;

 private:
  Profile& profile_;
  const int64_t event_;
};

}  // namespace cpu
}  // namespace rp
