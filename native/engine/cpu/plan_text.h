// The plan as text (engine_abi.h, `plan`): which kernel runs each convolution and with which choice, so that
// a later session can replay it.
#pragma once
#include <string>
#include <vector>

namespace rp {
namespace cpu {

struct PlannedLayer {
  std::string name;   // of the weight
  std::string shape;  // shape_text()
  std::string kernel;
  std::string choice;
  // Of a search: layers of equal key share a choice (RpSessionConfig.tiles); empty: none was made.
  std::string key;
  std::string figures;  // what it measured, "forward 118 dgrad 107 wgrad 106 GFLOP/s"; empty: nothing
};

struct PlanText {
  std::string engine, isa;
  std::vector<PlannedLayer> layers;
};

std::string write_plan(const PlanText&);
// Throws rp::Error where the text is not such a plan.
PlanText read_plan(const std::string&);

}  // namespace cpu
}  // namespace rp
