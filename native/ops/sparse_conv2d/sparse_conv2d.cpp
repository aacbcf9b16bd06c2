// sparse_conv2d: a ConvLayer over listed nonzeros. Forward and dgrad walk their lists tile by tile
// (conv_gather.h). Wgrad keeps one vector of partial sums a nonzero: a part of them that fits L2 stays there
// while all images pass; threads take disjoint outputs, balanced by nonzeros, so that no result depends on
// how many there are.
#include "ops/sparse_conv2d/sparse_conv2d.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "cpu/threads.h"
#include "ops/conv_buffer.h"
#include "ops/conv_choice.h"
#include "ops/conv_gather.h"
#include "ops/conv_kinds.h"
#include "ops/conv_model.h"
#include "ops/conv_pass.h"
#include "ops/sparse_conv2d/sparse_choice.h"
#include "ops/sparse_conv2d/sparse_lists.h"

namespace rp {
namespace {

constexpr int64_t kSumBytes = 640 << 10;  // partial sums that stay in L2 (1 MiB a core)

class SparseWeights final : public ConvWeights {
 public:
  explicit SparseWeights(int64_t nnz) : values(nnz) {}
  std::vector<float> values;  // nnz, in stream order (sparse_lists.h)
};

class SparseConv final : public ConvLayer {
 public:
  SparseConv(const ConvShape& shape, const MaskView& mask, const ConvLayouts& layouts,
             const ConvOptions& options, Isa isa, ThreadTeam& team)
      : shape_(shape),
        nnz_(mask.nnz),
        isa_(isa),
        kernels_(sparse_conv_kernels(isa)),
        threads_(team.size()),
        scratch_(ConvScratch::of(team)),
        forward_(forward_pass(shape, layouts)),
        dy_(layouts.dy) {
    choices_.has_dgrad = layouts.has_dgrad;
    choices_.has_wgrad = layouts.has_wgrad;
    if (layouts.has_dgrad) dgrad_ = dgrad_passes(shape, layouts);
    if (!options.choice.empty()) {
      set_forward(mask, choice_of(options.choice, "forward"));
      if (layouts.has_wgrad) set_wgrad(choice_of(options.choice, "wgrad"), team);
      if (layouts.has_dgrad) set_dgrad(mask, choice_of(options.choice, "dgrad"));
    } else {
      choose(mask, options, team);
    }
    scratch_->reserve(scratch_each(), team);
  }

  std::unique_ptr<ConvWeights> make_weights() const override { return std::make_unique<SparseWeights>(nnz_); }

  void pack(const float* values, ConvWeights& weights, ThreadTeam& team) const override {
    float* stream = static_cast<SparseWeights&>(weights).values.data();
    team.parallel_range(shape_.out_channels, [&](int64_t begin, int64_t end, int) {
      for (int64_t o = begin; o < end; o++) {
        const float* from = values + row_starts_[o];
        for (int b = 0; b < list_.blocks; b++) {
          const int32_t* ends = list_.ends_of(b) + o;
          std::copy(from, from + (ends[1] - ends[0]), stream + ends[0]);
          from += ends[1] - ends[0];
        }
      }
    });
  }

  void forward(const float* x, const ConvWeights& weights, float* y, int blocks, bool add,
               ThreadTeam& team) const override {
    const GatherRun run{forward_, forward_tiling_, choices_.forward, 1, x, y, blocks};
    gather(run, list_, false, weights, add, team);
  }

  void dgrad(const float* dy, const ConvWeights& weights, float* dx, int blocks, bool add,
             ThreadTeam& team) const override {
    for (size_t p = 0; p < dgrad_.size(); p++) {
      if (add && dgrad_lists_[p].empty()) continue;
      const GatherRun run{dgrad_[p], dgrad_tilings_[p], choices_.dgrad, 1, dy, dx, blocks};
      gather(run, dgrad_lists_[p], true, weights, add, team);
    }
  }

  void wgrad(const float* x, const float* dy, float* dw, int blocks, bool add,
             ThreadTeam& team) const override;

  int64_t index_bytes() const override {
    int64_t bytes = list_.bytes() + forward_tiling_.bytes() + wgrad_tiling_.bytes() +
                    static_cast<int64_t>(4 * row_starts_.capacity());
    for (const SparseList& list : dgrad_lists_) bytes += list.bytes();
    for (const Tiling& tiling : dgrad_tilings_) bytes += tiling.bytes();
    return bytes;
  }
  int64_t weights_bytes() const override { return 4 * nnz_; }
  int64_t scratch_bytes() const override { return scratch_each() * threads_; }
  std::string choice() const override { return choices_text(choices_); }
  std::string kernel() const override { return std::string("sparse_conv2d_") + isa_name(isa_); }

