// sparse_conv2d: a ConvLayer over listed nonzeros. Forward and dgrad walk their lists tile by tile
// (conv_gather.h). Of wgrad's partial sums a part that fits L2 stays there while images pass. Of a layer with
// few nonzeros threads take parts of the images, whose sums are added in the end: all threads would read the
// whole of x otherwise. Of others, disjoint outputs, balanced by nonzeros. Either way no result depends on
// how many threads there are.
#include "ops/sparse_conv2d/sparse_conv2d.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "cpu/threads.h"
#include "ops/conv_choice.h"
#include "ops/conv_gather.h"
#include "ops/conv_images.h"
#include "ops/conv_kinds.h"
#include "ops/conv_model.h"
#include "ops/conv_pass.h"
#include "ops/sparse_conv2d/sparse_choice.h"
#include "ops/sparse_conv2d/sparse_lists.h"

namespace rp {
namespace {

constexpr int64_t kFewNonzeros = 64 << 10;  // of layers whose images are parted, at most

// Whether x outweighs the sums that adding up parts of the images costs. By the layer alone.
bool wgrad_suits_images(const Layout& x, int64_t nnz) {
  const int64_t inputs = x.channels * x.positions();
  return nnz <= kFewNonzeros && nnz <= inputs;
}

int64_t sums_that_fit() { return core_caches().l2_bytes * 5 / 8 / 4; }  // of nonzeros, in L2

void prefetch_span(const void* begin, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(static_cast<const char*>(begin) + at);
}

// Whether there are kernels that do both gradients.
bool has_dots(const SparseConvKernels& kernels) { return kernels.gather_dot(1, 1) != nullptr; }

struct RowCuts {
  RowCut above, below;
};

// Of a tile: `height` rows from `row` on, or the row of so many image blocks.
RowCuts row_cuts(const SparseList& list, const ConvPass& pass, const TileChoice& choice, int row,
                 int height) {
  if (list.kinds == 1) return {RowCut::none, RowCut::none};
  const RowCut cut = choice.across_blocks || height == 1 ? RowCut::all : RowCut::edge;
  const int last = choice.across_blocks ? row : row + height - 1;
  return {row == 0 ? cut : RowCut::none, last == pass.rows - 1 ? cut : RowCut::none};
}

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
        max_blocks_(options.max_blocks),
        scratch_(ConvScratch::of(team)),
        forward_(forward_pass(shape, layouts)),
        dy_(layouts.dy) {
    choices_.has_dgrad = layouts.has_dgrad;
    choices_.has_wgrad = layouts.has_wgrad;
    if (layouts.has_dgrad) {
      for (ConvPass& pass : dgrad_passes(shape, layouts)) dgrad_.emplace_back(std::move(pass));
    }
    if (!options.choice.empty()) {
      set_forward(mask, choice_of(options.choice, "forward"));
      if (layouts.has_wgrad) set_wgrad(choice_of(options.choice, "wgrad"));
      if (layouts.has_dgrad) set_dgrad(mask, choice_of(options.choice, "dgrad"));
    } else {
      choose(mask, layouts, options.max_blocks);
    }
    check_turns(choices_, layouts);
    scratch_->reserve(scratch_each(), common_bytes(), team);
  }

  std::unique_ptr<ConvWeights> make_weights() const override { return std::make_unique<SparseWeights>(nnz_); }

  void pack(const float* values, ConvWeights& weights, ThreadTeam& team) const override {
    float* stream = static_cast<SparseWeights&>(weights).values.data();
    for_each_weight(team, values, stream, [](float value, float& place) { place = value; });
  }

