#include "engine/cpu/parameters.h"

#include <algorithm>
#include <atomic>

#include "core/error.h"
#include "ops/sgd/sgd.h"

namespace rp {
namespace cpu {
namespace {

// Convolutions keep their own index of the mask; vectors need one here.
std::vector<int32_t> kept_elements(const RpParam& param) {
  if (!param.mask || param.rank > 1) return {};
  std::vector<int32_t> kept(param.numel, -1);
  int32_t next = 0;
  for (int64_t i = 0; i < param.numel; i++) {
    if (param.mask[i >> 3] >> (i & 7) & 1) kept[i] = next++;
  }
  return kept;
}

int64_t total_nnz(const RpModel& model) {
  int64_t total = 0;
  for (int i = 0; i < model.param_count; i++) total += model.params[i].nnz;
  return total;
}

bool has_gradient(uint32_t programs) { return programs & (RP_PROGRAM_TRAIN | RP_PROGRAM_TANGENT); }

const char* kind_name(int32_t kind) {
  switch (kind) {
    case RP_VALUE:
      return "value";
    case RP_GRADIENT:
      return "gradient";
    case RP_MOMENTUM:
      return "momentum";
    case RP_DIRECTION:
      return "direction";
    case RP_GRADIENT_TANGENT:
      return "gradient tangent";
    default:
      return "running statistic";
  }
}

}  // namespace

Parameters::Parameters(const RpModel& model, uint32_t programs, Isa isa) : isa_(isa) {
  for (int i = 0; i < model.param_count; i++) {
    const RpParam& p = model.params[i];
    const float decay = static_cast<float>(p.weight_decay);
    parameters_.push_back({p.name, elements_, p.nnz, p.numel, decay, kept_elements(p)});
    elements_ += p.nnz;
  }
  values_ = HugePages(elements_);
  if (has_gradient(programs)) gradient_ = HugePages(elements_);
  if (programs & RP_PROGRAM_TRAIN) momentum_ = HugePages(elements_);
  if (programs & RP_PROGRAM_TANGENT) {
    direction_ = HugePages(elements_);
    gradient_tangent_ = HugePages(elements_);
  }
  for (int i = 0; i < model.buffer_count; i++) {
    buffer_names_.push_back(model.buffers[i].name);
    running_.emplace_back(model.buffers[i].numel, 0.0f);
  }
  saved_running_ = running_;
}

int64_t Parameters::bytes(const RpModel& model, uint32_t programs) {
  int64_t arrays = 1;
  if (has_gradient(programs)) arrays += 1;
  if (programs & RP_PROGRAM_TRAIN) arrays += 1;
  if (programs & RP_PROGRAM_TANGENT) arrays += 2;
  int64_t floats = arrays * total_nnz(model);
  for (int i = 0; i < model.buffer_count; i++) floats += 2 * model.buffers[i].numel;
  return floats * static_cast<int64_t>(sizeof(float));
}

float* Parameters::tensor(int32_t kind, int32_t index, int64_t count) {
  const bool running = kind == RP_RUNNING;
  const int64_t known = running ? running_.size() : parameters_.size();
  if (index < 0 || index >= known)
    fail("[cpu] expected a %s index below %lld, got %d.", kind_name(kind), static_cast<long long>(known),
         index);
  const std::string& name = running ? buffer_names_[index] : parameters_[index].name;
  const int64_t expected = running ? running_[index].size() : parameters_[index].nnz;
  if (count != expected)
    fail("[%s] expected %lld values of %s, got %lld.", name.c_str(), static_cast<long long>(expected),
         kind_name(kind), static_cast<long long>(count));
  if (running) return running_[index].data();
  const HugePages* pages = kind == RP_VALUE              ? &values_
                           : kind == RP_GRADIENT         ? &gradient_
                           : kind == RP_MOMENTUM         ? &momentum_
                           : kind == RP_DIRECTION        ? &direction_
                           : kind == RP_GRADIENT_TANGENT ? &gradient_tangent_
                                                         : nullptr;
  if (!pages) fail("[cpu] unknown tensor kind %d.", kind);
  if (!pages->data()) {
    if (count == 0) return nullptr;
    fail("[%s] this session's programs keep no %s.", name.c_str(), kind_name(kind));
  }
  return pages->data() + parameters_[index].offset;
}

void Parameters::update(const RpSgd& sgd, ThreadTeam& team) {
  SgdArgs args;
  args.w = values_.data();
  args.dw = gradient_.data();
  args.v = momentum_.data();
  args.lr = static_cast<float>(sgd.lr);
  args.momentum = static_cast<float>(sgd.momentum);
  args.nesterov = sgd.nesterov != 0;
  const SgdKernels& kernels = sgd_kernels(isa_);
  team.parallel_range(elements_, [&](int64_t begin, int64_t end, int) {
    SgdArgs mine = args;
    for (const Parameter& p : parameters_) {
      const int64_t from = std::max(begin, p.offset), to = std::min(end, p.offset + p.nnz);
      if (from >= to) continue;
      mine.decay = p.decay;
      kernels.update(mine, from, to);
    }
  });
}

bool Parameters::gradient_is_finite(ThreadTeam& team) const {
  const SgdKernels& kernels = sgd_kernels(isa_);
  std::atomic<bool> finite{true};
  team.parallel_range(elements_, [&](int64_t begin, int64_t end, int) {
    if (!kernels.all_finite(gradient_.data(), begin, end)) finite = false;
  });
  return finite;
}

int Parameters::last_non_finite_gradient() const {
  for (int i = static_cast<int>(parameters_.size()) - 1; i >= 0; i--) {
    const Parameter& p = parameters_[i];
    if (!sgd_kernels(isa_).all_finite(gradient_.data(), p.offset, p.offset + p.nnz)) return i;
  }
  return -1;
}

void Parameters::save_running() {
  for (size_t i = 0; i < running_.size(); i++)
    std::copy(running_[i].begin(), running_[i].end(), saved_running_[i].begin());
}

void Parameters::restore_running() {
  for (size_t i = 0; i < running_.size(); i++)
    std::copy(saved_running_[i].begin(), saved_running_[i].end(), running_[i].begin());
}

}  // namespace cpu
}  // namespace rp
