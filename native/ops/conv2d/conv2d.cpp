// conv2d: a ConvLayer that keeps every weight. Forward and dgrad walk tiles like the sparse layer
// (conv_gather.h). Wgrad cuts outputs × (channel, tap) into parts whose sums fit L2 and lets all images pass
// over a part; every sum adds the same terms in the same order however the parts are cut.
#include "ops/conv2d/conv2d.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cpu/threads.h"
#include "ops/conv2d/dense_choice.h"
#include "ops/conv2d/dense_taps.h"
#include "ops/conv_choice.h"
#include "ops/conv_gather.h"
#include "ops/conv_images.h"
#include "ops/conv_kinds.h"

namespace rp {
namespace {

constexpr int64_t kFewestSums = 512;        // a part is not cut smaller than this to even out threads,
constexpr int64_t kFewestOfThread = 64;     // nor than this to give each thread one
constexpr int64_t kFewWeights = 128 << 10;  // of layers whose images are parted, at most

// Whether x outweighs the sums that adding up parts of the images costs. By the layer alone.
bool wgrad_suits_images(const ConvShape& shape) {
  const int64_t inputs = int64_t{shape.in_channels} * shape.in_height * shape.in_width;
  return shape.numel() <= kFewWeights && shape.numel() <= 2 * inputs;
}

bool sums_fit(int64_t weights) { return 4 * weights <= core_caches().l2_bytes / 2; }

class DenseWeights final : public ConvWeights {
 public:
  DenseWeights(int64_t forward_count, int64_t dgrad_count) : forward(forward_count), dgrad(dgrad_count) {}
  std::vector<float> forward;  // dense_taps.h
  std::vector<float> dgrad;    // one phase after another
};

class DenseConv final : public ConvLayer {
 public:
  DenseConv(const ConvShape& shape, const ConvLayouts& layouts, const ConvOptions& options, Isa isa,
            ThreadTeam& team)
      : shape_(shape),
        taps_(shape.kernel_h * shape.kernel_w),
        numel_(shape.numel()),
        isa_(isa),
        kernels_(dense_conv_kernels(isa)),
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
      set_forward(choice_of(options.choice, "forward"));
      if (layouts.has_wgrad) set_wgrad(choice_of(options.choice, "wgrad"));
      if (layouts.has_dgrad) set_dgrad(choice_of(options.choice, "dgrad"));
    } else {
      choose(layouts);
    }
    check_turns(choices_, layouts);
    scratch_->reserve(scratch_each(), common_bytes(), team);
  }

  std::unique_ptr<ConvWeights> make_weights() const override {
    return std::make_unique<DenseWeights>(numel_, choices_.has_dgrad ? numel_ : 0);
  }

  void pack(const float* values, ConvWeights& weights, ThreadTeam& team) const override;

  int64_t sum_rows(int blocks) const override { return forward_.tiling.items(blocks); }
  void forward(const float* x, const ConvWeights& weights, float* y, int blocks, bool add, ThreadTeam& team,
               const ConvSums* sums, const ConvCompanions& beside) const override {
    const float* values = static_cast<const DenseWeights&>(weights).forward.data();
    const int outputs = dense_output_group(kernels_, choices_.forward);
    gather({&forward_, 1, choices_.forward, outputs, x, y, blocks, sums, beside}, forward_taps_, values,
           add ? kAddToAll : kWriteAll, team);
  }

  void dgrad(const float* dy, const ConvWeights& weights, float* dx, int blocks, PhaseWrite write,
             ThreadTeam& team, const ConvCompanions& beside) const override {
    const float* values = static_cast<const DenseWeights&>(weights).dgrad.data();
    const int phases = static_cast<int>(dgrad_.size());
    const int outputs = dense_output_group(kernels_, choices_.dgrad);
    gather({dgrad_.data(), phases, choices_.dgrad, outputs, dy, dx, blocks, nullptr, beside}, dgrad_taps_,
           values, write, team);
  }

