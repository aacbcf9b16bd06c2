// The CPU engine's view of a model: the nodes of engine_abi.h fused into steps. A step makes one value.
// Batch norm, ReLU, add and their chains become one `combine` step (ops/combine); linear becomes a 1x1
// convolution, with a `flatten` step before it where its input is a map.
#pragma once
#include <string>
#include <vector>

#include "engine/engine_abi.h"
#include "ops/conv.h"
#include "ops/pool/pool.h"

namespace rp {
namespace cpu {

// The output of a step; value 0 is the input.
struct Value {
  int channels, height, width;
};

struct ConvSpec {
  std::string name;  // of the weight: "blocks.0.conv1.weight"
  ConvShape shape;
  int weight;     // parameter
  int bias = -1;  // parameter, or -1
};

struct BatchNormSpec {
  std::string name;
  int channels;
  int gamma, beta;
  int running_mean, running_var;  // buffers
  double epsilon, momentum;
};

struct Term {
  int value = -1;
  int batch_norm = -1;  // index into StepGraph.batch_norms; -1: the value itself
};

enum class StepKind { conv, combine, max_pool, avg_pool, flatten };

struct Step {
  StepKind kind;
  std::string name;  // of the node, to name it in messages
  int output;        // value
  Term terms[2];     // combine: one or two; otherwise terms[0].value is the input
  int term_count = 1;
  bool relu = false;  // combine
  int conv = -1;      // conv: index into StepGraph.convs
  PoolWindow window;  // pools
  int input() const { return terms[0].value; }
  // Combine: of one term, from which its output, and where ReLU passed, can be told again.
  bool is_batch_norm() const { return term_count == 1 && terms[0].batch_norm >= 0; }
  // Of its terms; -1: none.
  int last_batch_norm() const {
    int t = term_count - 1;
    while (t >= 0 && terms[t].batch_norm < 0) t--;
    return t;
  }
};

struct StepGraph {
  std::vector<Value> values;
  std::vector<Step> steps;
  std::vector<ConvSpec> convs;
  std::vector<BatchNormSpec> batch_norms;
  int logits = 0;  // value
};

// Throws rp::Error when the model is not one that engine_abi.h allows.
StepGraph fuse(const RpModel&);

}  // namespace cpu
}  // namespace rp