  // visit(packed[i], its place in the stream). Some outputs at a time, block by block: their part of a block
  // stands together in the list and the stream. None of it is in the caches, and pieces are too short for the
  // processor to fetch ahead: an output's next block is fetched with this one.
  template <class Packed, class Stream, class Visit>
  void for_each_weight(ThreadTeam& team, Packed* packed, Stream* stream, const Visit& visit) const {
    constexpr int kOutputs = 64;
    const auto fetch = [&](int block, int output, const Packed* from) {
      const int64_t bytes = int64_t{4} * list_.nonzeros(block, output);
      prefetch_span(from, bytes);
      prefetch_span(stream + list_.weights_of(block, output), bytes);
      if (!list_.is_packed())
        prefetch_span(list_.list.data() + list_.ends_of(block)[list_.row_of(output)], bytes);
    };
    team.parallel_range(
        (shape_.out_channels + kOutputs - 1) / kOutputs, [&](int64_t begin, int64_t end, int) {
          for (int64_t i = begin; i < end; i++) {
            const int first = static_cast<int>(i) * kOutputs;
            const int count = std::min(kOutputs, shape_.out_channels - first);
            Packed* from[kOutputs];
            for (int o = 0; o < count; o++) {
              from[o] = packed + row_starts_[first + o];
              fetch(0, first + o, from[o]);
            }
            for (int b = 0; b < list_.blocks; b++) {
              for (int o = 0; o < count; o++) {
                Packed* value = from[o];
                list_.for_each_packed(b, first + o,
                                      [&](int32_t weight, int32_t) { visit(*value++, stream[weight]); });
                from[o] = value;
                if (b + 1 < list_.blocks) fetch(b + 1, first + o, value);
              }
            }
          }
        });
  }

  int64_t sum_rows(int blocks) const override { return forward_.tiling.items(blocks); }
  void forward(const float* x, const ConvWeights& weights, float* y, int blocks, bool add, ThreadTeam& team,
               const ConvSums* sums, const ConvCompanions& beside) const override {
    const float* values = static_cast<const SparseWeights&>(weights).values.data();
    gather({&forward_, 1, choices_.forward, list_.together, x, y, blocks, sums, beside}, &list_, values,
           add ? kAddToAll : kWriteAll, team);
  }

  void dgrad(const float* dy, const ConvWeights& weights, float* dx, int blocks, PhaseWrite write,
             ThreadTeam& team, const ConvCompanions& beside) const override {
    const float* values = dgrad_weights(weights, team);
    const int phases = static_cast<int>(dgrad_.size());
    gather({dgrad_.data(), phases, choices_.dgrad, together(choices_.dgrad), dy, dx, blocks, nullptr, beside},
           dgrad_lists_.data(), values, write, team);
  }

  void wgrad(const float* x, const float* dy, float* dw, int blocks, bool add,
             ThreadTeam& team) const override;
  bool one_backward_kernel() const override { return choices_.has_dgrad && choices_.dgrad.dots; }
  void backward(const ConvBackward&, const ConvWeights&, int blocks, ThreadTeam&) const override;

  int64_t index_bytes() const override {
    int64_t bytes = list_.bytes() + forward_.bytes() + wgrad_tiling_.bytes();
    bytes += 4 * static_cast<int64_t>(row_starts_.capacity() + dgrad_index_.capacity()) + fetch_x_.bytes() +
             fetch_dy_.bytes();
    for (const SparseList& list : dgrad_lists_) bytes += list.bytes();
    for (const GatherPhase& phase : dgrad_) bytes += phase.bytes();
    return bytes;
  }
  int64_t weights_bytes() const override { return 4 * nnz_; }
  int64_t scratch_bytes() const override { return scratch_each() * threads_ + common_bytes(); }
  std::string choice() const override { return choices_text(choices_); }
  std::string kernel() const override { return std::string("sparse_conv2d_") + isa_name(isa_); }

 private:
  // lists: one a phase, and each phase's values from its list's `first` on.
  void gather(const GatherRun& run, const SparseList* lists, const float* values, PhaseWrite write,
              ThreadTeam& team) const {
    run_gather(run, team, *scratch_, kernels_.stream_fence, [&](const GatherPlace& place) {
      const SparseList& list = lists[place.phase];
      const uint32_t out = output_flags(run, write, place.phase, list.empty());
      if (out == kNoOutput) return;
      const ConvPass& pass = run.phases[place.phase].pass;
      SparseGatherArgs args;
      args.x = place.x;
      args.x_row = place.x_row;
      args.y = place.y;
      args.y_row = place.y_row;
      args.y_col = place.y_col;
      args.y_channel = place.y_channel;
      const int row = list.row_of(place.output);
      args.ends = list.ends_of(place.channel_block) + row;
      args.splits = list.splits_of(place.channel_block) + int64_t{row} * 2;
      const RowCuts cuts = row_cuts(list, pass, run.choice, place.row, place.height);
      args.above = cuts.above;
      args.below = cuts.below;
      args.list = list.list.data();
      args.weights = values + list.first + list.weights_of(place.channel_block, place.output);
      args.partial = place.partial;
      args.next = place.next;
      args.next_count = place.next_count;
      args.sums = place.sums;
      args.outputs = place.outputs;
      args.flags = (place.first ? kFirstBlock : 0) | (place.last ? kLastBlock : 0) | out;
      if (run.dots == nullptr)
        return kernels_.gather(place.height, place.width, pass.x_step, list.together)(args);
      args.with = place.with;
      args.with_row = place.with_row;
      args.with_col = place.with_col;
      args.with_channel = place.with_channel;
      args.dots = dots_of(place.image_part) + list.first + list.weights_of(place.channel_block, place.output);
      kernels_.gather_dot(place.height, place.width)(args);
    });
  }