  void wgrad(const float* x, const float* dy, float* dw, int blocks, bool add,
             ThreadTeam& team) const override;
  bool one_backward_kernel() const override { return false; }
  void backward(const ConvBackward&, const ConvWeights&, int blocks, ThreadTeam&) const override;

  int64_t index_bytes() const override {
    int64_t bytes = forward_.bytes() + wgrad_tiling_.bytes() +
                    4 * static_cast<int64_t>(offsets_.capacity() + places_.capacity()) + fetch_x_.bytes() +
                    fetch_dy_.bytes() + static_cast<int64_t>(reaches_.capacity() * sizeof(TapReach)) +
                    static_cast<int64_t>(groups_.capacity() * sizeof(TapGroup));
    for (const DenseTaps& taps : forward_taps_) bytes += taps.bytes();
    for (const DenseTaps& taps : dgrad_taps_) bytes += taps.bytes();
    for (const GatherPhase& phase : dgrad_) bytes += phase.bytes();
    return bytes;
  }
  int64_t weights_bytes() const override { return 4 * numel_ * (choices_.has_dgrad ? 2 : 1); }
  int64_t scratch_bytes() const override { return scratch_each() * threads_ + common_bytes(); }
  std::string choice() const override { return choices_text(choices_); }
  std::string kernel() const override { return std::string("conv2d_") + isa_name(isa_); }

 private:
  int64_t phase_weights(const GatherPhase& phase) const {
    return static_cast<int64_t>(phase.pass.taps.size()) * shape_.in_channels * shape_.out_channels;
  }

  // taps_of_phases: one a phase, and the weights of one phase after another.
  void gather(const GatherRun& run, const std::vector<DenseTaps>& taps_of_phases, const float* weights,
              PhaseWrite write, ThreadTeam& team) const {
    run_gather(run, team, *scratch_, kernels_.stream_fence, [&](const GatherPlace& place) {
      const ConvPass& pass = run.phases[place.phase].pass;
      const uint32_t out = output_flags(run, write, place.phase, pass.taps.empty());
      if (out == kNoOutput) return;
      const DenseTaps& taps = taps_of_phases[place.phase];
      DenseGatherArgs args;
      taps.fill(place, &args);
      args.x = place.x;
      args.x_row = place.x_row;
      args.y = place.y;
      args.y_row = place.y_row;
      args.y_col = place.y_col;
      args.y_channel = place.y_channel;
      args.weights = weights + taps.weights_begin(place.channel_block) +
                     place.output * taps.k_count(place.channel_block);
      args.partial = place.partial;
      args.next = place.next;
      args.next_count = place.next_count;
      args.sums = place.sums;
      args.outputs = place.outputs;
      args.flags = (place.first ? kFirstBlock : 0) | (place.last ? kLastBlock : 0) | out;
      kernels_.gather(place.height, place.width, pass.x_step, run.output_group)(args);
    });
  }

  static void check_tile(const TileChoice& choice) {
    if (!choice.pairs) return;
    fail("[conv] choice \"%s\": expected a tile of the dense kernels, which know no pairs (t).",
         tile_text(choice).c_str());
  }

  void set_forward(TileChoice choice) {
    check_tile(choice);
    choice.channels = std::min(choice.channels, shape_.in_channels);
    choices_.forward = choice;
    forward_.cut(choice, has_dense_gather(kernels_, forward_.pass.x_step));
    forward_taps_.clear();
    forward_taps_.emplace_back(forward_, choice, max_blocks_, 0);
  }

  void set_dgrad(TileChoice choice) {
    check_tile(choice);
    choice.channels = std::min(choice.channels, shape_.out_channels);
    choices_.dgrad = choice;
    dgrad_taps_.clear();
    int64_t weights = 0;
    for (GatherPhase& phase : dgrad_) {
      phase.cut(choice, has_dense_gather(kernels_, 1));
      dgrad_taps_.emplace_back(phase, choice, max_blocks_, weights);
      weights += phase_weights(phase);
    }
  }

