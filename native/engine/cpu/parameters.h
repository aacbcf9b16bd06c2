// Parameters of a session: values, gradients and momentum of the kept elements alone, each in one contiguous
// array in parameter order (ascending OIHW within one), and the running statistics.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cpu/features.h"
#include "cpu/huge_pages.h"
#include "cpu/threads.h"
#include "engine/engine_abi.h"

namespace rp {
namespace cpu {

struct Parameter {
  std::string name;
  int64_t offset, nnz, numel;  // offset into the packed arrays
  float decay;
  // Where a vector parameter (batch norm, bias) has a mask: packed index of each element, -1: removed.
  std::vector<int32_t> kept;

  int64_t packed_index(int64_t element) const { return kept.empty() ? element : kept[element]; }
};

class Parameters {
 public:
  Parameters(const RpModel&, uint32_t programs, Isa);

  // Bytes of the arrays.
  static int64_t bytes(const RpModel&, uint32_t programs);

  const std::vector<Parameter>& all() const { return parameters_; }
  const Parameter& operator[](int i) const { return parameters_[i]; }

  float* values(int i) const { return values_.data() + parameters_[i].offset; }
  float* gradient(int i) const { return gradient_.data() + parameters_[i].offset; }
  float* direction(int i) const { return direction_.data() + parameters_[i].offset; }
  float* gradient_tangent(int i) const { return gradient_tangent_.data() + parameters_[i].offset; }
  float* running(int buffer) { return running_[buffer].data(); }

  // Element of a vector parameter in one of the arrays above; removed ones are 0 and take no gradient.
  static float element(const Parameter& p, const float* packed, int64_t element) {
    const int64_t at = p.packed_index(element);
    return at < 0 ? 0.0f : packed[at];
  }
  static void put(const Parameter& p, float* packed, int64_t element, double value, bool add) {
    const int64_t at = p.packed_index(element);
    if (at >= 0) packed[at] = static_cast<float>(add ? packed[at] + value : value);
  }

  // The array behind RpTensorKind, checked against count; throws when this session has none.
  float* tensor(int32_t kind, int32_t index, int64_t count);

  void update(const RpSgd&, ThreadTeam&);
  bool gradient_is_finite(ThreadTeam&) const;
  // Last first, which is about the order of backward; -1: all are finite.
  int last_non_finite_gradient() const;

  // Undoes changes of the running statistics since the last save.
  void save_running();
  void restore_running();

 private:
  std::vector<Parameter> parameters_;
  std::vector<std::string> buffer_names_;
  int64_t elements_ = 0;  // kept, of all parameters
  HugePages values_, gradient_, momentum_, direction_, gradient_tangent_;
  std::vector<std::vector<float>> running_, saved_running_;
  const Isa isa_;
};

}  // namespace cpu
}  // namespace rp
