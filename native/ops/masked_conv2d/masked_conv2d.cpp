// masked_conv2d: a ConvLayer of a mask's kept weights on the dense kernels, for masks that keep most of them.
// Packing spreads the kept values over a dense array, zeros between them; wgrad computes every weight's
// gradient and gathers the kept ones.
#include <cstring>

#include "cpu/threads.h"
#include "ops/conv_choice.h"
#include "ops/conv_kinds.h"
#include "ops/conv_scratch.h"
#include "ops/mask_bits.h"

namespace rp {
namespace {

class MaskedConv final : public ConvLayer {
 public:
  MaskedConv(const ConvShape& shape, const MaskView& mask, const ConvLayouts& layouts,
             const ConvOptions& options, Isa isa, ThreadTeam& team)
      : numel_(shape.numel()),
        row_(numel_ / shape.out_channels),
        bits_(mask.bits, mask.bits + (numel_ + 7) / 8),
        isa_(isa),
        scratch_(ConvScratch::of(team)) {
    ConvOptions tiles = options;
    tiles.choice = tiles_of_choice(options.choice);
    dense_ = make_dense_conv(shape, layouts, tiles, isa, team);
    row_starts_.reserve(shape.out_channels);
    int32_t kept = 0;
    for (int o = 0; o < shape.out_channels; o++) {
      row_starts_.push_back(kept);
      for_each_kept(o, [&](int64_t) { kept++; });
    }
    scratch_->reserve(0, every_weight_bytes(), team);
  }

  std::unique_ptr<ConvWeights> make_weights() const override { return dense_->make_weights(); }

  void pack(const float* values, ConvWeights& weights, ThreadTeam& team) const override {
    float* every = scratch_->common();
    team.parallel_range(outputs(), [&](int64_t begin, int64_t end, int) {
      std::memset(every + begin * row_, 0, (end - begin) * row_ * sizeof(float));
      for (int64_t o = begin; o < end; o++) {
        const float* from = values + row_starts_[o];
        for_each_kept(o, [&](int64_t i) { every[i] = *from++; });
      }
    });
    dense_->pack(every, weights, team);
  }

  void forward(const float* x, const ConvWeights& weights, float* y, int blocks, bool add, ThreadTeam& team,
               const ConvSums* sums, const ConvCompanions& beside) const override {
    dense_->forward(x, weights, y, blocks, add, team, sums, beside);
  }
  int64_t sum_rows(int blocks) const override { return dense_->sum_rows(blocks); }
  void dgrad(const float* dy, const ConvWeights& weights, float* dx, int blocks, PhaseWrite write,
             ThreadTeam& team, const ConvCompanions& beside) const override {
    dense_->dgrad(dy, weights, dx, blocks, write, team, beside);
  }

  void wgrad(const float* x, const float* dy, float* dw, int blocks, bool add,
             ThreadTeam& team) const override {
    float* every = scratch_->common();
    dense_->wgrad(x, dy, every, blocks, false, team);
    put_kept(every, dw, add, team);
  }
  bool one_backward_kernel() const override { return false; }
  void backward(const ConvBackward& run, const ConvWeights& weights, int blocks,
                ThreadTeam& team) const override {
    ConvBackward dense = run;
    dense.dw = scratch_->common();
    dense.add_dw = false;
    dense_->backward(dense, weights, blocks, team);
    put_kept(dense.dw, run.dw, run.add_dw, team);
  }

  int64_t index_bytes() const override {
    return dense_->index_bytes() + static_cast<int64_t>(bits_.capacity() + 4 * row_starts_.capacity());
  }
  int64_t weights_bytes() const override { return dense_->weights_bytes(); }
  int64_t scratch_bytes() const override { return dense_->scratch_bytes() + every_weight_bytes(); }
  std::string choice() const override { return kOnDenseKernels + dense_->choice(); }
  std::string kernel() const override { return std::string("masked_conv2d_") + isa_name(isa_); }

 private:
  int64_t outputs() const { return static_cast<int64_t>(row_starts_.size()); }
  int64_t every_weight_bytes() const { return (4 * numel_ + 63) / 64 * 64; }

  // visit(element) of one output, ascending.
  template <class Visit>
  void for_each_kept(int64_t output, const Visit& visit) const {
    for_each_bit(bits_.data(), output * row_, (output + 1) * row_, visit);
  }

  // Of every weight's gradient, those of the kept.
  void put_kept(const float* every, float* dw, bool add, ThreadTeam& team) const {
    team.parallel_range(outputs(), [&](int64_t begin, int64_t end, int) {
      for (int64_t o = begin; o < end; o++) {
        float* to = dw + row_starts_[o];
        for_each_kept(o, [&](int64_t i) {
          *to = add ? *to + every[i] : every[i];
          to++;
        });
      }
    });
  }

  int64_t numel_, row_;  // weights; of one output
  std::vector<uint8_t> bits_;
  Isa isa_;
  std::shared_ptr<ConvScratch> scratch_;
  std::unique_ptr<ConvLayer> dense_;
  std::vector<int32_t> row_starts_;  // of each output, in packed order
};

}  // namespace

std::unique_ptr<ConvLayer> make_masked_conv(const ConvShape& shape, const MaskView& mask,
                                            const ConvLayouts& layouts, const ConvOptions& options, Isa isa,
                                            ThreadTeam& team) {
  return std::make_unique<MaskedConv>(shape, mask, layouts, options, isa, team);
}

}  // namespace rp