  // Dgrad's weights, in its lists' order: once a pass, while every list is walked once a tile.
  const float* dgrad_weights(const ConvWeights& weights, ThreadTeam& team) const {
    const float* stream = static_cast<const SparseWeights&>(weights).values.data();
    float* values = scratch_->common();
    team.parallel_range(dgrad_index_.size(), [&](int64_t begin, int64_t end, int) {
      for (int64_t j = begin; j < end; j++) values[j] = stream[dgrad_index_[j]];
    });
    return values;
  }

  int channels_of(const TileChoice& choice, int inputs) const {
    return std::min({choice.channels, inputs, most_channels(shape_.kernel_h * shape_.kernel_w)});
  }
  static int together(const TileChoice& choice) { return choice.pairs ? 2 : 1; }
  // Behind the outputs that are walked together with this one.
  int last_of(int output) const { return std::min(output + list_.together, shape_.out_channels); }

  // Outputs [begin, end) of channel blocks [from, to).
  struct ListRange {
    int begin, end, from, to;
    int64_t nonzeros(const SparseList& list, int block) const {
      return list.weights_of(block, end) - list.weights_of(block, begin);
    }
  };
  WgradRun whole_run(const float* x, const float* dy, float* dw, int blocks, bool add) const {
    const int64_t tiles = wgrad_tiling_.items(blocks);
    return {x, dy, forward_.pass.x, dy_, dw, blocks, add, 0, tiles};
  }
  void clear_sums(int64_t nonzeros, float* sums) const;
  void add_tiles(const WgradRun& run, const ListRange&, int member) const;
  void put_sums(const ListRange&, const float* sum, int32_t* cursors, const WgradRun& run) const;
  void wgrad_outputs(const WgradRun& run, int begin, int end, int member) const;
  void wgrad_range(const WgradRun& run, int begin, int end, int member) const;
  void wgrad_share(const WgradRun& run, int64_t share, int64_t shares, int member) const;

  // First output whose row starts at or after this share of the nonzeros.
  int output_of_share(int64_t index, int64_t count) const {
    const auto found = std::lower_bound(row_starts_.begin(), row_starts_.end() - 1, nnz_ * index / count);
    return static_cast<int>(found - row_starts_.begin()) / list_.together * list_.together;
  }
  bool by_images() const { return choices_.has_wgrad && wgrad_suits_images(forward_.pass.x, nnz_); }

  void set_forward(const MaskView& mask, TileChoice choice) {
    choice.channels = channels_of(choice, shape_.in_channels);
    choices_.forward = choice;
    forward_.cut(choice, has_gather(kernels_, forward_.pass.x_step, choice.pairs));
    list_ = forward_list(shape_, mask, forward_.pass, choice.channels, together(choice), &row_starts_);
  }

  void set_dgrad(const MaskView& mask, TileChoice choice) {
    choice.channels = channels_of(choice, shape_.out_channels);
    choices_.dgrad = choice;
    std::vector<const ConvPass*> passes;
    if (choice.dots && (!choices_.has_wgrad || !has_dots(kernels_))) {
      fail("[conv] choice \"dgrad=%s\": expected no w: this layer's wgrad cannot go with its dgrad.",
           tile_text(choice).c_str());
    }
    for (GatherPhase& phase : dgrad_) {
      phase.cut(choice, choice.dots ? has_gather_dot(kernels_) : has_gather(kernels_, 1, choice.pairs));
      passes.push_back(&phase.pass);
    }
    if (choice.dots) {
      ConvPass positions = pass_of_positions(forward_.pass.x);
      positions.x_step = shape_.stride;
      fetch_with_ = TileFetch(positions, choice, TileLines::not_read_before);
    }
    dgrad_lists_ = dgrad_lists(shape_, mask, passes, choice.channels, together(choice),
                               stream_order(list_, nnz_), &dgrad_index_);
  }