 private:
  void gather(const GatherRun& run, const SparseList& list, bool indexed, const ConvWeights& weights,
              bool add, ThreadTeam& team) const {
    const float* values = static_cast<const SparseWeights&>(weights).values.data();
    // Non-temporal stores of half lines would be slower than plain ones.
    const uint32_t out = add                                                      ? kAddOut
                         : run.choice.stream && kernels_.lanes == kImagesPerBlock ? kStreamOut
                                                                                  : 0;
    run_gather(run, team, *scratch_, kernels_.stream_fence, [&](const GatherPlace& place) {
      SparseGatherArgs args;
      args.x = place.x;
      args.x_row = place.x_row;
      args.y = place.y;
      args.y_row = place.y_row;
      args.y_col = place.y_col;
      args.y_channel = place.y_channel;
      args.ends = list.ends_of(place.channel_block) + place.output;
      args.list = list.list.data();
      args.weights = values;
      args.partial = place.partial;
      args.outputs = place.outputs;
      args.flags = (place.first ? kFirstBlock : 0) | (place.last ? kLastBlock : 0) | out;
      kernels_.gather(place.height, place.width, run.pass.x_step, indexed)(args);
    });
  }

  void wgrad_outputs(const float* x, const float* dy, float* dw, int blocks, bool add, int begin, int end,
                     float* sums, int32_t* cursors) const;

  void set_forward(const MaskView& mask, TileChoice choice) {
    choice.channels = std::min(choice.channels, shape_.in_channels);
    choices_.forward = choice;
    forward_tiling_ =
        Tiling(forward_.rows, forward_.cols, choice, has_gather(kernels_, forward_.x_step, false));
    list_ = forward_list(shape_, mask, forward_, choice.channels, &row_starts_);
  }

  void set_dgrad(const MaskView& mask, TileChoice choice) {
    choice.channels = std::min(choice.channels, shape_.out_channels);
    choices_.dgrad = choice;
    dgrad_tilings_.clear();
    for (const ConvPass& pass : dgrad_) {
      dgrad_tilings_.emplace_back(pass.rows, pass.cols, choice, has_gather(kernels_, 1, true));
    }
    dgrad_lists_ = dgrad_lists(shape_, mask, dgrad_, choice.channels, list_);
  }

  void set_wgrad(TileChoice choice, ThreadTeam&) {
    choice.channels = std::min(choice.channels, shape_.in_channels);
    if (choice.channels != list_.channels) {
      fail("[conv] choice \"wgrad=%s\": expected forward's channel block, %d.", tile_text(choice).c_str(),
           list_.channels);
    }
    choices_.wgrad = choice;
    wgrad_tiling_ = Tiling(forward_.rows, forward_.cols, choice, has_wgrad(kernels_, forward_.x_step));
    longest_ = 0;
    for (int b = 0; b < list_.blocks; b++) {
      const int32_t* ends = list_.ends_of(b);
      for (int o = 0; o < list_.outputs; o++) longest_ = std::max(longest_, ends[o + 1] - ends[o]);
    }
    // All images pass over a group of outputs × channels, so a tile streams outputs · positions lines of dy
    // and channels · lines of x, while outputs · channels is bound by the sums held: least when the two are
    // equal.
    const double per_pair =
        std::max(1e-6, static_cast<double>(nnz_) / shape_.out_channels / shape_.in_channels);
    const double halo = static_cast<double>(lines_of(forward_, choice)) / (choice.height * choice.width);
    const double pairs = static_cast<double>(sums_capacity()) / per_pair;
    const double balanced = std::sqrt(pairs * halo);
    wgrad_outputs_ = static_cast<int>(std::clamp(balanced, 16.0, 1e6));
  }

  // The pass with most taps stands for all phases.
  const ConvPass& main_dgrad() const {
    return *std::max_element(dgrad_.begin(), dgrad_.end(), [](const ConvPass& a, const ConvPass& b) {
      return a.taps.size() < b.taps.size();
    });
  }

  void choose(const MaskView& mask, const ConvOptions&, ThreadTeam&);

  int64_t sums_capacity() const {  // nonzeros whose sums are held at once
    return std::max<int64_t>(kSumBytes / (4 * kernels_.lanes), longest_);
  }

