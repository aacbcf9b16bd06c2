// An op of the reference engine: four passes, each a plain formula.
//
//   forward            y  = f(x, w)
//   backward           dx += (∂f/∂x)ᵀ dy,  dw += (∂f/∂w)ᵀ dy
//   forward_tangent    ẏ  = the derivative of forward along (ẋ, ẇ)
//   backward_tangent   the derivative of backward along (ẋ, ẇ, the tangent of dy)
//
// Running the tangents beside forward and backward, with ẇ = v at the parameters and ẋ = 0 at the images,
// leaves the exact Hessian-vector product H v in the tangent of the gradient: forward-over-reverse
// (SPEC 2.6).
#pragma once
#include <memory>

#include "cpu/threads.h"
#include "engine/reference/tensor.h"

namespace rp::reference {

// One pass over one batch.
struct Pass {
  int n;                      // images
  bool batch_statistics;      // batch norm: of the batch (training), or the running ones (evaluation)
  bool update_running_stats;  // batch norm: move the running statistics towards the batch's
  bool parameter_gradients;   // backward fills the parameters' gradients
  bool input_gradient;        // backward must reach the images (node 0); otherwise a convolution stops there
  double* scratch;            // holds a gradient of any one node's parameters; free for the length of a call
  ThreadTeam& team;
};

class Op {
 public:
  virtual ~Op() = default;
  virtual void forward(const Pass&) = 0;
  virtual void backward(const Pass&) = 0;
  virtual void forward_tangent(const Pass&) = 0;
  virtual void backward_tangent(const Pass&) = 0;
};

// What a node's op is made from. Everything pointed to outlives the op.
struct OpSource {
  const RpNode& node;
  Activation* x[2];  // inputs; null: none
  bool x_is_images;  // x[0] is node 0: its gradient is worth a convolution to input_gradient alone
  Activation* y;
  Parameter* params[2];  // null: none
  double* running[2];    // batch norm: mean, variance
  Needs needs;
  int max_batch;
  Arena& activations;  // scratch and saved values are counted with the activations
};

std::unique_ptr<Op> make_conv2d(const OpSource&);  // and linear
std::unique_ptr<Op> make_batch_norm(const OpSource&);
std::unique_ptr<Op> make_relu(const OpSource&);
std::unique_ptr<Op> make_add(const OpSource&);
std::unique_ptr<Op> make_max_pool(const OpSource&);
std::unique_ptr<Op> make_avg_pool(const OpSource&);  // and global_avg_pool

}  // namespace rp::reference
