// A session of the CPU engine: runs a plan on its own threads. Split over files by phase: session.cpp (making
// one, parameters, whole programs), forward.cpp, backward.cpp, tangent.cpp.
//
// Nothing is allocated inside a step, but for what a profile that is on records; and no result depends on the
// number of threads: work is split over rows or over chunks fixed by the layout, and the sums of chunks are
// added in order.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "cpu/huge_pages.h"
#include "cpu/threads.h"
#include "engine/cpu/parameters.h"
#include "engine/cpu/plan.h"
#include "engine/cpu/profile.h"
#include "engine/host_run.h"
#include "ops/batch_norm/batch_norm.h"
#include "ops/combine/combine.h"
#include "ops/conv.h"
#include "ops/cross_entropy/cross_entropy.h"
#include "ops/pool/pool.h"
#include "ops/sgd/sgd.h"

namespace rp {
namespace cpu {

// One batch norm in the step at hand; a vector has one entry a channel.
struct BatchNormState {
  std::vector<double> mean, inverse_std;
  std::vector<float> mean_float, scale, shift;  // z = (x - mean_float)·scale + shift
  std::vector<float> k1, k2, k3;                // ops/batch_norm: apply
  // Means over (N, H, W), of g and of g·(x - mean).
  std::vector<double> g_mean, gc_mean;
};

// Its derivative along the direction.
struct BatchNormTangent {
  std::vector<double> mean, inverse_std;  // of the statistics
  std::vector<double> x_factor, dx_factor,
      shift;  // z' = x_factor·(x - mean) + dx_factor·(x' - mean') + shift
};

class Session final : public StepEngine {
 public:
  Session(const RpModel&, const RpSessionConfig&);
  ~Session() override;

  static RpMemory memory(const RpModel&, const RpSessionConfig&);

  const std::string& plan_text() const { return plan_text_; }
  void read(int32_t kind, int32_t index, float* out, int64_t count);
  void write(int32_t kind, int32_t index, const float* values, int64_t count);

  RpBatchResult gradient(const RpBatch&, const RpGradientOptions&) override;
  void update(const RpSgd&) override;
  bool gradient_is_finite() override;
  // Also undoes what the failed step did to the running statistics.
  std::string non_finite_layer() override;

  RpBatchResult evaluate(const RpBatch&, const RpLoss&, float* logits);
  RpBatchResult input_gradient(const RpBatch&, const RpLoss&, const double* input_scale, float* dx);
  RpBatchResult tangent(const RpBatch&, const RpGradientOptions&);

  // Off until started. Of a tangent, what it shares with a gradient is recorded.
  Profile& profile() { return profile_; }

 private:
  struct Conv {
    std::unique_ptr<ConvLayer> layer;
    std::unique_ptr<ConvWeights> weights, direction;
  };

  // ---- session.cpp
  void make_convs(const RpModel&, const RpSessionConfig&);
  void pack(int conv);
  void begin(const ProgramPlan&, const RpBatch&);
  float* value(int v) const { return arena_.data() + program_->values[v]; }
  float* gradient_of(int v) const { return arena_.data() + program_->gradients[v]; }
  // Where each thread makes the blocks of a transient value or gradient (ProgramPlan); fills
  // made_values_ or made_gradients_.
  float* const* made(const Layout&, std::vector<float*>& of_members);
  // Blocks of a layout in the batch at hand, and their rows.
  int blocks(const Layout& l) const { return blocks_ * l.parts; }
  int64_t rows(const Layout& l) const { return int64_t{blocks(l)} * l.height; }