  void set_wgrad(const TileChoice& choice) {
    check_tile(choice);
    choices_.wgrad = choice;
    wgrad_tiling_ = Tiling(forward_.pass.rows, forward_.pass.cols, choice, has_dense_wgrad);
    fetch_x_ = TileFetch(forward_.pass, choice, TileLines::not_read_before);
    fetch_dy_ = TileFetch(pass_of_positions(dy_), choice, TileLines::not_read_before);
    offsets_.clear();
    places_.clear();
    groups_.clear();
    const auto put = [&](int c, int t) {
      const PassTap& tap = forward_.pass.taps[t];
      offsets_.push_back(
          static_cast<int32_t>(4 * (c * forward_.pass.x.channel_stride + tap.dr * forward_.pass.x.row_stride +
                                    int64_t{tap.ds} * kImagesPerBlock)));
      places_.push_back(c * taps_ + t);
    };
    tap_by_tap_ = wgrad_by_tap(forward_.pass, kernels_.tap_group);
    if (tap_by_tap_) {
      for (int c = 0, count; c < shape_.in_channels; c += count) {
        count = group_size(shape_.in_channels - c);
        for (int t = 0; t < taps_; t++) {
          groups_.push_back({static_cast<int32_t>(offsets_.size()), count, t});
          for (int i = 0; i < count; i++) put(c + i, t);
        }
      }
    } else {
      for (int c = 0; c < shape_.in_channels; c++) {
        for (int t = 0; t < taps_; t++) put(c, t);
      }
      const int pairs = static_cast<int>(offsets_.size());
      for (int k = 0; k < pairs; k += groups_.back().count) groups_.push_back({k, group_size(pairs - k), 0});
    }
    reaches_.clear();
    if (!tap_by_tap_) return;
    const int group = choice.across_blocks ? choice.height : 1;  // of image blocks
    for (int64_t t = 0; t < wgrad_tiling_.tiles(); t++) add_reaches(wgrad_tiling_.item(t, group));
  }

  // Of each tap, in a tile of wgrad.
  void add_reaches(const TileItem& tile) {
    const auto cut = [&](int tap, int position, int count, int extent, int* begin, int* end) {
      *begin = 0;
      *end = count;
      const auto outside = [&](int i) {
        const int at = (position + i) * forward_.pass.x_step + tap;
        return at < 0 || at >= extent;
      };
      while (*begin < *end && outside(*begin)) ++*begin;
      while (*end > *begin && outside(*end - 1)) --*end;
    };
    for (const PassTap& tap : forward_.pass.taps) {
      TapReach reach{};
      cut(tap.ds, tile.col, tile.width, forward_.pass.x.width, &reach.col_begin, &reach.col_end);
      if (choices_.wgrad.across_blocks) {
        int begin, end;
        cut(tap.dr, tile.row, 1, forward_.pass.x.height, &begin, &end);
        reach.row_end = begin < end ? tile.height : 0;
      } else {
        cut(tap.dr, tile.row, tile.height, forward_.pass.x.height, &reach.row_begin, &reach.row_end);
      }
      reaches_.push_back(reach);
    }
  }

  void choose(const ConvLayouts&);