  void set_wgrad(TileChoice choice) {
    choice.channels = channels_of(choice, shape_.in_channels);
    if (choice.channels != list_.channels) {
      fail("[conv] choice \"wgrad=%s\": expected forward's channel block, %d.", tile_text(choice).c_str(),
           list_.channels);
    }
    choices_.wgrad = choice;
    fetch_x_ = TileFetch(forward_.pass, choice, lines_for_blocks(list_.blocks));
    fetch_dy_ = TileFetch(pass_of_positions(dy_), choice, TileLines::not_read_before);
    wgrad_tiling_ =
        Tiling(forward_.pass.rows, forward_.pass.cols, choice, has_wgrad(kernels_, forward_.pass.x_step));
    longest_ = 0;
    for (int b = 0; b < list_.blocks; b++) {
      for (int o = 0; o < list_.outputs; o += list_.together)
        longest_ = std::max(longest_, list_.weights_of(b, last_of(o)) - list_.weights_of(b, o));
    }
    // All images pass over a group of outputs × channels, so a tile streams outputs · positions lines of dy
    // and channels · lines of x, while outputs · channels is bound by the sums held: least when the two are
    // equal.
    const double per_pair =
        std::max(1e-6, static_cast<double>(nnz_) / shape_.out_channels / shape_.in_channels);
    const double halo = static_cast<double>(lines_of(forward_.pass, choice)) / (choice.height * choice.width);
    const double pairs = static_cast<double>(sums_capacity()) / per_pair;
    const double balanced = std::sqrt(pairs * halo);
    wgrad_outputs_ = static_cast<int>(std::clamp(balanced, 16.0, 1e6));
  }

  void choose(const MaskView&, const ConvLayouts&, int blocks);

  int64_t sums_capacity() const { return std::max<int64_t>(sums_that_fit(), longest_); }
  int64_t sums_floats() const { return std::min(sums_capacity(), nnz_) + kSumsPadding; }

  // Of a part of the images, in the order of dgrad's lists.
  float* dots_of(int64_t part) const { return image_sums() + part * nnz_; }
  int64_t dot_parts() const { return image_parts(max_blocks_); }  // at most
  void backward_with_dots(const ConvBackward&, const ConvWeights&, int blocks, ThreadTeam&) const;

  // Scratch, in floats. Of all threads: dgrad's values, then wgrad's sums of parts of the images. Of each:
  // partial sums of a gather, then the sums of wgrad, which may run beside it.
  int64_t dgrad_values() const { return choices_.has_dgrad ? (nnz_ + 15) / 16 * 16 : 0; }
  float* image_sums() const { return scratch_->common() + dgrad_values(); }
  int64_t common_bytes() const {
    const int64_t parts = choices_.dgrad.dots ? dot_parts() : by_images() ? kImageParts : 0;
    return (4 * (dgrad_values() + parts * nnz_) + 63) / 64 * 64;
  }
  int64_t partial_floats() const {
    int64_t bytes = forward_.scratch(choices_.forward);
    for (const GatherPhase& phase : dgrad_) bytes = std::max(bytes, phase.scratch(choices_.dgrad));
    return (bytes + 63) / 64 * 16;
  }
  float* wgrad_lanes(int member) const { return scratch_->member(member) + partial_floats(); }
  int64_t lanes_floats() const {
    return (int64_t{longest_ + kSumsPadding} * kernels_.lane_sums + 15) / 16 * 16;
  }
  float* wgrad_sums(int member) const { return wgrad_lanes(member) + lanes_floats(); }
  int64_t scratch_each() const {
    const int64_t sums = choices_.has_wgrad ? lanes_floats() + sums_floats() + shape_.out_channels : 0;
    return (4 * (partial_floats() + sums) + 63) / 64 * 64;
  }