  // ---- forward.cpp
  void import(const RpBatch&);
  void forward(bool update_running_stats);
  // Name of the first step whose output is not finite; empty: none. Repeats the last forward.
  std::string first_non_finite_step();
  bool transient_is_finite(const Step&);
  // Step `index`, and the combine step before it, which makes its input.
  void forward_with(const Step& maker, int index, bool update_running_stats);
  void forward_step(const Step&, int index, bool update_running_stats);
  // maker: the combine step that makes its input is to run beside it, with these arguments; null: it has run.
  void conv_forward(const Step&, const Step* maker = nullptr, const CombineArgs& making = {});
  CombineArgs combine_args(const Step&, bool update_running_stats);
  CombineArgs known_combine_args(const Step&) const;
  // term: what is pooled is the ReLU of this batch norm; null: the step's input.
  void pool_forward(const Step&, int index, const CombineTerm* term = nullptr);
  void add_bias(const ConvSpec&, const Layout&, float* y, const float* bias);
  void batch_statistics(const BatchNormSpec&, BatchNormState&, int input, bool update_running_stats);
  void running_statistics(const BatchNormSpec&, BatchNormState&);
  CombineTerm term_of(const Term&) const;
  // To a place that holds a block at a time.
  static CombineArgs made_at(const CombineArgs&, float* to);
  void run_combine(const CombineArgs&);
  // Whether a pass writes a new tensor past the caches: it would not stay there until the next op reads it.
  bool streams(const Layout& l) const { return l.floats(n_) * 4 > (int64_t{32} << 20); }
  // Rows of a pass of its own, or of one that takes turns with a convolution (ops/row_work.h).
  void combine_rows(const CombineArgs&, int64_t begin, int64_t end, bool alone) const;
  void apply_rows(const BatchNormApplyArgs&, int64_t begin, int64_t end, bool alone) const;
  // body(begin, end, turn), where it runs beside a convolution: adds up what this thread spends on it.
  template <class Body>
  auto timed(const Body& body, double* spent) const {
    return [this, body, spent](int64_t begin, int64_t end, const RowTurn& turn) {
      const double start = turn.member == 0 ? profile_.clock() : 0;
      body(begin, end, turn);
      if (turn.member == 0) *spent += profile_.clock() - start;
    };
  }
  RpBatchResult loss(const RpBatch&, const RpLoss&, double weight);

  // ---- backward.cpp
  void backward(bool accumulate);
  void clear_unreached_gradients(float* (Parameters::*array)(int) const);
  void conv_backward(const Step&, const BackwardStep&, bool accumulate);
  void conv_gradients(const Step&, const BackwardStep&, bool accumulate);
  void bias_gradient(const ConvSpec&, int output, const float* dy, float* out, bool accumulate);
  void combine_backward(const Step&, const BackwardStep&, bool accumulate);
  // Of value v; without a choice where its own gradient is stored.
  PooledGradient pooled_gradient(int v) const;
  CombineBackwardArgs sums_args(const Step&, const BackwardStep&);
  void combine_sums(const Step&, const BackwardStep&, bool accumulate);
  void combine_factors(const Step&, bool accumulate);
  BatchNormApplyArgs write_args(const Step&, const BackwardStep&, int term);
  void combine_writes(const Step&, const BackwardStep&);
  void batch_norm_gradients(const Step&, int term, int slot, int slots, bool accumulate);
  void copy_gradient(const float* g, const Layout& from, float* to, const Layout& to_layout, bool add);
  void pool_backward(const Step&, const BackwardStep&, int index, const float* dy, float* dx);
  ReluMask relu_mask(const Step&) const;

  // ---- tangent.cpp
  float* value_tangent(int v) const { return arena_.data() + program_->value_tangents[v]; }
  float* gradient_tangent_of(int v) const { return arena_.data() + program_->gradient_tangents[v]; }
  void tangent_forward_step(const Step&, int index);
  void tangent_conv_forward(const Step&);
  void tangent_combine_forward(const Step&);
  void tangent_pool_forward(const Step&, int index);
  void tangent_statistics(const Term&);
  void tangent_backward_step(const Step&, int index, bool accumulate);
  void tangent_conv_backward(const Step&, const BackwardStep&, bool accumulate);
  void tangent_combine_backward(const Step&, const BackwardStep&, bool accumulate);
  void tangent_batch_norm(const Step&, int term, GradientWrite, bool accumulate);

  Plan plan_;
  const Isa isa_;
  const CombineKernels& combine_;
  const BatchNormKernels& batch_norm_;
  const PoolKernels& pool_;
  ThreadTeam team_;
  Parameters parameters_;
  std::vector<Conv> convs_;
  std::vector<BatchNormState> batch_norms_;
  std::vector<BatchNormTangent> batch_norm_tangents_;
  std::vector<char> reached_;  // per parameter: backward gives it a gradient
  HugePages arena_;
  std::vector<float*> made_values_, made_gradients_;  // per thread
  std::vector<double> sums_;                          // plan_.sum_doubles
  std::vector<std::vector<double>>
      moments_;               // per value that a batch norm reads: Σ x, then Σ x², per channel
  std::vector<char> summed_;  // per value: this forward's convolution left its moments
  std::vector<CrossEntropySums> loss_sums_;         // per image block
  std::vector<float> bias_zero_, bias_one_, bias_;  // a bias as a combine term
  std::string plan_text_;
  Profile profile_;

  // The batch at hand.
  const ProgramPlan* program_ = nullptr;
  RpBatch batch_{};
  int n_ = 0, blocks_ = 0;  // images, and image blocks
};

}  // namespace cpu
}  // namespace rp