  struct Parts {
    int outputs, taps;  // how many parts outputs and groups of (channel, tap) pairs are cut into
  };
  Parts wgrad_parts(int threads) const;
  struct WeightRange {
    int first_output, last_output, first_group, last_group;
    int outputs() const { return last_output - first_output; }
  };
  WeightRange weight_range(const Parts& parts, int64_t part) const;
  WgradRun whole_run(const float* x, const float* dy, float* dw, int blocks, bool add) const {
    const int64_t tiles = wgrad_tiling_.items(blocks);
    return {x, dy, forward_.pass.x, dy_, dw, blocks, add, 0, tiles};
  }
  void wgrad_part(const WgradRun& run, const Parts& parts, int64_t part, int member) const;
  void clear_sums(const WeightRange&, float* sums) const;
  void add_tiles(const WgradRun& run, const WeightRange&, float* sums) const;
  void put_sums(const WeightRange&, const float* sums, float* dw, bool add) const;
  bool by_images() const { return choices_.has_wgrad && wgrad_suits_images(shape_); }
  // Of the (channel, tap) pairs left.
  int group_size(int left) const {
    int size = kernels_.tap_group;
    if (left < size) {
      for (size = 1; 2 * size <= left;) size *= 2;
    }
    return size;
  }
  // Where pairs of a group begin; of the one behind the last: where they end.
  int pairs_begin(int group) const {
    return group < tap_groups() ? groups_[group].first : static_cast<int>(offsets_.size());
  }
  int pairs(const WeightRange& range) const {
    return pairs_begin(range.last_group) - pairs_begin(range.first_group);
  }
  int output_group() const { return kWgradVectors * kernels_.lanes; }
  int output_groups() const { return (shape_.out_channels + output_group() - 1) / output_group(); }
  int tap_groups() const { return static_cast<int>(groups_.size()); }
  // Outputs in whole vectors.
  int64_t whole(int64_t outputs) const {
    return (outputs + kernels_.lanes - 1) / kernels_.lanes * kernels_.lanes;
  }
  // Of the largest part: its outputs, and its sums.
  int64_t outputs_of(const Parts& parts) const {
    const int64_t outputs = (output_groups() + parts.outputs - 1) / parts.outputs * int64_t{output_group()};
    return whole(std::min<int64_t>(outputs, shape_.out_channels));
  }
  int64_t sums_of(const Parts& parts) const {
    const int64_t taps = (tap_groups() + parts.taps - 1) / parts.taps * int64_t{kernels_.tap_group};
    return outputs_of(parts) * std::min<int64_t>(taps, offsets_.size());
  }
  // What one thread needs for it, with the copy of a tile's dy.
  int64_t wgrad_floats(const Parts& parts) const {
    return sums_of(parts) + outputs_of(parts) * wgrad_tiling_.largest() * kImagesPerBlock;
  }

  int64_t common_bytes() const { return by_images() ? 4 * kImageParts * numel_ : 0; }
  // Of a thread: partial sums of a gather, then the sums of wgrad, which may run beside it.
  int64_t partial_floats() const {
    int64_t bytes = forward_.scratch(choices_.forward);
    for (const GatherPhase& phase : dgrad_) bytes = std::max(bytes, phase.scratch(choices_.dgrad));
    return (bytes + 63) / 64 * 16;
  }
  float* wgrad_sums(int member) const { return scratch_->member(member) + partial_floats(); }
  int64_t scratch_each() const {
    int64_t wgrad = choices_.has_wgrad ? wgrad_floats(wgrad_parts(threads_)) : 0;
    if (by_images() && sums_fit(numel_)) wgrad = wgrad_floats({1, 1});
    return (4 * (partial_floats() + wgrad) + 63) / 64 * 64;
  }

  ConvShape shape_;
  int taps_;
  int64_t numel_;
  Isa isa_;
  const DenseConvKernels& kernels_;
  int threads_, max_blocks_;
  std::shared_ptr<ConvScratch> scratch_;
  GatherPhase forward_;
  std::vector<GatherPhase> dgrad_;
  Layout dy_;
  ConvChoices choices_;
  Tiling wgrad_tiling_;
  TileFetch fetch_x_, fetch_dy_;         // of wgrad
  std::vector<DenseTaps> forward_taps_;  // one; empty only while choosing
  std::vector<DenseTaps> dgrad_taps_;    // one a phase
  std::vector<int32_t> offsets_;         // of wgrad: in_channels · taps byte offsets
  std::vector<int32_t> places_;          // of each in a row of the weights
  std::vector<TapGroup> groups_;         // of these, in order
  bool tap_by_tap_ = false;
  std::vector<TapReach> reaches_;  // tap by tap: of each tile's taps
};