  ConvShape shape_;
  int64_t nnz_;
  Isa isa_;
  const SparseConvKernels& kernels_;
  int threads_, max_blocks_;
  std::shared_ptr<ConvScratch> scratch_;
  GatherPhase forward_;
  std::vector<GatherPhase> dgrad_;
  Layout dy_;
  ConvChoices choices_;
  SparseList list_;
  std::vector<int32_t> row_starts_;      // out_channels + 1, packed order
  std::vector<SparseList> dgrad_lists_;  // one a phase
  std::vector<int32_t> dgrad_index_;     // of their nonzeros, the place in the forward list
  Tiling wgrad_tiling_;
  TileFetch fetch_x_, fetch_dy_;  // of wgrad
  TileFetch fetch_with_;          // of dgrad that wgrad goes with: x
  int32_t longest_ = 0;           // nonzeros of one output in one block, at most
  int wgrad_outputs_ = 1;         // outputs whose sums are held together
};

void SparseConv::wgrad(const float* x, const float* dy, float* dw, int blocks, bool add,
                       ThreadTeam& team) const {
  const WgradRun run = whole_run(x, dy, dw, blocks, add);
  if (!by_images()) {
    team.parallel([&](int member) { wgrad_share(run, member, team.size(), member); });
    return;
  }
  const int64_t shares = sharing_threads(team.size());
  wgrad_by_images(
      run, wgrad_tiling_.groups(blocks), nnz_, shares, image_sums(), team,
      [&](const WgradRun& images, int64_t share, int member) { wgrad_share(images, share, shares, member); });
}

// Of the outputs, by nonzeros.
void SparseConv::wgrad_share(const WgradRun& run, int64_t share, int64_t shares, int member) const {
  const int begin = share == 0 ? 0 : output_of_share(share, shares);
  const int end = share + 1 == shares ? shape_.out_channels : output_of_share(share + 1, shares);
  wgrad_range(run, begin, end, member);
}

// Outputs [begin, end), as many at a time as suits the caches.
void SparseConv::wgrad_range(const WgradRun& run, int begin, int end, int member) const {
  while (begin < end) {
    // The sums of any one channel block must fit; beyond that, few enough outputs to balance traffic.
    int to = last_of(begin);
    const auto fits = [&](int outputs_end) {
      for (int b = 0; b < list_.blocks; b++) {
        if (list_.weights_of(b, outputs_end) - list_.weights_of(b, begin) > sums_capacity()) return false;
      }
      return true;
    };
    while (to < end && to - begin < wgrad_outputs_ && fits(last_of(to))) to = last_of(to);
    wgrad_outputs(run, begin, to, member);
    begin = to;
  }
}

// Outputs [begin, end), channel blocks in groups whose sums fit.
void SparseConv::wgrad_outputs(const WgradRun& run, int begin, int end, int member) const {
  float* sums = wgrad_sums(member);
  int32_t* cursors = reinterpret_cast<int32_t*>(sums + sums_floats());
  std::copy(row_starts_.begin() + begin, row_starts_.begin() + end, cursors);
  for (int from = 0; from < list_.blocks;) {
    ListRange range = {begin, end, from, from};
    int64_t held = 0;
    while (range.to < list_.blocks &&
           (range.to == from || held + range.nonzeros(list_, range.to) <= sums_capacity()))
      held += range.nonzeros(list_, range.to++);
    clear_sums(held, sums);
    add_tiles(run, range, member);
    put_sums(range, sums, cursors, run);
    from = range.to;
  }
}

void SparseConv::clear_sums(int64_t nonzeros, float* sums) const {
  std::memset(sums, 0, (nonzeros + kSumsPadding) * sizeof(float));
}

void SparseConv::add_tiles(const WgradRun& run, const ListRange& range, int member) const {
  float* const sums = wgrad_sums(member);
  const Layout &lx = run.x_layout, &ly = run.dy_layout;
  const int x_step = forward_.pass.x_step, outputs = range.end - range.begin;
  const bool across = choices_.wgrad.across_blocks;
  for (int64_t i = run.first; i < run.last; i++) {
    const TileItem tile = wgrad_tiling_.item(i, run.blocks);
    const int64_t next_item = i + tile.of_rows - tile.in_rows;
    const bool fetches = run.fetch && choices_.wgrad.prefetch && next_item < run.last;
    const TileItem next = fetches ? wgrad_tiling_.item(next_item, run.blocks) : tile;
    const SparseWgrad kernel = kernels_.wgrad(tile.height, tile.width, x_step, list_.together);
    SparseWgradArgs args{};
    args.x_row = 4 * (across ? lx.block_stride : lx.row_stride * x_step);
    args.dy = reinterpret_cast<const char*>(run.dy + ly.at(tile.block, range.begin, tile.row, tile.col));
    args.dy_row = 4 * (across ? ly.block_stride : ly.row_stride);
    args.dy_channel = ly.channel_stride * 4;
    args.list = list_.list.data();
    const RowCuts cuts = row_cuts(list_, forward_.pass, choices_.wgrad, tile.row, tile.height);
    args.above = cuts.above;
    args.below = cuts.below;
    args.outputs = outputs;
    args.sums = sums;
    args.lanes = wgrad_lanes(member);
    const float* const x =
        run.x + lx.at(tile.block, 0, int64_t{tile.row} * x_step, int64_t{tile.col} * x_step);
    const ChannelBlocks channels = {range.from * list_.channels,
                                    std::min(range.to * list_.channels, shape_.in_channels), list_.channels};
    for (int b = range.from; b < range.to; b++) {
      const int channel = b * list_.channels;
      args.x = reinterpret_cast<const char*>(x + channel * lx.channel_stride);
      args.ends = list_.ends_of(b) + list_.row_of(range.begin);
      args.splits = list_.splits_of(b) + int64_t{list_.row_of(range.begin)} * 2;
      args.next[0] = args.next[1] = {};
      if (fetches && choices_.wgrad.by_rows) {
        const int64_t blocks = range.to - range.from, step = tile.in_rows * blocks + b - range.from;
        const int64_t steps = tile.of_rows * blocks;
        args.next[0] = fetch_x_.row_lines(run.x, &tile, next, channels.begin, channels.end - channels.begin,
                                          step, steps);
        args.next[1] = fetch_dy_.row_lines(run.dy, &tile, next, range.begin, outputs, step, steps);
      } else if (run.fetch && choices_.wgrad.prefetch) {
        args.next[0] =
            fetch_x_.next_call(run.x, channels, channel, tile, fetch_x_, fetches ? &next : nullptr);
        if (fetches) {
          args.next[1] =
              fetch_dy_.tile_share(run.dy, next, range.begin, outputs, b - range.from, range.to - range.from);
        }
      }
      const int64_t of_tile = range.to - range.from;
      fetch_for_next(run, (i - run.first) * of_tile + b - range.from, (run.last - run.first) * of_tile,
                     args.next);
      kernel(args);
      args.sums += range.nonzeros(list_, b);
    }
  }
}

// cursors: where each output's next gradient belongs, moved on.
void SparseConv::put_sums(const ListRange& range, const float* sum, int32_t* cursors,
                          const WgradRun& run) const {
  for (int b = range.from; b < range.to; b++) {
    for (int o = range.begin; o < range.end; o++) {
      float* out = run.dw + cursors[o - range.begin];
      list_.for_each_packed(b, o, [&](int32_t, int32_t nth) {
        *out = run.add ? *out + sum[nth] : sum[nth];
        out++;
      });
      const int32_t count = list_.nonzeros(b, o);
      cursors[o - range.begin] += count;
      sum += count;
    }
  }
}

// Parts are added in order and put where their nonzeros stand in the stream, in place of dgrad's weights; and
// from there where they stand in the packed order.
void SparseConv::backward_with_dots(const ConvBackward& run, const ConvWeights& weights, int blocks,
                                    ThreadTeam& team) const {
  const auto begin = [&](int64_t part, int output, int end) {
    for (const SparseList& list : dgrad_lists_) {
      for (int b = 0; b < list.blocks; b++) {
        const int32_t from = list.weights_of(b, output);
        std::fill_n(dots_of(part) + list.first + from, list.weights_of(b, end) - from, 0.0f);
      }
    }
  };
  const GatherDots dots = {run.x, forward_.pass.x, run.makes_x, run.made_x, fetch_with_, begin};
  const int phases = static_cast<int>(dgrad_.size());
  gather({dgrad_.data(), phases, choices_.dgrad, 1, run.dy, run.dx, blocks, nullptr, run.beside, &dots},
         dgrad_lists_.data(), dgrad_weights(weights, team), run.write_dx, team);
  const int64_t parts = image_parts(dgrad_.front().tiling.groups(blocks)), kept = dgrad_index_.size();
  float* const stream = scratch_->common();
  if (kept < nnz_) std::fill_n(stream, nnz_, 0.0f);
  team.parallel_range(kept, [&](int64_t from, int64_t to, int) {
    for (int64_t j = from; j < to; j++) {
      float sum = 0;
      for (int64_t part = 0; part < parts; part++) sum += dots_of(part)[j];
      stream[dgrad_index_[j]] = sum;
    }
  });
  for_each_weight(team, run.dw, stream,
                  [&](float& packed, float sum) { packed = run.add_dw ? packed + sum : sum; });
}

void SparseConv::backward(const ConvBackward& run, const ConvWeights& weights, int blocks,
                          ThreadTeam& team) const {
  if (choices_.dgrad.dots) return backward_with_dots(run, weights, blocks, team);
  if (run.beside.input == nullptr) return backward_apart(*this, run, weights, blocks, team);
  const ListRange all = {0, shape_.out_channels, 0, list_.blocks};
  const auto clear = [&](int member) { clear_sums(nnz_, wgrad_sums(member)); };
  const auto walk = [&](const WgradRun& tiles, int member) { add_tiles(tiles, all, member); };
  const auto put = [&](const WgradRun& tiles, int member) {
    float* sums = wgrad_sums(member);
    int32_t* cursors = reinterpret_cast<int32_t*>(sums + sums_floats());
    std::copy(row_starts_.begin(), row_starts_.end() - 1, cursors);
    put_sums(all, sums, cursors, tiles);
  };
  const WgradBeside wgrad(run, wgrad_tiling_, forward_.pass.x, forward_.pass.x_step,
                          fetch_x_.reach().last + 1, dy_, blocks, nnz_, image_sums(), clear, walk, put);
  wgrad.run_with_dgrad(*this, weights, team);
}

// By the cost model; both gradients by one kernel where there is one.
void SparseConv::choose(const MaskView& mask, const ConvLayouts& layouts, int blocks) {
  const auto first = [&](ConvPassKind pass, int channels) {
    return sparse_candidates(pass, shape_, mask, layouts, isa_, blocks, channels).front();
  };
  set_forward(mask, first(ConvPassKind::forward, 0));
  if (choices_.has_wgrad) set_wgrad(first(ConvPassKind::wgrad, list_.channels));
  const bool one_kernel = choices_.has_wgrad && has_dots(kernels_);
  if (choices_.has_dgrad)
    set_dgrad(mask, first(one_kernel ? ConvPassKind::backward : ConvPassKind::dgrad, 0));
}

}  // namespace

