#include "engine/cpu/profile.h"

#include "core/error.h"

namespace rp {
namespace cpu {
namespace {

constexpr const char* kNames[] = {
    "import",          "conv_forward",     "conv_dgrad",
    "conv_wgrad",      "bias_forward",     "bias_wgrad",
    "border_forward",  "border_backward",  "statistics",
    "combine_forward", "combine_sums",     "batch_norm_dgrad",
    "gradient_copy",   "pool_forward",     "pool_backward",
    "flatten_forward", "flatten_backward", "loss",
    "finite_check",    "update",           "pack",
};
static_assert(sizeof kNames / sizeof kNames[0] == static_cast<size_t>(OpKind::count), "one name a kind");

constexpr size_t kReserved = 1 << 14;  // a few steps, before the first growth

}  // namespace

void Profile::start() {
  if (on_) fail("[cpu] expected no profile under way, got a second start.");
  events_.clear();
  events_.reserve(kReserved);
  step_ = 0;
  on_ = true;
  origin_ = std::chrono::steady_clock::now();
}

const std::vector<RpOpEvent>& Profile::stop() {
  if (!on_) fail("[cpu] expected a profile under way, got none to stop.");
  on_ = false;
  return events_;
}

void Profile::end_shared(std::initializer_list<Beside> before, int64_t op,
                         std::initializer_list<Beside> after) {
  end(op);
  if (op < 0) return;
  double at = events_[op].start;
  const double finish = at + events_[op].duration;
  const auto put = [&](const Beside& beside) {
    if (beside.event < 0) return;
    events_[beside.event].start = at;
    events_[beside.event].duration = beside.spent;
    at += beside.spent;
  };
  for (const Beside& beside : before) put(beside);
  events_[op].start = at;
  at = finish;
  for (const Beside& beside : after) at -= beside.event >= 0 ? beside.spent : 0;
  events_[op].duration = at - events_[op].start;
  for (const Beside& beside : after) put(beside);
}

int64_t Profile::record(OpKind kind, const char* layer) {
  events_.push_back({kNames[static_cast<int>(kind)], layer, step_, 0, 0});
  events_.back().start = now();  // last: a growth of the vector is no op's time
  return static_cast<int64_t>(events_.size()) - 1;
}

double Profile::now() const {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - origin_).count();
}

}  // namespace cpu
}  // namespace rp