void DenseConv::pack(const float* values, ConvWeights& weights, ThreadTeam& team) const {
  DenseWeights& packed = static_cast<DenseWeights&>(weights);
  const int64_t row = int64_t{shape_.in_channels} * taps_;  // weights of one output channel
  const auto pack_pass = [&](const ConvPass& pass, const TileChoice& choice, const DenseTaps& taps, float* to,
                             int64_t output_stride, int64_t input_stride) {
    const int most = dense_output_group(kernels_, choice);
    const int groups = (pass.outputs() + most - 1) / most;
    team.parallel_range(groups, [&](int64_t begin, int64_t end, int) {
      for (int b = 0; b < taps.blocks(); b++) {
        const int channels = taps.channels_of(b);
        for (int g = static_cast<int>(begin); g < end; g++) {
          const int first = group_begin(g, pass.outputs(), most);
          const int size = group_begin(g + 1, pass.outputs(), most) - first;
          const float* from = values + first * output_stride + b * int64_t{taps.channels()} * input_stride;
          float* out = to + taps.weights_begin(b) + first * taps.k_count(b);
          const auto pack_group = [&](auto outputs) {
            for (const PassTap& tap : pass.taps) {
              const float* value = from + tap.index;
              for (int c = 0; c < channels; c++, value += input_stride) {
                for (int o = 0; o < outputs; o++) *out++ = value[o * output_stride];
              }
            }
          };
          if (size == kOutputGroup) {
            pack_group(std::integral_constant<int, kOutputGroup>());
          } else if (size == kWideOutputGroup) {
            pack_group(std::integral_constant<int, kWideOutputGroup>());
          } else {
            pack_group(size);
          }
        }
      }
    });
  };
  pack_pass(forward_.pass, choices_.forward, forward_taps_.front(), packed.forward.data(), row, taps_);
  for (size_t p = 0; p < dgrad_.size(); p++)
    pack_pass(dgrad_[p].pass, choices_.dgrad, dgrad_taps_[p], packed.dgrad.data(), taps_, row);
}

DenseConv::Parts DenseConv::wgrad_parts(int threads) const {
  if (by_images()) threads = sharing_threads(threads);
  Parts parts{1, 1};
  // Partial sums stay in L2.
  const auto too_big = [&] { return !sums_fit(sums_of(parts)); };
  const auto too_few = [&] {
    const int count = parts.outputs * parts.taps;
    return threads > 1 && count < 4 * threads &&
           sums_of(parts) >= 2 * (count < threads ? kFewestOfThread : kFewestSums);
  };
  while (too_big() || too_few()) {
    const bool can_cut_outputs = parts.outputs < output_groups(), can_cut_taps = parts.taps < tap_groups();
    if (!can_cut_outputs && !can_cut_taps) break;
    // Halve what costs more to stream: lines of dy, or of x.
    const bool outputs = can_cut_outputs && (!can_cut_taps || shape_.out_channels / parts.outputs >=
                                                                  shape_.in_channels / parts.taps);
    if (outputs) {
      parts.outputs = std::min(2 * parts.outputs, output_groups());
    } else {
      parts.taps = std::min(2 * parts.taps, tap_groups());
    }
  }
  return parts;
}

// Sums of calls of the kernel to the weights' places in dw.
void DenseConv::put_sums(const WeightRange& range, const float* sums, float* dw, bool add) const {
  constexpr int kTogether = 16;  // pairs, whose sums of a few outputs stay in L1
  const int64_t row = static_cast<int64_t>(places_.size());
  const int count = pairs(range);
  const int32_t* const places = places_.data() + pairs_begin(range.first_group);
  for (int o = 0; o < range.outputs(); o += output_group()) {
    const int outputs = std::min(range.outputs() - o, output_group());
    const int64_t stride = whole(outputs);
    for (int first = 0; first < count; first += kTogether) {
      const int last = std::min(first + kTogether, count);
      for (int i = 0; i < outputs; i++) {
        float* const to = dw + (range.first_output + o + i) * row;
        for (int k = first; k < last; k++) {
          float& out = to[places[k]];
          const float sum = sums[k * stride + i];
          out = add ? out + sum : sum;
        }
      }
    }
    sums += stride * count;
  }
}