std::unique_ptr<ConvLayer> make_sparse_conv(const ConvShape& shape, const MaskView& mask,
                                            const ConvLayouts& layouts, const ConvOptions& options, Isa isa,
                                            ThreadTeam& team) {
  return std::make_unique<SparseConv>(shape, mask, layouts, options, isa, team);
}

bool sparse_wgrad_goes_beside(const Layout& x, int64_t nnz) {
  return wgrad_suits_images(x, nnz) && nnz <= sums_that_fit();
}

std::vector<TileChoice> sparse_candidates(ConvPassKind kind, const ConvShape& shape, const MaskView& mask,
                                          const ConvLayouts& layouts, Isa isa, int blocks, int channels) {
  const SparseConvKernels& kernels = sparse_conv_kernels(isa);
  if (kind == ConvPassKind::dgrad || kind == ConvPassKind::backward) {
    const std::vector<ConvPass> passes = dgrad_passes(shape, layouts);
    if (kind == ConvPassKind::backward && !has_dots(kernels)) return {};
    const ConvPass& pass = main_pass(passes);
    const int64_t taps = int64_t{shape.kernel_h} * shape.kernel_w;
    const int64_t nnz = mask.nnz * static_cast<int64_t>(pass.taps.size()) / taps;
    return kind == ConvPassKind::dgrad ? gather_choices(pass, nnz, kernels, blocks)
                                       : gather_dot_choices(pass, nnz, kernels, blocks);
  }
  const ConvPass pass = forward_pass(shape, layouts);
  return kind == ConvPassKind::forward
             ? gather_choices(pass, mask.nnz, kernels, blocks)
             : wgrad_choices(pass, mask.nnz, has_wgrad(kernels, pass.x_step), blocks, channels);
}

}  // namespace rp
