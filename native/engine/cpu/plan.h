// The plan: made once, from the step graph and the programs asked for. It fixes the layout of every value and
// gradient, which buffers a backward step writes, adds to or takes over, and where each buffer lies in the
// one arena (by liveness, so that buffers whose lives do not overlap share memory).
//
// Borders: producers write them. An elementwise kernel always leaves the border of what it writes zero; a
// convolution does not, and where another convolution reads its output the plan says so (zero_border).
#pragma once
#include <cstdint>
#include <vector>

#include "core/layout.h"
#include "engine/cpu/graph.h"

namespace rp {
namespace cpu {

// What a backward step does with the gradient of one of its inputs.
enum class GradientWrite {
  none,   // not needed
  alias,  // takes over the buffer of the step's own output gradient
  write,  // first contribution
  add,    // a later one
};

struct BackwardStep {
  bool reached = false;                                                 // has an output gradient
  GradientWrite write[2] = {GradientWrite::none, GradientWrite::none};  // per term
  // Of a combine step: the value whose gradient holds g (ops/combine/combine.h) behind the first pass: its
  // own output, or a plain term, whose rows are others.
  int g = -1;
  bool zero_border = false;  // conv: dy's border must be cleared first
  PhaseWrite write_dx;       // conv: of which phases
  // Beside a convolution's dgrad (ops/row_work.h). Of the convolution: the combine step whose last write
  // makes its dy, and the one whose first pass reads its dx; -1: none. Of a combine step: what of it runs
  // there.
  int makes_dy = -1, reads_dx = -1;
  bool sums_beside = false, write_beside = false;
  // Of a convolution: dgrad and wgrad run together, on a transient dy. makes_x: the combine step that makes
  // its input once more, where that is transient too; -1: it is stored.
  bool joint = false;
  int makes_x = -1;
};

// One of RpProgram: what runs, and where its buffers lie. Offsets are in floats, of the tensor's base
// pointer; -1: no such buffer.
struct ProgramPlan {
  uint32_t program = 0;
  bool batch_statistics() const { return program == RP_PROGRAM_TRAIN || program == RP_PROGRAM_TANGENT; }
  bool backward() const { return program != RP_PROGRAM_EVAL; }
  bool weight_gradients() const { return batch_statistics(); }

  std::vector<char> needs_gradient;  // per value
  std::vector<int64_t> values, gradients;
  std::vector<int64_t> value_tangents, gradient_tangents;  // tangent only
  std::vector<int64_t> choices;                            // max pools, per step: bytes, see PoolArgs.choice
  // Per step: a combine that runs beside the convolution after it, or within the max pool.
  std::vector<char> beside_next;
  // Per value: whether it, or its gradient, is transient, stored nowhere: made in turns with the convolution
  // that reads it, a block at a time in memory of each thread, or by the max pool that reads it.
  std::vector<char> transient_values, transient_gradients;
  // Per value: the max pool that its gradient is taken from wherever it is needed
  // (ops/pool/pooled_gradient.h); -1: it is stored, or transient.
  std::vector<int> pooled_by;
  // Per value: the convolution's output in whose place its gradient is written, row by row behind the rows
  // that dy was made from, which nothing reads again; -1: it has memory of its own.
  std::vector<int> in_place_of;
  std::vector<BackwardStep> backward_steps;
  int64_t arena_floats = 0;
};

struct Plan {
  StepGraph graph;
  int max_batch = 0;
  uint32_t programs = 0;
  std::vector<Layout> values, gradients;  // per value
  std::vector<ConvShape> conv_shapes;     // per conv, on the rows of these layouts
  std::vector<char> conv_dgrad;           // per conv: some program needs its dx
  bool conv_wgrad = false;
  std::vector<char> conv_joint;  // per conv: BackwardStep::joint where its dy is made beside it
  std::vector<char> conv_makes_x, conv_makes_dy;  // per conv: in some program its input, its dy is transient
  std::vector<ProgramPlan> program_plans;
  int threads = 1;
  int64_t transient_floats = 0;  // of one block of any transient tensor; each thread has room for two
  int64_t transient_begin = 0;   // where they lie in the arena
  int64_t arena_floats = 0;      // of the largest program, and of transient tensors
  int64_t sum_doubles = 0;       // scratch for batch norm's partial sums

  const ProgramPlan& program(uint32_t which) const;  // throws when it was not asked for
  ConvLayouts conv_layouts(int conv) const;
  int blocks() const { return image_blocks(max_batch); }
  int blocks_of(int conv) const;  // of the layouts that it works on
  // Whether whole blocks of its layouts, and whole parts of them, give every thread as much to do.
  bool shares_blocks(int conv) const;
};

Plan make_plan(const RpModel&, const RpSessionConfig&);

}  // namespace cpu
}  // namespace rp