void DenseConv::wgrad(const float* x, const float* dy, float* dw, int blocks, bool add,
                      ThreadTeam& team) const {
  const WgradRun run = whole_run(x, dy, dw, blocks, add);
  const Parts parts = wgrad_parts(team.size());
  const int64_t count = int64_t{parts.outputs} * parts.taps;
  if (by_images()) {
    wgrad_by_images(
        run, wgrad_tiling_.groups(blocks), numel_, count, scratch_->common(), team,
        [&](const WgradRun& images, int64_t part, int member) { wgrad_part(images, parts, part, member); });
    return;
  }
  team.parallel_range(count, [&](int64_t begin, int64_t end, int member) {
    for (int64_t part = begin; part < end; part++) wgrad_part(run, parts, part, member);
  });
}

void DenseConv::wgrad_part(const WgradRun& run, const Parts& parts, int64_t part, int member) const {
  const WeightRange range = weight_range(parts, part);
  float* sums = wgrad_sums(member);
  clear_sums(range, sums);
  add_tiles(run, range, sums);
  put_sums(range, sums, run.dw, run.add);
}

DenseConv::WeightRange DenseConv::weight_range(const Parts& parts, int64_t part) const {
  const auto cut = [](int64_t groups, int64_t index, int64_t count) {
    return static_cast<int>(groups * index / count);
  };
  const int64_t i = part / parts.taps, j = part % parts.taps;
  const auto output = [&](int64_t index) {
    return std::min(cut(output_groups(), index, parts.outputs) * output_group(), shape_.out_channels);
  };
  return {output(i), output(i + 1), cut(tap_groups(), j, parts.taps), cut(tap_groups(), j + 1, parts.taps)};
}

void DenseConv::clear_sums(const WeightRange& range, float* sums) const {
  std::memset(sums, 0, pairs(range) * whole(range.outputs()) * sizeof(float));
}

void DenseConv::add_tiles(const WgradRun& run, const WeightRange& range, float* sums) const {
  const Layout &lx = run.x_layout, &ly = run.dy_layout;
  const int x_step = forward_.pass.x_step;
  const bool across = choices_.wgrad.across_blocks, by_rows = choices_.wgrad.by_rows;
  DenseWgradArgs args;
  args.x_row = 4 * (across ? lx.block_stride : lx.row_stride * x_step);
  args.x_col = int64_t{64} * x_step;
  args.dy_row = 4 * (across ? ly.block_stride : ly.row_stride);
  args.dy_channel = 4 * ly.channel_stride;
  args.offsets = offsets_.data();
  args.groups = groups_.data() + range.first_group;
  args.group_count = range.last_group - range.first_group;
  args.outputs = range.outputs();
  args.sums = sums;
  args.dy_images = sums + pairs(range) * whole(range.outputs());
  // The input channels that these pairs read: the first one's is the lowest, the highest is among the last.
  const int end = pairs_begin(range.last_group);
  const int c0 = places_[pairs_begin(range.first_group)] / taps_, c1 = places_[end - 1] / taps_ + 1;
  const int o0 = range.first_output, outputs = range.outputs();
  for (int64_t t = run.first; t < run.last; t++) {
    const TileItem tile = wgrad_tiling_.item(t, run.blocks);
    args.x = reinterpret_cast<const char*>(
        run.x + lx.at(tile.block, 0, int64_t{tile.row} * x_step, int64_t{tile.col} * x_step));
    args.dy = reinterpret_cast<const char*>(run.dy + ly.at(tile.block, o0, tile.row, tile.col));
    args.height = tile.height;
    args.width = tile.width;
    args.next[0] = args.next[1] = {};
    const int64_t next_item = t + tile.of_rows - tile.in_rows;
    if (run.fetch && choices_.wgrad.prefetch && next_item < run.last) {
      const TileItem next = wgrad_tiling_.item(next_item, run.blocks);
      if (by_rows) {
        args.next[0] = fetch_x_.row_lines(run.x, &tile, next, c0, c1 - c0, tile.in_rows, tile.of_rows);
        args.next[1] = fetch_dy_.row_lines(run.dy, &tile, next, o0, outputs, tile.in_rows, tile.of_rows);
      } else {
        args.next[0] = fetch_x_.tile(run.x, next, c0, c1 - c0);
        args.next[1] = fetch_dy_.tile(run.dy, next, o0, outputs);
      }
    }
    fetch_for_next(run, t - run.first, run.last - run.first, args.next);
    args.reach = tap_by_tap_ ? reaches_.data() + t % wgrad_tiling_.tiles() * taps_ : nullptr;
    kernels_.wgrad(args);
  }
}