  int64_t scratch_each() const {
    int64_t bytes = gather_scratch(forward_, forward_tiling_, choices_.forward);
    for (size_t p = 0; p < dgrad_tilings_.size(); p++) {
      bytes = std::max(bytes, gather_scratch(dgrad_[p], dgrad_tilings_[p], choices_.dgrad));
    }
    if (choices_.has_wgrad) {
      const int64_t sums = std::min(sums_capacity(), nnz_) * 4 * kernels_.lanes;
      bytes = std::max(bytes, sums + 4 * int64_t{shape_.out_channels});
    }
    return (bytes + 63) / 64 * 64;
  }

  ConvShape shape_;
  int64_t nnz_;
  Isa isa_;
  const SparseConvKernels& kernels_;
  int threads_;
  std::shared_ptr<ConvScratch> scratch_;
  ConvPass forward_;
  std::vector<ConvPass> dgrad_;
  Layout dy_;
  ConvChoices choices_;
  SparseList list_;
  std::vector<int32_t> row_starts_;  // out_channels + 1, packed order
  std::vector<SparseList> dgrad_lists_;
  Tiling forward_tiling_, wgrad_tiling_;
  std::vector<Tiling> dgrad_tilings_;
  int32_t longest_ = 0;    // nonzeros of one output in one block, at most
  int wgrad_outputs_ = 1;  // outputs whose sums are held together
};

void SparseConv::wgrad(const float* x, const float* dy, float* dw, int blocks, bool add,
                       ThreadTeam& team) const {
  team.parallel([&](int member) {
    // First output whose row starts at or after this member's share of the nonzeros.
    const auto split = [&](int64_t share) {
      return static_cast<int>(
          std::lower_bound(row_starts_.begin(), row_starts_.end() - 1, nnz_ * share / team.size()) -
          row_starts_.begin());
    };
    const int last = member + 1 == team.size() ? shape_.out_channels : split(member + 1);
    float* sums = scratch_->member(member);
    int32_t* cursors = reinterpret_cast<int32_t*>(sums + std::min(sums_capacity(), nnz_) * kernels_.lanes);
    for (int begin = member == 0 ? 0 : split(member); begin < last;) {
      // The sums of any one channel block must fit; beyond that, few enough outputs to balance traffic.
      int end = begin + 1;
      const auto fits = [&](int outputs_end) {
        for (int b = 0; b < list_.blocks; b++) {
          const int32_t* ends = list_.ends_of(b);
          if (ends[outputs_end] - ends[begin] > sums_capacity()) return false;
        }
        return true;
      };
      while (end < last && end - begin < wgrad_outputs_ && fits(end + 1)) end++;
      wgrad_outputs(x, dy, dw, blocks, add, begin, end, sums, cursors);
      begin = end;
    }
  });
}

// Outputs [begin, end), channel blocks in groups whose sums fit.
void SparseConv::wgrad_outputs(const float* x, const float* dy, float* dw, int blocks, bool add, int begin,
                               int end, float* sums, int32_t* cursors) const {
  const Layout& lx = forward_.x;
  const bool across = choices_.wgrad.across_blocks;
  const int64_t x_row = 4 * (across ? lx.block_stride : lx.row_stride * forward_.x_step);
  const int64_t dy_row = 4 * (across ? dy_.block_stride : dy_.row_stride);
  const int64_t items = wgrad_tiling_.items(blocks);
  const auto count = [&](int b) { return list_.ends_of(b)[end] - list_.ends_of(b)[begin]; };
  const auto x_of = [&](const TileItem& tile) {
    return x + lx.at(tile.block, 0, tile.row * forward_.x_step, tile.col * forward_.x_step);
  };
  const int64_t x_col = int64_t{kImagesPerBlock} * forward_.x_step;
  std::copy(row_starts_.begin() + begin, row_starts_.begin() + end, cursors);

  for (int from = 0; from < list_.blocks;) {
    int to = from;
    int64_t held = 0;
    while (to < list_.blocks && (to == from || held + count(to) <= sums_capacity())) held += count(to++);
    std::memset(sums, 0, held * kernels_.lanes * sizeof(float));
    for (int64_t i = 0; i < items; i++) {
      const TileItem tile = wgrad_tiling_.item(i, blocks);
      const bool prefetch = choices_.wgrad.prefetch && i + 1 < items;
      const TileItem next = prefetch ? wgrad_tiling_.item(i + 1, blocks) : tile;
      const SparseWgrad kernel = kernels_.wgrad(tile.height, tile.width, forward_.x_step);
      SparseWgradArgs args;
      args.x_row = x_row;
      args.dy = reinterpret_cast<const char*>(dy + dy_.at(tile.block, begin, tile.row, tile.col));
      args.dy_row = dy_row;
      args.dy_channel = dy_.channel_stride * 4;
      args.list = list_.list.data();
      args.outputs = end - begin;
      args.sums = sums;
      for (int b = from; b < to; b++) {
        const int64_t channel = int64_t{b} * list_.channels;
        args.x = reinterpret_cast<const char*>(x_of(tile) + channel * lx.channel_stride);
        args.ends = list_.ends_of(b) + begin;
        if (prefetch) {
          // A share of the next tile's outputs beside each channel block.
          const int end_channel = std::min<int>(channel + list_.channels, shape_.in_channels);
          const int outputs = end - begin, groups = to - from;
          prefetch_lines(x_of(next),
                         {static_cast<int>(channel), end_channel, lx.channel_stride, x_row / 4, x_col}, next);
          prefetch_lines(dy + dy_.at(next.block, begin, next.row, next.col),
                         {outputs * (b - from) / groups, outputs * (b - from + 1) / groups,
                          dy_.channel_stride, dy_row / 4, kImagesPerBlock},
                         next);
        }
        kernel(args);
        args.sums += int64_t{count(b)} * kernels_.lanes;
      }
    }
    const float* sum = sums;
    for (int b = from; b < to; b++) {
      const int32_t* ends = list_.ends_of(b);
      for (int o = begin; o < end; o++) {
        const int32_t run = ends[o + 1] - ends[o];
        kernels_.reduce(sum, dw + cursors[o - begin], run, add);
        cursors[o - begin] += run;
        sum += int64_t{run} * kernels_.lanes;
      }
    }
    from = to;
  }
}

void SparseConv::choose(const MaskView& mask, const ConvOptions& options, ThreadTeam& team) {
  const auto forwards =
      gather_choices(forward_, nnz_, has_gather(kernels_, forward_.x_step, false), options.max_blocks);
  const auto wgrads = [&] {
    return wgrad_choices(forward_, nnz_, has_wgrad(kernels_, forward_.x_step), options.max_blocks,
                         list_.channels);
  };
  const auto dgrads = [&] {
    const ConvPass& pass = main_dgrad();
    const int64_t taps = shape_.kernel_h * shape_.kernel_w;
    return gather_choices(pass, nnz_ * static_cast<int64_t>(pass.taps.size()) / taps,
                          has_gather(kernels_, 1, true), options.max_blocks);
  };
  if (!options.measure || nnz_ == 0) {
    set_forward(mask, forwards.front());
    if (choices_.has_wgrad) set_wgrad(wgrads().front(), team);
    if (choices_.has_dgrad) set_dgrad(mask, dgrads().front());
    return;
  }
  const int blocks = std::min(options.max_blocks, kMeasuredBlocks);
  const std::unique_ptr<ConvWeights> weights = make_weights();
  {
    const ConvBuffer x(forward_.x, blocks), y(forward_.y, blocks);
    set_forward(mask, fastest(forwards, [&](const TileChoice& choice) {
                  set_forward(mask, choice);
                  scratch_->reserve(gather_scratch(forward_, forward_tiling_, choices_.forward), team);
                  return [&] { forward(x.base, *weights, y.base, blocks, false, team); };
                }));
    if (choices_.has_wgrad) {
      const ConvBuffer dy(dy_, blocks);
      std::vector<float> dw(nnz_);
      set_wgrad(fastest(wgrads(),
                        [&](const TileChoice& choice) {
                          set_wgrad(choice, team);
                          scratch_->reserve(scratch_each(), team);
                          return [&] { wgrad(x.base, dy.base, dw.data(), blocks, false, team); };
                        }),
                team);
    }
  }
  if (choices_.has_dgrad) {
    const ConvBuffer dy(main_dgrad().x, blocks), dx(main_dgrad().y, blocks);
    set_dgrad(mask, fastest(dgrads(), [&](const TileChoice& choice) {
                set_dgrad(mask, choice);
                scratch_->reserve(scratch_each(), team);
                return [&] { dgrad(dy.base, *weights, dx.base, blocks, false, team); };
              }));
  }
}

}  // namespace

std::unique_ptr<ConvLayer> make_sparse_conv(const ConvShape& shape, const MaskView& mask,
                                            const ConvLayouts& layouts, const ConvOptions& options, Isa isa,
                                            ThreadTeam& team) {
  return std::make_unique<SparseConv>(shape, mask, layouts, options, isa, team);
}

}  // namespace rp
