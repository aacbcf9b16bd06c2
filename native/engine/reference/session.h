// A session of the reference engine: the model's activations, parameters and ops, and the passes over a
// batch.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "cpu/threads.h"
#include "engine/host_run.h"
#include "engine/reference/op.h"

namespace rp::reference {

class Session final : public StepEngine {
 public:
  // counting: plans memory only; the session can do nothing else.
  Session(const RpModel&, const RpSessionConfig&, bool counting);

  RpMemory memory() const { return {activation_arena_.bytes(), parameter_arena_.bytes(), 0}; }
  const char* plan() const { return plan_.c_str(); }

  void read(int32_t kind, int32_t index, double* out, int64_t count) const;
  void write(int32_t kind, int32_t index, const double* values, int64_t count);

  RpBatchResult gradient(const RpBatch&, const RpGradientOptions&) override;
  RpBatchResult tangent(const RpBatch&, const RpGradientOptions&);
  void update(const RpSgd&) override;
  RpRunResult run(const RpRun&);
  // logits (n, classes), or null.
  RpBatchResult evaluate(const RpBatch&, const RpLoss&, double* logits);
  // dx (n, C, H, W), channel c times input_scale[c].
  RpBatchResult input_gradient(const RpBatch&, const RpLoss&, const double* input_scale, double* dx);

  bool gradient_is_finite() override;
  std::string non_finite_layer() override;

 private:
  struct Buffer {
    std::string name;
    int64_t numel;
    double* value;
  };

  void make_parameters(const RpModel&);
  void make_nodes(const RpModel&);
  void check_node(const RpModel&, int index) const;
  void make_plan();
  // Throws unless the session was made for the program.
  void require(uint32_t program, const char* function) const;
  Pass pass(const RpBatch&, bool training) const;
  void load(const RpBatch&);
  void forward(const Pass&);
  void backward(const Pass&);
  void clear_activation_gradients(int n);
  // The array behind (kind, index) of `read` and `write`, with its parameter where it is stored dense.
  struct Tensor {
    double* values;
    int64_t count;
    const Parameter* dense;  // null: `values` is packed already
  };
  Tensor tensor(int32_t kind, int32_t index) const;

  uint32_t programs_;
  Needs needs_;
  int max_batch_;
  Arena activation_arena_, parameter_arena_;
  std::unique_ptr<ThreadTeam> team_;
  std::vector<std::string> node_names_;
  std::vector<RpNode> nodes_;
  std::vector<Activation> activations_;   // one a node
  std::vector<std::unique_ptr<Op>> ops_;  // one a node; null for the input
  std::vector<Parameter> parameters_;
  std::vector<Buffer> buffers_;
  int64_t total_nnz_ = 0, running_size_ = 0;
  double* gradient_ = nullptr;          // (total_nnz): every parameter's, in registration order
  double* gradient_tangent_ = nullptr;  // (total_nnz)
  double* momentum_ = nullptr;          // (total_nnz)
  double* running_ = nullptr;           // every buffer's
  double* running_before_ = nullptr;    // as the current optimiser step found them
  double* scratch_ = nullptr;
  int last_n_ = 0;  // images of the last pass
  std::string plan_;
};

}  // namespace rp::reference