void DenseConv::backward(const ConvBackward& run, const ConvWeights& weights, int blocks,
                         ThreadTeam& team) const {
  if (run.beside.input == nullptr) return backward_apart(*this, run, weights, blocks, team);
  const WeightRange all = weight_range({1, 1}, 0);
  const auto clear = [&](int member) { clear_sums(all, wgrad_sums(member)); };
  const auto walk = [&](const WgradRun& tiles, int member) { add_tiles(tiles, all, wgrad_sums(member)); };
  const auto put = [&](const WgradRun& tiles, int member) {
    put_sums(all, wgrad_sums(member), tiles.dw, false);
  };
  const WgradBeside wgrad(run, wgrad_tiling_, forward_.pass.x, forward_.pass.x_step,
                          fetch_x_.reach().last + 1, dy_, blocks, numel_, scratch_->common(), clear, walk,
                          put);
  wgrad.run_with_dgrad(*this, weights, team);
}

// By the cost model.
void DenseConv::choose(const ConvLayouts& layouts) {
  const auto first = [&](ConvPassKind pass) {
    return dense_candidates(pass, shape_, layouts, isa_, max_blocks_).front();
  };
  set_forward(first(ConvPassKind::forward));
  if (choices_.has_wgrad) set_wgrad(first(ConvPassKind::wgrad));
  if (choices_.has_dgrad) set_dgrad(first(ConvPassKind::dgrad));
}

}  // namespace

std::unique_ptr<ConvLayer> make_dense_conv(const ConvShape& shape, const ConvLayouts& layouts,
                                           const ConvOptions& options, Isa isa, ThreadTeam& team) {
  return std::make_unique<DenseConv>(shape, layouts, options, isa, team);
}

bool dense_wgrad_goes_beside(const ConvShape& shape) {
  return wgrad_suits_images(shape) && sums_fit(shape.numel()) &&
         shape.out_height() * shape.out_width() >= most_wgrad_positions();
}

std::vector<TileChoice> dense_candidates(ConvPassKind kind, const ConvShape& shape,
                                         const ConvLayouts& layouts, Isa isa, int blocks) {
  const DenseConvKernels& kernels = dense_conv_kernels(isa);
  if (kind == ConvPassKind::dgrad) {
    const std::vector<ConvPass> passes = dgrad_passes(shape, layouts);
    return dense_gather_choices(main_pass(passes), kernels, blocks);
  }
  const ConvPass pass = forward_pass(shape, layouts);
  return kind == ConvPassKind::forward ? dense_gather_choices(pass, kernels, blocks)
                                       : dense_wgrad_choices(pass, kernels.tap_group, blocks);
}

}  // namespace rp
